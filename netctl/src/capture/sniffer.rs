//! All packets of one namespace, by a packet socket (packet(7)). Knows no file format.

use std::{
    collections::BTreeMap,
    io::{self, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    sys::socket::{
        AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
        setsockopt, socket, sockopt,
    },
};

use crate::agent::place::Device;

/// A socket that sees what every device of its namespace sends and receives. Readable for poll(2).
pub struct Sniffer {
    socket: OwnedFd,
    /// Only this device's packets.
    device: Option<u32>,
    buffer: Vec<u8>,
    /// Packets that the kernel had no room for, as it last said.
    pub lost: u32,
}

/// A packet as a device saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    pub ifindex: u32,
    pub outgoing: bool,
    /// Addressed to another link-layer address than the device's.
    pub is_for_others: bool,
    /// Whether the bytes begin with an Ethernet header; else with a network header.
    pub ethernet: bool,
    /// EtherType of the network layer.
    pub protocol: u16,
    pub len: usize,
    pub bytes: Vec<u8>,
}

impl Sniffer {
    /// Opens in the calling thread's namespace, which stays that of the socket. Needs CAP_NET_RAW.
    pub fn open(device: Option<&str>, snaplen: usize) -> io::Result<Self> {
        let device = device.map(if_nametoindex).transpose()?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        // A burst must not be lost because this process was not scheduled; without CAP_NET_ADMIN the default stays.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_QUEUE);
        Ok(Self { socket, device, buffer: vec![0; snaplen], lost: 0 })
    }

    /// Hands over what waits.
    pub fn drain(&mut self, mut each: impl FnMut(Frame)) -> io::Result<()> {
        loop {
            match self.receive() {
                Ok(Some(frame)) => each(frame),
                Ok(None) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                // A device went down; the others go on.
                Err(Errno::ENETDOWN | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn receive(&mut self) -> nix::Result<Option<Frame>> {
        let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec, u32);
        let mut parts = [IoSliceMut::new(&mut self.buffer)];
        let message =
            recvmsg::<LinkAddr>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_TRUNC)?;
        let mut time_ns = 0;
        for control in message.cmsgs()? {
            match control {
                ControlMessageOwned::ScmTimestampns(time) => {
                    time_ns = u64::try_from(time.tv_sec()).unwrap_or(0) * NANOS
                        + u64::try_from(time.tv_nsec()).unwrap_or(0);
                }
                ControlMessageOwned::RxqOvfl(lost) => self.lost = lost,
                _ => {}
            }
        }
        let (Some(address), len) = (message.address, message.bytes) else { return Ok(None) };
        let ifindex = u32::try_from(address.ifindex()).unwrap_or(0);
        if self.device.is_some_and(|device| device != ifindex) {
            return Ok(None);
        }
        let bytes = self.buffer[..len.min(self.buffer.len())].to_vec();
        Ok(Some(Frame {
            time_ns,
            ifindex,
            outgoing: address.pkttype() == PACKET_OUTGOING,
            is_for_others: address.pkttype() == PACKET_OTHERHOST,
            ethernet: matches!(address.hatype(), ARPHRD_ETHER | ARPHRD_LOOPBACK),
            protocol: u16::from_be(address.protocol()),
            len,
            bytes,
        }))
    }
}

impl AsFd for Sniffer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Devices by index, asked for again when an unknown one appears.
#[derive(Default)]
pub struct DeviceNames {
    known: BTreeMap<u32, Device>,
}

impl DeviceNames {
    /// The device; `if7` when it is gone already.
    pub fn device(&mut self, ifindex: u32, ask: impl FnOnce() -> BTreeMap<u32, Device>) -> Device {
        if !self.known.contains_key(&ifindex) {
            self.known.extend(ask());
        }
        let gone = || Device { name: format!("if{ifindex}"), is_port: false };
        self.known.entry(ifindex).or_insert_with(gone).clone()
    }
}

const RECEIVE_QUEUE: usize = 16 << 20;
const NANOS: u64 = 1_000_000_000;
// linux/if_packet.h, linux/if_arp.h
const PACKET_OTHERHOST: u8 = 3;
const PACKET_OUTGOING: u8 = 4;
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;
