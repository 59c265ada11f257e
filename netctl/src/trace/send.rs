//! Sends probes from one namespace and listens there for what comes back. Knows no other node.

use std::{
    collections::BTreeSet,
    io::{self, IoSliceMut, PipeReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, getsockname,
        recvmsg, sendto, socket,
    },
};

use super::{
    observe::now_ns,
    probe::{Direction, Ends, Mark, Protocol},
};
use crate::{
    agent::protocol::{Answer, Answered, Event, SendProbes},
    packet::{Packet, Transport},
};

/// Open sockets, in the namespace they were opened in.
pub struct Sender {
    mark: Mark,
    order: SendProbes,
    ends: Ends,
    /// Takes whole IP packets.
    raw: OwnedFd,
    listeners: Vec<Listener>,
    /// Keeps the source port ours, so that no other socket takes the answer and none is refused.
    _reserved: Option<OwnedFd>,
}

struct Listener {
    socket: OwnedFd,
    hears: Hears,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hears {
    /// IPv4 packets with their header.
    Packets,
    /// What is behind an IPv6 header, of this protocol.
    Payloads(u8),
    /// Datagrams to our port.
    Datagrams,
}

impl Sender {
    /// Opens in the calling thread's namespace. Needs CAP_NET_RAW.
    pub fn open(mark: Mark, order: SendProbes) -> anyhow::Result<Self> {
        let destination = order.destination;
        let source = match order.source {
            Some(source) => source,
            None => source_towards(destination).with_context(|| format!("find a route to {destination}"))?,
        };
        let family = if destination.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let raw = open_socket(family, SockType::Raw, SockProtocol::Raw).context("open a raw socket")?;
        let mut listeners = vec![hear(destination, Protocol::Icmp)?];
        let mut reserved = None;
        let mut port = u16::from_be_bytes([mark.key[0], mark.key[1]]) | 1;
        match order.protocol {
            Protocol::Icmp => {}
            Protocol::Tcp(_) => {
                listeners.push(hear(destination, order.protocol)?);
                let socket = open_socket(family, SockType::Stream, None)?;
                port = reserve(&socket, source)?;
                reserved = Some(socket);
            }
            Protocol::Udp(_) => {
                let socket = open_socket(family, SockType::Datagram, None)?;
                port = reserve(&socket, source)?;
                listeners.push(Listener { socket, hears: Hears::Datagrams });
            }
        }
        let ends = Ends { source, destination, port };
        Ok(Self { mark, order, ends, raw, listeners, _reserved: reserved })
    }

    /// Sends all, and listens until each is answered, patience ends, or `stop` is closed.
    pub fn run(self, stop: Option<&PipeReader>, emit: &dyn Fn(Event)) -> io::Result<()> {
        let mut open: BTreeSet<u8> = BTreeSet::new();
        for number in 0..self.order.count {
            let error = self.send(number).err().map(|err| err.to_string());
            if error.is_none() {
                open.insert(number);
            }
            let Ends { source, port, .. } = self.ends;
            emit(Event::Sent { number, time_ns: now_ns(), source, port, error });
            let is_last = number + 1 == self.order.count;
            let pause = if is_last { self.order.patience_ms } else { self.order.interval_ms };
            let until = Instant::now() + Duration::from_millis(pause);
            // All but the last keep their distance even when answered.
            while !(is_last && open.is_empty()) && Instant::now() < until {
                let Some(answers) = self.listen(stop, until)? else { return Ok(()) };
                for answer in answers {
                    open.remove(&answer.number);
                    emit(Event::Answered(answer));
                }
            }
        }
        emit(Event::SendingEnded);
        Ok(())
    }

    fn send(&self, number: u8) -> io::Result<()> {
        let bytes = self.mark.packet(number, self.order.protocol, self.ends, self.order.payload);
        let to = SockaddrStorage::from(SocketAddr::new(self.ends.destination, 0));
        sendto(self.raw.as_raw_fd(), &bytes, &to, MsgFlags::empty())?;
        Ok(())
    }

    /// Answers that come until then; returns with the first. None once `stop` is closed.
    fn listen(&self, stop: Option<&PipeReader>, until: Instant) -> io::Result<Option<Vec<Answered>>> {
        // Rounded up, so that the last fraction of a millisecond is waited for and not spun away.
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut fds: Vec<_> =
            self.listeners.iter().map(|it| PollFd::new(it.socket.as_fd(), PollFlags::POLLIN)).collect();
        fds.extend(stop.map(|stop| PollFd::new(stop.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => return Ok(Some(Vec::new())),
            polled => polled?,
        };
        let stopped = fds.get(self.listeners.len()).and_then(PollFd::any);
        if stopped == Some(true) {
            return Ok(None);
        }
        let mut answers = Vec::new();
        for listener in &self.listeners {
            while let Some(received) = listener.receive()? {
                answers.extend(self.understand(listener.hears, &received));
            }
        }
        Ok(Some(answers))
    }

    /// The answer in what a listener heard; none if it is not about our probes.
    fn understand(&self, hears: Hears, received: &Received) -> Option<Answered> {
        let Received { from, bytes } = received;
        let time_ns = now_ns();
        let packet = match hears {
            Hears::Packets => Packet::network(IPV4, bytes),
            Hears::Payloads(protocol) => {
                Packet::network(IPV6, &with_header(*from, self.ends.source, protocol, bytes))
            }
            Hears::Datagrams => {
                let is_peer = *from == self.ends.destination;
                // Which probe it answers cannot be told; the first serves.
                let packet = format!("{} bytes of UDP", bytes.len());
                return is_peer.then_some(Answered {
                    number: 0,
                    time_ns,
                    kind: Answer::Reply,
                    from: *from,
                    packet,
                });
            }
        };
        let found = self.mark.recognise(&packet)?;
        let kind = match (found.direction, &packet.inner()?.transport) {
            (Direction::Error, _) => Answer::Error,
            (Direction::Reply, Transport::Tcp { flags, .. }) if flags.rst => Answer::Reset,
            (Direction::Reply, _) => Answer::Reply,
            (Direction::Request | Direction::Cleanup, _) => return None,
        };
        Some(Answered { number: found.number, time_ns, kind, from: *from, packet: packet.to_string() })
    }
}

struct Received {
    from: IpAddr,
    bytes: Vec<u8>,
}

impl Listener {
    /// The next packet, if one waits.
    fn receive(&self) -> io::Result<Option<Received>> {
        let mut buffer = [0; 2048];
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let (len, from) = loop {
            match recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut parts,
                None,
                MsgFlags::MSG_DONTWAIT,
            ) {
                Ok(message) => break (message.bytes, message.address),
                Err(Errno::EAGAIN) => return Ok(None),
                // An error that a former packet caused; the packets themselves tell it too.
                Err(Errno::EINTR | Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        let v4 = |from: &SockaddrStorage| from.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        let v6 = |from: &SockaddrStorage| from.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip()));
        let from = from.as_ref().and_then(|from| v4(from).or_else(|| v6(from)));
        let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Ok(Some(Received { from, bytes: buffer[..len].to_vec() }))
    }
}

/// A raw socket that hears packets of this protocol.
fn hear(destination: IpAddr, protocol: Protocol) -> anyhow::Result<Listener> {
    let (family, number, hears) = match (destination, protocol) {
        (IpAddr::V4(_), Protocol::Tcp(_)) => (AddressFamily::Inet, SockProtocol::Tcp, Hears::Packets),
        (IpAddr::V4(_), _) => (AddressFamily::Inet, SockProtocol::Icmp, Hears::Packets),
        (IpAddr::V6(_), Protocol::Tcp(_)) => (AddressFamily::Inet6, SockProtocol::Tcp, Hears::Payloads(TCP)),
        (IpAddr::V6(_), _) => (AddressFamily::Inet6, SockProtocol::IcmpV6, Hears::Payloads(ICMPV6)),
    };
    let socket = open_socket(family, SockType::Raw, number).context("open a raw socket")?;
    Ok(Listener { socket, hears })
}

fn open_socket(
    family: AddressFamily,
    kind: SockType,
    protocol: impl Into<Option<SockProtocol>>,
) -> io::Result<OwnedFd> {
    Ok(socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?)
}

/// Binds to a free port of `address`.
fn reserve(socket: &OwnedFd, address: IpAddr) -> anyhow::Result<u16> {
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, 0)))
        .with_context(|| format!("bind to {address}"))?;
    let bound: SockaddrStorage = getsockname(socket.as_raw_fd())?;
    let v4 = bound.as_sockaddr_in().map(|it| it.port());
    v4.or_else(|| bound.as_sockaddr_in6().map(|it| it.port())).context("port of a bound socket")
}

/// The address that the kernel's routes choose.
fn source_towards(destination: IpAddr) -> io::Result<IpAddr> {
    let any = match destination {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((destination, 9))?;
    Ok(socket.local_addr()?.ip())
}

/// An IPv6 raw socket hands out what is behind the header; decoding wants one.
fn with_header(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (source, destination) else { return Vec::new() };
    let len = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    let fixed = [0x60, 0, 0, 0, len[0], len[1], protocol, 64];
    [&fixed[..], &source.octets(), &destination.octets(), payload].concat()
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
