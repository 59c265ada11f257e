//! Packets to one UDP port, sent and received on a link below the IP stack: for a DHCP client, whose link has no address
//! yet. Knows no DHCP.

use std::{
    io::{self, ErrorKind},
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use etherparse::{LinkSlice, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};
use socket2::{SockFilter, SockRef};

use crate::{
    error::{Error, Result},
    link::Dev,
    mac::MacAddr,
    probe::link_address,
};

/// One end of a UDP conversation over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    pub mac: MacAddr,
    pub address: Ipv4Addr,
    pub port: u16,
}

/// A UDP packet that came in, of at most 1500 bytes with its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub from: End,
    pub payload: Vec<u8>,
}

/// A socket for the frames of one link that carry UDP over IPv4 to one port. It never blocks, and keeps its namespace alive.
#[derive(Debug)]
pub struct FrameSocket {
    socket: OwnedFd,
    link: LinkAddr,
    port: u16,
}

impl FrameSocket {
    /// Opens it for a link of the namespace of the calling thread.
    pub fn open(dev: &Dev, port: u16) -> Result<Self> {
        let open = || -> io::Result<Self> {
            let link = link_address(dev.index)?;
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
            SockRef::from(&socket).attach_filter(&filter(port))?;
            bind(socket.as_raw_fd(), &link)?;
            // What came before the filter was set.
            while recv(socket.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_DONTWAIT).is_ok() {}
            Ok(Self { socket, link, port })
        };
        open().map_err(|err| Error::new(format!("listen on {}", dev.name), err))
    }

    /// Sends `payload` in one frame. A link that is down is an error.
    pub fn send(&self, from: End, to: End, payload: &[u8]) -> Result<()> {
        let builder = PacketBuilder::ethernet2(from.mac.0, to.mac.0)
            .ipv4(from.address.octets(), to.address.octets(), TTL)
            .udp(from.port, to.port);
        let mut frame = Vec::with_capacity(builder.size(payload.len()));
        let sent = builder
            .write(&mut frame, payload)
            .map_err(io::Error::other)
            .and_then(|()| Ok(sendto(self.socket.as_raw_fd(), &frame, &self.link, MsgFlags::empty())?));
        sent.map(drop).map_err(|err| Error::new(format!("send to {}", to.address), err))
    }

    /// The next packet, or none when there is none yet.
    pub fn receive(&self) -> Result<Option<Packet>> {
        let mut frame = [0; FRAME];
        loop {
            match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()).map_err(io::Error::from) {
                Ok(length) => {
                    if let Some(packet) = decode(&frame[..length.min(FRAME)], self.port) {
                        return Ok(Some(packet));
                    }
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(Error::new("receive from a link", err)),
            }
        }
    }
}

impl AsFd for FrameSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for FrameSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A sender on the same host may leave the checksum to a network card that there is none of, so it is not looked at.
fn decode(frame: &[u8], port: u16) -> Option<Packet> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(LinkSlice::Ethernet2(ethernet)) = packet.link else { return None };
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport) else {
        return None;
    };
    let from =
        End { mac: MacAddr(ethernet.source()), address: ip.header().source_addr(), port: udp.source_port() };
    (udp.destination_port() == port).then(|| Packet { from, payload: udp.payload().to_vec() })
}

/// UDP over IPv4 to `port`, no fragment but the first and only one (networking/filter.rst in the kernel's documentation).
fn filter(port: u16) -> [SockFilter; 11] {
    let op = SockFilter::new;
    [
        op(LOAD_HALF, 0, 0, 12),
        op(JUMP_EQUAL, 0, 8, 0x0800),
        op(LOAD_BYTE, 0, 0, 23),
        op(JUMP_EQUAL, 0, 6, 17),
        op(LOAD_HALF, 0, 0, 20),
        op(JUMP_ANY_BIT, 4, 0, 0x3fff),
        op(LOAD_HEADER_LENGTH, 0, 0, 14),
        op(LOAD_HALF_BEHIND, 0, 0, 16),
        op(JUMP_EQUAL, 0, 1, u32::from(port)),
        op(RETURN, 0, 0, u32::MAX),
        op(RETURN, 0, 0, 0),
    ]
}

const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const LOAD_HALF_BEHIND: u16 = 0x48;
const LOAD_HEADER_LENGTH: u16 = 0xb1;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;
const TTL: u8 = 64;
const FRAME: usize = 2048;
