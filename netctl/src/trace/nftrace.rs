//! Asks nf_tables which rule decides about a probe: a table that marks probes for tracing, owned by our socket, and
//! the reading of what the kernel then tells. Knows no node.
//!
//! Such a table is removed by the kernel when its socket closes (NFT_TABLE_F_OWNER, Linux 5.12), so it cannot be left
//! behind. Only rules of nf_tables are told; those of the old iptables (xtables) are not.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, Nla, NlasIterator,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{
        ChainAttribute, ChainMessage, Cmp, DataAttribute, Expressions, Hook, HookNumber, Immediate,
        InetHookNumber, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register, RuleAttribute,
        RuleMessage, TableAttribute, TableFlags, TableMessage,
    },
    none::ControlMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::libc;

use super::probe::{CONSTANT, Mark};

/// One namespace's table and the stream of what happens to probes in it. Both end with the value.
pub struct RuleTracer {
    socket: Socket,
    buffer: Vec<u8>,
    table: String,
    /// What each packet looked like when it entered its chain; the kernel shows it only then.
    headers: BTreeMap<u32, Vec<u8>>,
}

/// What a rule or a chain's policy decided about a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// `ip`, `ip6`, `inet`, `bridge`, ...
    pub family: String,
    pub table: String,
    pub chain: String,
    /// None for a policy.
    pub handle: Option<u64>,
    pub verdict: Verdict,
    /// From the network header on, cut behind 20 bytes of the transport header.
    pub bytes: Vec<u8>,
    /// Tells the packet from others while it is in the kernel.
    pub id: u32,
}

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, one way or another.
    #[default]
    GoesOn,
    /// It ends here.
    Drop,
}

/// How the names of our tables begin.
pub const TABLE: &str = "netctl-trace-";

impl RuleTracer {
    /// Starts in the calling thread's namespace. The table has chains for IP and, where this kernel can, for bridges.
    pub fn open(mark: &Mark) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let name = format!("{TABLE}{}", std::process::id());
        let (buffer, headers) = (vec![0; 64 * 1024], BTreeMap::new());
        let mut tracer = Self { socket, buffer, table: name.clone(), headers };
        tracer.apply(&batch(NetfilterProtoFamily::Inet, &name, mark))?;
        // Without bridge support only the hooks of bridges stay dark.
        let _ = tracer.apply(&batch(NetfilterProtoFamily::Bridge, &name, mark));
        tracer.socket.add_membership(NFNLGRP_NFTRACE)?;
        tracer.socket.set_non_blocking(true)?;
        Ok(tracer)
    }

    /// All decisions that wait, our own table's left out. ENOBUFS (some were lost) is not an error: others follow.
    pub fn drain(&mut self, mut each: impl FnMut(Decision)) {
        loop {
            match self.socket.recv(&mut &mut self.buffer[..], 0) {
                Ok(len) => {
                    for mut decision in messages(&self.buffer[..len]).filter_map(decode) {
                        if decision.bytes.is_empty() {
                            decision.bytes = self.headers.get(&decision.id).cloned().unwrap_or_default();
                        } else {
                            self.headers.insert(decision.id, decision.bytes.clone());
                        }
                        if decision.table != self.table {
                            each(decision);
                        }
                    }
                }
                Err(err) if err.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }

    /// Sends a batch and reads the acknowledgement of each of its changes.
    fn apply(&mut self, batch: &Batch) -> io::Result<()> {
        self.socket.send(&batch.bytes, 0)?;
        // A batch that fails as a whole is answered once; else each change is.
        let mut pending = batch.changes;
        while pending > 0 {
            let len = self.socket.recv(&mut &mut self.buffer[..], 0)?;
            for message in messages(&self.buffer[..len]) {
                if let NetlinkPayload::Error(error) = message.payload {
                    match error.code {
                        None => pending -= 1,
                        Some(_) => return Err(error.to_io()),
                    }
                }
            }
        }
        Ok(())
    }
}

impl AsFd for RuleTracer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

struct Batch {
    bytes: Vec<u8>,
    changes: usize,
}

impl Batch {
    fn push(&mut self, family: NetfilterProtoFamily, message: NfTablesMessage, flags: u16) {
        let header = NetfilterHeader::new(family, 0, 0);
        self.changes += 1;
        self.append(NetfilterMessage::new(header, message), flags | NLM_F_ACK | NLM_F_CREATE);
    }

    fn control(&mut self, message: ControlMessage) {
        let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFNL_SUBSYS_NFTABLES);
        self.append(NetfilterMessage::new(header, message), 0);
    }

    fn append(&mut self, message: NetfilterMessage, flags: u16) {
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = self.bytes.len();
        self.bytes.resize(start + message.buffer_len(), 0);
        message.serialize(&mut self.bytes[start..]);
    }
}

/// Table, chains and rules, before every other chain of the hooks where packets enter.
fn batch(family: NetfilterProtoFamily, name: &str, mark: &Mark) -> Batch {
    let mut batch = Batch { bytes: Vec::new(), changes: 0 };
    batch.control(ControlMessage::BatchBegin);
    let attributes = vec![TableAttribute::Name(name.to_owned()), TableAttribute::Flags(TableFlags::Owner)];
    batch.push(family, NfTablesMessage::NewTable(TableMessage { attributes }), NLM_F_EXCL);
    let hooks = [("entering", InetHookNumber::PreRouting), ("leaving", InetHookNumber::LocalOut)];
    for (chain, hook) in hooks {
        let attributes = vec![
            ChainAttribute::Table(name.to_owned()),
            ChainAttribute::Name(chain.to_owned()),
            ChainAttribute::Hook(vec![
                // Numbers of bridge hooks are the same (linux/netfilter_bridge.h).
                Hook::Number(HookNumber::Inet(hook)),
                Hook::Priority(FIRST.cast_unsigned()),
            ]),
            ChainAttribute::Type("filter".to_owned()),
        ];
        batch.push(family, NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_EXCL);
        for (offset, bytes) in places(mark) {
            let attributes = vec![
                RuleAttribute::Table(name.to_owned()),
                RuleAttribute::Chain(chain.to_owned()),
                RuleAttribute::Expressions(trace_if(offset, &bytes).map(Into::into).to_vec()),
            ];
            batch.push(family, NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_APPEND);
        }
    }
    batch.control(ControlMessage::BatchEnd);
    batch
}

/// Where a mark is, counted from the transport header: in the packet itself, in what an ICMP error quotes, and in
/// what VXLAN carries.
fn places(mark: &Mark) -> Vec<(u32, Vec<u8>)> {
    const TRANSPORT: u32 = 8;
    const IP: [u32; 2] = [20, 40];
    const WRAPPED: u32 = 8 + 8 + 14;
    let payload = [&CONSTANT[..], &mark.key].concat();
    let inner = IP.iter().flat_map(|ip| [TRANSPORT + ip, WRAPPED + ip, WRAPPED + 2 * ip + TRANSPORT]);
    let mut places = Vec::new();
    for start in std::iter::once(0).chain(inner) {
        places.push((start + TRANSPORT, payload.clone()));
        // Sequence number and acknowledgment.
        places.extend([4, 8].map(|field| (start + field, mark.key.to_vec())));
    }
    places
}

/// `@th,offset,len bytes meta nftrace set 1`
fn trace_if(offset: u32, bytes: &[u8]) -> [Expressions; 4] {
    let len = u32::try_from(bytes.len()).expect("a mark is 16 bytes");
    [
        Expressions::Payload(vec![
            Payload::DestinationRegister(Register::Reg1),
            Payload::Base(NFT_PAYLOAD_TRANSPORT_HEADER),
            Payload::Offset(offset),
            Payload::Len(len),
        ]),
        Expressions::Cmp(vec![
            Cmp::SourceRegister(Register::Reg1),
            Cmp::Op(Operator::Equal),
            Cmp::Data(DataAttribute::Value(bytes.to_vec())),
        ]),
        Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Reg1),
            Immediate::Data(DataAttribute::Value(vec![1])),
        ]),
        Expressions::Meta(vec![Meta::Key(MetaKey::NftraceBit), Meta::SourceRegister(Register::Reg1)]),
    ]
}

/// Several messages share one datagram, each aligned to 4 bytes.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkMessage<NetfilterMessage>> {
    std::iter::from_fn(move || {
        let message = NetlinkMessage::<NetfilterMessage>::deserialize(datagram).ok()?;
        let len = usize::try_from(message.header.length).ok()?.next_multiple_of(4);
        datagram = datagram.get(len..).unwrap_or_default();
        Some(message)
    })
}

fn decode(message: NetlinkMessage<NetfilterMessage>) -> Option<Decision> {
    let NetlinkPayload::InnerMessage(message) = message.payload else { return None };
    let family = family_name(message.header.family);
    let NetfilterMessageInner::NfTables(NfTablesMessage::Trace(attributes)) = message.inner else {
        return None;
    };
    let mut decision = Decision { family, ..Decision::default() };
    let mut transport = Vec::new();
    let mut kind = 0;
    for attribute in &attributes {
        let value = value(attribute);
        match attribute.kind() {
            NFTA_TRACE_TABLE => decision.table = text(&value),
            NFTA_TRACE_CHAIN => decision.chain = text(&value),
            NFTA_TRACE_RULE_HANDLE => decision.handle = value.try_into().ok().map(u64::from_be_bytes),
            NFTA_TRACE_TYPE => kind = number(&value),
            NFTA_TRACE_VERDICT => decision.verdict = verdict(nested(&value, NFTA_VERDICT_CODE)),
            NFTA_TRACE_POLICY => decision.verdict = verdict(Some(number(&value))),
            NFTA_TRACE_ID => decision.id = number(&value),
            NFTA_TRACE_NETWORK_HEADER => decision.bytes = value,
            NFTA_TRACE_TRANSPORT_HEADER => transport = value,
            _ => {}
        }
    }
    decision.bytes.append(&mut transport);
    if kind == NFT_TRACETYPE_POLICY {
        decision.handle = None;
    }
    Some(decision)
}

fn value(attribute: &DefaultNla) -> Vec<u8> {
    let mut bytes = vec![0; attribute.value_len()];
    attribute.emit_value(&mut bytes);
    bytes
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn number(value: &[u8]) -> u32 {
    value.try_into().map_or(0, u32::from_be_bytes)
}

fn nested(value: &[u8], kind: u16) -> Option<u32> {
    let mut attributes = NlasIterator::new(value).filter_map(Result::ok);
    attributes.find(|attribute| attribute.kind() == kind).map(|attribute| number(attribute.value()))
}

fn verdict(code: Option<u32>) -> Verdict {
    // The upper half of a verdict is a queue's number or an errno.
    if code.is_some_and(|code| code & 0xffff == NF_DROP) { Verdict::Drop } else { Verdict::GoesOn }
}

fn family_name(family: NetfilterProtoFamily) -> String {
    match family {
        NetfilterProtoFamily::Inet => "inet".to_owned(),
        NetfilterProtoFamily::IPv4 => "ip".to_owned(),
        NetfilterProtoFamily::IPv6 => "ip6".to_owned(),
        NetfilterProtoFamily::ARP => "arp".to_owned(),
        NetfilterProtoFamily::NetDev => "netdev".to_owned(),
        NetfilterProtoFamily::Bridge => "bridge".to_owned(),
        other => format!("family {}", u8::from(other)),
    }
}

// linux/netfilter/nf_tables.h, nfnetlink.h, netfilter.h
const NFTA_TRACE_TABLE: u16 = 1;
const NFTA_TRACE_CHAIN: u16 = 2;
const NFTA_TRACE_RULE_HANDLE: u16 = 3;
const NFTA_TRACE_TYPE: u16 = 4;
const NFTA_TRACE_VERDICT: u16 = 5;
const NFTA_TRACE_ID: u16 = 6;
const NFTA_TRACE_NETWORK_HEADER: u16 = 8;
const NFTA_TRACE_TRANSPORT_HEADER: u16 = 9;
const NFTA_TRACE_POLICY: u16 = 16;
const NFT_TRACETYPE_POLICY: u32 = 1;
const NFTA_VERDICT_CODE: u16 = 1;
const NFT_PAYLOAD_TRANSPORT_HEADER: u32 = 2;
const NFNLGRP_NFTRACE: u32 = 9;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NF_DROP: u32 = 0;
/// Before raw (-300), which decides what conntrack sees.
const FIRST: i32 = -400;

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use testenv::{lab, wait};

    use super::*;
    use crate::packet::Packet;

    const RULESET: &str = "add table ip filter
        add chain ip filter OUTPUT { type filter hook output priority 0; policy drop; }
        add rule ip filter OUTPUT ip daddr 127.0.0.9 counter drop
        add rule ip filter OUTPUT ip daddr { 127.0.0.8, 127.0.0.1 } accept";

    #[test]
    fn the_deciding_rule_is_told_and_no_table_is_left() {
        lab::run("nftrace", |lab| {
            lab.needs_program("nft", "nftables");
            for line in RULESET.lines() {
                let words = line.split_whitespace().collect::<Vec<_>>();
                lab.exec(&[&["nft"], &words[..]].concat()).ok();
            }
            lab.rebase();
            let mark = Mark::random().unwrap();
            let mut tracer = RuleTracer::open(&mark).unwrap();
            assert!(lab.exec(&["nft", "list", "tables"]).ok().contains("netctl-trace-"));

            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(&mark.payload(0, 0), "127.0.0.8:9").unwrap();
            for to in ["127.0.0.9:9", "127.0.0.7:9"] {
                let _ = socket.send_to(&mark.payload(1, 0), to);
                let _ = socket.send_to(b"another packet", to);
            }
            let mut decisions = Vec::new();
            wait::wait_for("two drops", wait_time(), || {
                tracer.drain(|decision| decisions.push(decision));
                decisions.iter().filter(|it| it.verdict == Verdict::Drop).count() >= 2
            });
            let chain = |it: &&Decision| (&*it.family, &*it.table, &*it.chain) == ("ip", "filter", "OUTPUT");
            let drops: Vec<_> =
                decisions.iter().filter(chain).filter(|it| it.verdict == Verdict::Drop).collect();
            assert_eq!(drops.len(), 2, "{decisions:?}");
            assert!(drops[0].handle.is_some());
            assert_eq!(drops[1].handle, None, "the policy");
            for drop in drops {
                let found = mark.recognise_cut(&Packet::network(0x0800, &drop.bytes)).unwrap();
                assert_eq!(found.number, 1);
            }
        });
    }

    fn wait_time() -> std::time::Duration {
        std::time::Duration::from_secs(5)
    }
}
