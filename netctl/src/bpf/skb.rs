//! The one program we run, at each tracepoint where packets pass: it copies a packet's first bytes and where it was,
//! if the namespace is one of ours and the probe's mark is in it. Knows nothing of probes beyond the mark.
//!
//! Sources: net/core/dev.c, net/core/skbuff.c (tracepoints), include/linux/skbuff.h (offsets of headers). Every
//! structure offset comes from the running kernel's BTF.

use super::{
    asm::{Assembler, Helper, Insn, R0, R1, R2, R3, R4, R6, R7, R8, R9, R10, Reg, Size},
    btf::{Btf, Error},
};

/// Bytes of a packet that are copied: an outer Ethernet, IPv6, UDP and VXLAN header, the same within, and the mark.
pub const SNAP: usize = 192;

/// Size of a record in the ring buffer.
pub const RECORD: usize = DATA + SNAP;

// Layout of a record.
const TIME: usize = 0;
const SKB: usize = 8;
const LOCATION: usize = 16;
const HEAD: usize = 24;
const PAYLOAD: usize = 32;
const START: usize = 40;
const NETNS: usize = 48;
const IFINDEX: usize = 52;
const REASON: usize = 56;
const LEN: usize = 60;
const LOST: usize = 64;
const KIND: usize = 68;
const PROTOCOL: usize = 72;
const MAC: usize = 74;
const NETWORK: usize = 76;
const IFNAME: usize = 80;
const DATA: usize = 96;

// The program's stack: a word for map keys, a double word for pointers that are being followed.
const KEY: i16 = -4;
const POINTER: i16 = -16;

/// A place where packets are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tracepoint {
    /// A device hands a packet up: `netif_receive_skb`.
    Receive,
    /// A packet is given to a device's driver: `net_dev_start_xmit`.
    Transmit,
    /// A packet is dropped: `kfree_skb`.
    Drop,
    /// A packet reached its end in good order: `consume_skb`.
    Consume,
}

impl Tracepoint {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Receive, Self::Transmit, Self::Drop, Self::Consume];

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receive => "netif_receive_skb",
            Self::Transmit => "net_dev_start_xmit",
            Self::Drop => "kfree_skb",
            Self::Consume => "consume_skb",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Receive => 0,
            Self::Transmit => 1,
            Self::Drop => 2,
            Self::Consume => 3,
        }
    }
}

/// The mark to look for: three bytes in a row at an even distance from the start of the packet.
pub type Mark = [u8; 3];

/// Maps that a program refers to, by descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// Set of namespace inode numbers to report; none reports all.
    pub namespaces: Option<i32>,
    /// Per-CPU array of one [`RECORD`], where a record is put together.
    pub scratch: i32,
    /// Ring buffer of records.
    pub ring: i32,
}

/// Offsets of the kernel's structures.
#[derive(Clone, Debug)]
pub struct Offsets {
    dev: i16,
    sk: i16,
    dst: i16,
    head: i16,
    data: i16,
    len: i16,
    protocol: i16,
    mac_header: i16,
    network_header: i16,
    dev_net: i16,
    dev_ifindex: i16,
    dev_name: i16,
    sk_net: i16,
    dst_dev: i16,
    net_inum: i16,
}

impl Offsets {
    /// Looks them up; an error names what this kernel lacks.
    pub fn find(btf: &Btf) -> Result<Self, Error> {
        let offset = |of: &str, member: &str| {
            i16::try_from(btf.offset(of, member)?)
                .map_err(|_| Error::Missing(format!("near member {member} of struct {of}")))
        };
        Ok(Self {
            dev: offset("sk_buff", "dev")?,
            sk: offset("sk_buff", "sk")?,
            dst: offset("sk_buff", "_skb_refdst")?,
            head: offset("sk_buff", "head")?,
            data: offset("sk_buff", "data")?,
            len: offset("sk_buff", "len")?,
            protocol: offset("sk_buff", "protocol")?,
            mac_header: offset("sk_buff", "mac_header")?,
            network_header: offset("sk_buff", "network_header")?,
            dev_net: offset("net_device", "nd_net.net")?,
            dev_ifindex: offset("net_device", "ifindex")?,
            dev_name: offset("net_device", "name")?,
            sk_net: offset("sock_common", "skc_net.net")?,
            dst_dev: offset("dst_entry", "dev")?,
            net_inum: offset("net", "ns.inum")?,
        })
    }
}

/// Which arguments of a tracepoint we read, by position.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    skb: i16,
    location: Option<i16>,
    reason: Option<i16>,
}

impl Arguments {
    /// Looks them up: kernels have added arguments over time.
    pub fn find(btf: &Btf, tracepoint: Tracepoint) -> Result<Self, Error> {
        let types = btf.tracepoint(tracepoint.name())?;
        let position = |name: &str| {
            types.iter().position(|of| of == name).and_then(|position| i16::try_from(position).ok())
        };
        let skb = position("sk_buff")
            .ok_or_else(|| Error::Missing(format!("packet in tracepoint {}", tracepoint.name())))?;
        // `void *location` is the only untyped argument.
        Ok(Self { skb, location: position(""), reason: position("skb_drop_reason") })
    }
}

/// The program for one tracepoint.
pub fn program(
    tracepoint: Tracepoint,
    arguments: Arguments,
    offsets: &Offsets,
    maps: Maps,
    mark: Option<Mark>,
) -> Vec<Insn> {
    let mut writer = Writer { asm: Assembler::default(), offsets, maps };
    writer.prepare(arguments);
    writer.find_namespace();
    writer.note(tracepoint, arguments);
    writer.copy_packet(tracepoint);
    if let Some(mark) = mark {
        writer.require_mark(mark);
    }
    writer.submit();
    writer.asm.finish()
}

/// R6 is the context, R7 the packet, R8 the device or socket, R9 the record.
struct Writer<'a> {
    asm: Assembler,
    offsets: &'a Offsets,
    maps: Maps,
}

impl Writer<'_> {
    fn prepare(&mut self, arguments: Arguments) {
        let asm = &mut self.asm;
        asm.mov(R6, R1);
        asm.load(Size::Double, R7, R6, 8 * arguments.skb);
        asm.store_imm(Size::Word, R10, KEY, 0);
        asm.map(R1, self.maps.scratch);
        asm.mov(R2, R10);
        asm.add_imm(R2, KEY.into());
        asm.call(Helper::MapLookup);
        asm.jump_eq(R0, 0, "out");
        asm.mov(R9, R0);
    }

    /// A packet belongs to its device's namespace, or its socket's, or its route's: on the way out of a socket there
    /// is no device yet, and a queued UDP packet has other data in the device's place.
    fn find_namespace(&mut self) {
        let Offsets { dev, sk, dst, dev_net, sk_net, dst_dev, dev_ifindex, dev_name, .. } = *self.offsets;
        self.follow(R7, dev, "socket");
        self.read_field(IFINDEX, 4, R8, dev_ifindex);
        self.read_field(IFNAME, 16, R8, dev_name);
        self.follow(R8, dev_net, "socket");
        self.require_namespace("found", "socket");

        self.asm.label("socket");
        self.asm.store_imm(Size::Word, R9, at(IFINDEX), 0);
        self.asm.store_imm(Size::Double, R9, at(IFNAME), 0);
        self.follow(R7, sk, "route");
        self.follow(R8, sk_net, "route");
        self.require_namespace("found", "route");

        self.asm.label("route");
        self.follow(R7, dst, "out");
        self.follow(R8, dst_dev, "out");
        self.follow(R8, dev_net, "out");
        self.require_namespace("found", "out");
        self.asm.label("found");
    }

    /// `R8 = *(from + offset)`, or to `absent` if that is null.
    fn follow(&mut self, from: Reg, offset: i16, absent: &'static str) {
        self.read((R10, POINTER), 8, (from, offset));
        self.asm.load(Size::Double, R8, R10, POINTER);
        // The low bits of a packet's route say how it is counted (SKB_DST_NOREF).
        if offset == self.offsets.dst && from == R7 {
            self.asm.and_imm(R8, -8);
        }
        self.asm.jump_eq(R8, 0, absent);
    }

    /// Takes the inode of `struct net` R8; goes to `yes` if it is to be reported, else to `no`.
    fn require_namespace(&mut self, yes: &'static str, no: &'static str) {
        self.read((R10, KEY), 4, (R8, self.offsets.net_inum));
        self.asm.load(Size::Word, R1, R10, KEY);
        self.asm.jump_eq(R1, 0, no);
        self.asm.store(Size::Word, R9, at(NETNS), R1);
        if let Some(namespaces) = self.maps.namespaces {
            self.asm.map(R1, namespaces);
            self.asm.mov(R2, R10);
            self.asm.add_imm(R2, KEY.into());
            self.asm.call(Helper::MapLookup);
            self.asm.jump_eq(R0, 0, no);
        }
        self.asm.jump(yes);
    }

    fn note(&mut self, tracepoint: Tracepoint, arguments: Arguments) {
        self.asm.call(Helper::KtimeNs);
        self.asm.store(Size::Double, R9, at(TIME), R0);
        self.asm.store(Size::Double, R9, at(SKB), R7);
        self.asm.store_imm(Size::Word, R9, at(KIND), tracepoint.code().into());
        self.asm.store_imm(Size::Double, R9, at(LOCATION), 0);
        self.asm.store_imm(Size::Word, R9, at(REASON), 0);
        if let Some(position) = arguments.location {
            self.asm.load(Size::Double, R1, R6, 8 * position);
            self.asm.store(Size::Double, R9, at(LOCATION), R1);
        }
        if let Some(position) = arguments.reason {
            self.asm.load(Size::Double, R1, R6, 8 * position);
            self.asm.store(Size::Word, R9, at(REASON), R1);
        }
        let Offsets { head, data, len, protocol, mac_header, network_header, .. } = *self.offsets;
        self.read_field(HEAD, 8, R7, head);
        self.read_field(PAYLOAD, 8, R7, data);
        self.read_field(LEN, 4, R7, len);
        self.read_field(PROTOCOL, 2, R7, protocol);
        self.read_field(MAC, 2, R7, mac_header);
        self.read_field(NETWORK, 2, R7, network_header);
    }

    /// Copies from the link-layer header on if there is one, else from the network header.
    fn copy_packet(&mut self, tracepoint: Tracepoint) {
        const UNSET: i32 = 0xffff;
        let asm = &mut self.asm;
        asm.load(Size::Double, R3, R9, at(PAYLOAD));
        asm.load(Size::Double, R1, R9, at(HEAD));
        asm.load(Size::Half, R2, R9, at(MAC));
        match tracepoint {
            // The driver is handed the whole frame.
            Tracepoint::Transmit => {}
            // The device has pulled the link-layer header already; the network header is not set yet.
            Tracepoint::Receive => {
                asm.jump_eq(R2, UNSET, "copy");
                asm.mov(R3, R1);
                asm.add(R3, R2);
            }
            // Anything may have been pulled. A link-layer header behind the network header is that of an inner
            // packet, which a tunnel has wrapped since.
            Tracepoint::Drop | Tracepoint::Consume => {
                asm.load(Size::Half, R4, R9, at(NETWORK));
                asm.mov(R3, R1);
                asm.add(R3, R4);
                asm.jump_eq(R2, UNSET, "copy");
                asm.jump_gt(R2, R4, "copy");
                asm.mov(R3, R1);
                asm.add(R3, R2);
            }
        }
        asm.label("copy");
        asm.store(Size::Double, R9, at(START), R3);
        asm.mov(R1, R9);
        asm.add_imm(R1, i32::from(at(DATA)));
        asm.mov_imm(R2, i32::from(at(SNAP)));
        asm.call(Helper::ProbeReadKernel);
    }

    fn require_mark(&mut self, mark: Mark) {
        let [a, b, c] = mark;
        let (want, mask) = (i32::from_ne_bytes([a, b, c, 0]), i32::from_ne_bytes([0xff, 0xff, 0xff, 0]));
        for offset in (DATA..RECORD - 3).step_by(2) {
            self.asm.load(Size::Word, R1, R9, at(offset));
            self.asm.and_imm(R1, mask);
            self.asm.jump_eq32(R1, want, "marked");
        }
        self.asm.jump("out");
        self.asm.label("marked");
    }

    /// A record that finds no room is counted in the scratch space, so that the next one tells.
    fn submit(&mut self) {
        let asm = &mut self.asm;
        asm.map(R1, self.maps.ring);
        asm.mov(R2, R9);
        asm.mov_imm(R3, i32::from(at(RECORD)));
        asm.mov_imm(R4, 0);
        asm.call(Helper::RingbufOutput);
        asm.jump_eq(R0, 0, "out");
        asm.load(Size::Word, R1, R9, at(LOST));
        asm.add_imm(R1, 1);
        asm.store(Size::Word, R9, at(LOST), R1);
        asm.label("out");
        asm.mov_imm(R0, 0);
        asm.exit();
    }

    fn read_field(&mut self, field: usize, size: i32, from: Reg, offset: i16) {
        self.read((R9, at(field)), size, (from, offset));
    }

    /// `probe_read_kernel(to + to_offset, size, from + offset)`; zeroes on a bad address.
    fn read(&mut self, (to, to_offset): (Reg, i16), size: i32, (from, offset): (Reg, i16)) {
        self.asm.mov(R1, to);
        self.asm.add_imm(R1, to_offset.into());
        self.asm.mov_imm(R2, size);
        self.asm.mov(R3, from);
        self.asm.add_imm(R3, offset.into());
        self.asm.call(Helper::ProbeReadKernel);
    }
}

fn at(field: usize) -> i16 {
    i16::try_from(field).expect("a record is a few hundred bytes")
}

/// One packet at one place, as the program saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    pub tracepoint: Tracepoint,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Address of the packet's `sk_buff`, which tells packets apart for a while.
    pub skb: u64,
    /// Inode of the namespace.
    pub netns: u32,
    /// 0 if the packet had no device yet.
    pub ifindex: u32,
    /// Empty if the packet had no device yet.
    pub device: String,
    /// Number of `enum skb_drop_reason`; drops only.
    pub reason: u32,
    /// Address in the kernel that dropped or consumed it, else 0.
    pub location: u64,
    /// Length of the whole packet from `layer3` on, as far as the kernel says.
    pub len: u32,
    /// EtherType of the network layer (host order); 0 when the packet has none yet.
    pub protocol: u16,
    /// Where the network header begins in `bytes`; the link-layer header, if any, is before it.
    pub layer3: usize,
    /// First bytes of the packet; may run past its end.
    pub bytes: Vec<u8>,
    /// Records this CPU had no room for, since the start.
    pub lost: u32,
}

impl Sighting {
    /// Reads a record; none if it is not one of ours.
    pub fn decode(record: &[u8]) -> Option<Self> {
        let record: &[u8; RECORD] = record.try_into().ok()?;
        let tracepoint = *Tracepoint::ALL.iter().find(|of| u32::from(of.code()) == word(record, KIND))?;
        let name = &record[IFNAME..IFNAME + 16];
        let name = name.split(|&byte| byte == 0).next().unwrap_or(name);
        let start = double(record, START);
        // A receiving device has pulled its header, so `data` is the network header; elsewhere the kernel keeps an
        // offset to it.
        let network = match tracepoint {
            Tracepoint::Receive => double(record, PAYLOAD),
            _ => double(record, HEAD) + u64::from(half(record, NETWORK)),
        };
        let ifindex = word(record, IFINDEX);
        Some(Self {
            tracepoint,
            time_ns: double(record, TIME),
            skb: double(record, SKB),
            netns: word(record, NETNS),
            ifindex,
            device: if ifindex == 0 { String::new() } else { String::from_utf8_lossy(name).into_owned() },
            reason: word(record, REASON),
            location: double(record, LOCATION),
            len: word(record, LEN),
            protocol: u16::from_be(half(record, PROTOCOL)),
            layer3: network.checked_sub(start).and_then(|off| usize::try_from(off).ok()).unwrap_or(0),
            bytes: record[DATA..].to_vec(),
            lost: word(record, LOST),
        })
    }
}

fn half(record: &[u8; RECORD], at: usize) -> u16 {
    u16::from_ne_bytes([record[at], record[at + 1]])
}

fn word(record: &[u8; RECORD], at: usize) -> u32 {
    record[at..at + 4].try_into().map(u32::from_ne_bytes).expect("four bytes were taken")
}

fn double(record: &[u8; RECORD], at: usize) -> u64 {
    record[at..at + 8].try_into().map(u64::from_ne_bytes).expect("eight bytes were taken")
}
