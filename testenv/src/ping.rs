//! ICMP echo of the lab's own, so that a ping needs no package.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use etherparse::{
    IcmpEchoHeader, Icmpv4Header, Icmpv4Slice, Icmpv4Type, Icmpv6Type, IpNumber, Ipv4Header, Ipv6Header,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    socket, sockopt,
};
use std::os::fd::{AsFd, OwnedFd};

use crate::ns::Ns;

/// How long an answer may take on one machine, an ARP exchange included.
pub const PATIENCE: Duration = Duration::from_secs(2);

const PAYLOAD: &[u8] = b"tenon lab";
const SEQUENCE: u16 = 1;
const ICMP_HEADER: usize = 8;
/// The identifier of the next request of the process.
static NEXT: AtomicU16 = AtomicU16::new(1);

impl Ns {
    /// Sends one echo request from inside and waits for its answer: the time it took. An unreachable address is a
    /// timeout or what the kernel said.
    pub fn ping(&self, address: IpAddr, patience: Duration) -> io::Result<Duration> {
        self.run(|| ask(address, None, patience))
    }

    /// Whether `address` answers an echo request sent from inside.
    pub fn pings(&self, address: IpAddr) -> bool {
        self.ping(address, PATIENCE).is_ok()
    }
}

/// Sends one echo request from the calling thread's network namespace and waits for its answer: the time it took.
///
/// `size` is that of the packet, in bytes with its IP header; nobody on the way may fragment it.
pub(crate) fn ask(address: IpAddr, size: Option<usize>, patience: Duration) -> io::Result<Duration> {
    let socket = open(address)?;
    let start = Instant::now();
    // Another one each time: what conntrack has decided about an earlier request with the same number would hold for this one too.
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    send(&socket, address, &request(address, id, size))?;
    loop {
        let left = patience.saturating_sub(start.elapsed());
        let timeout = PollTimeout::try_from(left).map_err(io::Error::other)?;
        if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no echo from {address}")));
        }
        let mut bytes = vec![0; usize::from(u16::MAX)];
        let (length, from) = receive(&socket, &mut bytes)?;
        if from == Some(address) && is_answer(address, &bytes[..length], id) {
            return Ok(start.elapsed());
        }
    }
}

fn open(address: IpAddr) -> io::Result<OwnedFd> {
    let (family, protocol) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    Ok(socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?)
}

/// An IPv4 packet brings its own header: the kernel fragments what it has made the header of.
fn send(socket: &OwnedFd, address: IpAddr, icmp: &[u8]) -> io::Result<()> {
    let to = SockaddrStorage::from(SocketAddr::new(address, 0));
    let send = |socket: &OwnedFd, parts: &[IoSlice<'_>]| {
        sendmsg(socket.as_raw_fd(), parts, &[], MsgFlags::empty(), Some(&to)).map(drop)
    };
    match address {
        IpAddr::V4(to) => {
            let length = u16::try_from(icmp.len()).map_err(io::Error::other)?;
            // The source, the checksum and the identification are the kernel's to fill in, raw(7).
            let mut header =
                Ipv4Header::new(length, 64, IpNumber::ICMP, [0; 4], to.octets()).map_err(io::Error::other)?;
            header.dont_fragment = true;
            let raw =
                self::socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
            send(&raw, &[IoSlice::new(&header.to_bytes()), IoSlice::new(icmp)])?;
        }
        IpAddr::V6(_) => {
            setsockopt(socket, sockopt::Ipv6DontFrag, &true)?;
            send(socket, &[IoSlice::new(icmp)])?;
        }
    }
    Ok(())
}

fn receive(socket: &OwnedFd, bytes: &mut [u8]) -> io::Result<(usize, Option<IpAddr>)> {
    let mut parts = [IoSliceMut::new(bytes)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, None, MsgFlags::empty())?;
    let from = message.address.and_then(|from| {
        let v4 = from.as_sockaddr_in().map(|from| IpAddr::V4(from.ip()));
        v4.or_else(|| from.as_sockaddr_in6().map(|from| IpAddr::V6(from.ip())))
    });
    Ok((message.bytes, from))
}

fn request(address: IpAddr, id: u16, size: Option<usize>) -> Vec<u8> {
    let echo = IcmpEchoHeader { id, seq: SEQUENCE };
    let headers = ICMP_HEADER + if address.is_ipv4() { Ipv4Header::MIN_LEN } else { Ipv6Header::LEN };
    let payload: Vec<u8> = match size {
        Some(size) => PAYLOAD.iter().copied().cycle().take(size.saturating_sub(headers)).collect(),
        None => PAYLOAD.to_vec(),
    };
    let mut bytes = match address {
        IpAddr::V4(_) => {
            Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &payload).to_bytes().to_vec()
        }
        // The kernel fills in the checksum of ICMPv6, RFC 3542 section 3.1.
        IpAddr::V6(_) => [&[128, 0, 0, 0][..], &echo.to_bytes()].concat(),
    };
    bytes.extend_from_slice(&payload);
    bytes
}

/// A raw IPv4 socket hands out the IP header too, an IPv6 one does not.
fn is_answer(address: IpAddr, bytes: &[u8], id: u16) -> bool {
    let expected = IcmpEchoHeader { id, seq: SEQUENCE };
    match address {
        IpAddr::V4(_) => {
            let start = bytes.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
            let icmp = bytes.get(start..).and_then(|icmp| Icmpv4Slice::from_slice(icmp).ok());
            icmp.is_some_and(|icmp| icmp.icmp_type() == Icmpv4Type::EchoReply(expected))
        }
        IpAddr::V6(_) => {
            let icmp = etherparse::Icmpv6Slice::from_slice(bytes);
            icmp.is_ok_and(|icmp| icmp.icmp_type() == Icmpv6Type::EchoReply(expected))
        }
    }
}
