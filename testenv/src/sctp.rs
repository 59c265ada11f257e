//! The first two packets of an SCTP association, INIT and the INIT ACK that answers it (RFC 9260), by raw sockets: for
//! kernels whose own sockets lack the protocol. Both sides hold the checksum against the packet, which whoever translates
//! ports must renew. Knows nothing else of SCTP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::echo::{BEAT, EchoServer, PATIENCE};
use crate::ns::Ns;

mod stream;

impl Ns {
    /// Answers each INIT for `port` with an INIT ACK, by IPv4 and IPv6, until dropped.
    #[track_caller]
    pub fn sctp_answer(&self, port: u16) -> EchoServer {
        let sockets = self.run(|| -> io::Result<_> {
            Ok([open(Ipv4Addr::UNSPECIFIED.into())?, open(Ipv6Addr::UNSPECIFIED.into())?])
        });
        let sockets = sockets.unwrap_or_else(|cause| panic!("{}: open raw sockets: {cause}", self.name()));
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        EchoServer::start(address, move |seen, stop| {
            while !stop.load(Ordering::Relaxed) {
                for socket in readable(&sockets, PollTimeout::from(BEAT)) {
                    let Ok((packet, from)) = receive(socket) else { continue };
                    let to_us = |packet: &Packet| packet.kind == INIT && packet.to == port;
                    if let Some(init) = packet.filter(to_us) {
                        seen.lock().expect("no panic while held").push(SocketAddr::new(from, init.from));
                        socket.send_to(&init.answer().encode(), SocketAddr::new(from, 0)).ok();
                    }
                }
            }
        })
    }

    /// Sends an INIT from inside, and waits for its INIT ACK. An error where none comes from there that is meant for us.
    pub fn sctp_talk(&self, to: SocketAddr) -> io::Result<()> {
        // Of no other talk, so that each is a connection of its own.
        self.sctp_talk_from(PORTS.fetch_add(1, Ordering::Relaxed), to)
    }

    /// The same from a port of one's choice: again, it is the same connection for who tracks it.
    pub fn sctp_talk_from(&self, port: u16, to: SocketAddr) -> io::Result<()> {
        self.run(|| ask(port, to))
    }
}

fn ask(from: u16, to: SocketAddr) -> io::Result<()> {
    let socket = open(to.ip())?;
    let init = Packet { from, to: to.port(), tag: 0, kind: INIT, initiate: u32::from(from) << 8 | 1 };
    let start = Instant::now();
    socket.send_to(&init.encode(), SocketAddr::new(to.ip(), 0))?;
    loop {
        let left = PATIENCE.saturating_sub(start.elapsed());
        let timeout = PollTimeout::try_from(left).map_err(io::Error::other)?;
        if readable(std::slice::from_ref(&socket), timeout).next().is_none() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no INIT ACK from {to}")));
        }
        let (packet, sender) = receive(&socket)?;
        let is_answer = |packet: Packet| {
            (sender, packet.from, packet.to) == (to.ip(), to.port(), from)
                && (packet.kind, packet.tag) == (INIT_ACK, init.initiate)
        };
        if packet.is_some_and(is_answer) {
            return Ok(());
        }
    }
}

/// As for UDP, but for what is in the datagrams: addresses go without a port.
fn open(family: IpAddr) -> io::Result<UdpSocket> {
    let domain = if family.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::SCTP))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn readable(sockets: &[UdpSocket], timeout: PollTimeout) -> impl Iterator<Item = &UdpSocket> {
    let mut ready: Vec<_> =
        sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    poll(&mut ready, timeout).ok();
    let ready: Vec<bool> = ready.iter().map(|fd| fd.any().unwrap_or(false)).collect();
    sockets.iter().zip(ready).filter(|(_, ready)| *ready).map(|(socket, _)| socket)
}

/// `None` for what is no packet of these two kinds, or whose checksum is another.
fn receive(socket: &UdpSocket) -> io::Result<(Option<Packet>, IpAddr)> {
    let mut bytes = [0; 2048];
    let (length, from) = socket.recv_from(&mut bytes)?;
    // Raw sockets of IPv4 alone hand over the IP header, whose length in words is in its first byte.
    let header = if from.is_ipv4() { usize::from(bytes[0] & 0xf) * 4 } else { 0 };
    Ok((bytes.get(header..length).and_then(Packet::decode), from.ip()))
}

/// A packet with one chunk, INIT or INIT ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packet {
    from: u16,
    to: u16,
    /// The verification tag: the initiate tag of the other side, none in an INIT.
    tag: u32,
    kind: u8,
    initiate: u32,
}

impl Packet {
    fn answer(self) -> Self {
        let Self { from, to, tag: _, kind: _, initiate } = self;
        Self { from: to, to: from, tag: initiate, kind: INIT_ACK, initiate: !initiate }
    }

    fn encode(self) -> Vec<u8> {
        let Self { from, to, tag, kind, initiate } = self;
        // An INIT ACK must carry a cookie.
        let cookie: &[u8] = if kind == INIT_ACK { &[0, 7, 0, 8, 1, 2, 3, 4] } else { &[] };
        let mut bytes = Vec::new();
        bytes.extend([from.to_be_bytes(), to.to_be_bytes()].as_flattened());
        bytes.extend(tag.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend([kind, 0, 0, if cookie.is_empty() { 20 } else { 28 }]);
        bytes.extend(initiate.to_be_bytes());
        // The window, one stream each way, the first sequence number.
        bytes.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        bytes.extend(cookie);
        let sum = crc32c(&bytes);
        bytes[SUM].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut summed = bytes.to_vec();
        summed.get_mut(SUM)?.fill(0);
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let half = |at: usize| bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
        let kind = *bytes.get(12)?;
        let is_right = word(8)?.swap_bytes() == crc32c(&summed) && [INIT, INIT_ACK].contains(&kind);
        let packet = Self { from: half(0)?, to: half(2)?, tag: word(4)?, kind, initiate: word(16)? };
        is_right.then_some(packet)
    }
}

/// Castagnoli's, reflected, as RFC 9260 has it in its appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| (sum >> 1) ^ (0x82f6_3b78 * (sum & 1));
    !bytes.iter().fold(!0, |sum, &byte| (0..8).fold(sum ^ u32::from(byte), step))
}

static PORTS: AtomicU16 = AtomicU16::new(20_000);
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SUM: std::ops::Range<usize> = 8..12;

#[cfg(test)]
mod tests {
    use super::{INIT, Packet, crc32c};

    #[test]
    fn the_checksum_is_castagnoli_s() {
        // The check value that every catalogue of CRCs gives.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn packets_with_another_checksum_are_none() {
        let init = Packet { from: 7, to: 80, tag: 0, kind: INIT, initiate: 9 };
        for packet in [init, init.answer()] {
            let mut bytes = packet.encode();
            assert_eq!(Packet::decode(&bytes), Some(packet));
            // The port that was translated, and nothing else.
            bytes[3] ^= 1;
            assert_eq!(Packet::decode(&bytes), None);
        }
        assert_eq!(Packet::decode(&init.encode()[..11]), None);
    }
}
