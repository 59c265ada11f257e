//! The probe: a packet that can be told from all others wherever it is seen, in a tunnel, behind NAT, and in the
//! answers it causes. Builds and recognises; knows no socket and no namespace.
//!
//! The mark is 16 bytes at the start of an ICMP or UDP payload: 8 that are always the same, 3 of this run, the number
//! of the probe times 4, 4 more of this run. In TCP the 3 bytes and the number are the sequence number.

use std::{fmt, fs::File, io, io::Read, net::IpAddr, str::FromStr};

use etherparse::PacketBuilder;
use serde::{Deserialize, Serialize};

use crate::packet::{Ip, Packet, TcpFlags, Transport};

/// What tells the probes of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What the kernel side looks for.
    pub key: [u8; 3],
    rest: [u8; 4],
}

/// The start of every payload.
pub const CONSTANT: [u8; 8] = *b"TenonTrc";

/// Length of the whole mark.
pub const MARK_LEN: usize = 16;

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Echo request.
    Icmp,
    /// SYN to this port.
    Tcp(u16),
    /// A datagram to this port.
    Udp(u16),
}

/// Which way a packet of the probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the source to the destination.
    Request,
    /// The answer.
    Reply,
    /// An ICMP error about the request.
    Error,
    /// The reset by which our own host ends the handshake that the probe began.
    Cleanup,
}

/// A packet that belongs to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// Number of the probe in its run, from 0.
    pub number: u8,
    pub direction: Direction,
}

/// Between which ends a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Source port; of ICMP the identifier.
    pub port: u16,
}

impl Mark {
    /// A new one that nobody else has.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 7];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let [a, b, c, rest @ ..] = bytes;
        Ok(Self { key: [a, b, c], rest })
    }

    /// The payload of probe `number`, `len` bytes long but never shorter than the mark.
    pub fn payload(&self, number: u8, len: usize) -> Vec<u8> {
        let [a, b, c] = self.key;
        let mut bytes = [&CONSTANT[..], &[a, b, c, number << 2], &self.rest].concat();
        bytes.resize(len.max(MARK_LEN), b'.');
        bytes
    }

    /// The sequence number of probe `number`. Four apart, so that an acknowledgment (one more) is not the next probe.
    pub fn sequence(&self, number: u8) -> u32 {
        let [a, b, c] = self.key;
        u32::from_be_bytes([a, b, c, number << 2])
    }

    /// The IP packet of probe `number`: `payload_len` bytes behind the transport header, TTL 64, not to be fragmented.
    pub fn packet(&self, number: u8, protocol: Protocol, ends: Ends, payload_len: usize) -> Vec<u8> {
        let builder = match (ends.source, ends.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                PacketBuilder::ipv6(source.octets(), destination.octets(), TTL)
            }
            (source, destination) => PacketBuilder::ipv4(v4(source), v4(destination), TTL),
        };
        let payload = self.payload(number, payload_len);
        let mut bytes = Vec::new();
        let written = match protocol {
            Protocol::Icmp if ends.destination.is_ipv6() => {
                builder.icmpv6_echo_request(ends.port, number.into()).write(&mut bytes, &payload)
            }
            Protocol::Icmp => {
                builder.icmpv4_echo_request(ends.port, number.into()).write(&mut bytes, &payload)
            }
            Protocol::Udp(port) => builder.udp(ends.port, port).write(&mut bytes, &payload),
            // A SYN with data would be taken for fast open.
            Protocol::Tcp(port) => {
                builder.tcp(ends.port, port, self.sequence(number), WINDOW).syn().write(&mut bytes, &[])
            }
        };
        written.expect("a payload of at most 64 KiB, into memory");
        bytes
    }

    /// Whether a packet is one of ours, and which.
    pub fn recognise(&self, packet: &Packet) -> Option<Recognised> {
        if let Some(quoted) = &packet.quoted {
            let about = self.recognise(quoted)?;
            return Some(Recognised { direction: Direction::Error, ..about });
        }
        let ip = packet.inner()?;
        match ip.transport {
            Transport::Tcp { flags, sequence, acknowledgment, .. } => {
                self.recognise_segment(flags, sequence, acknowledgment)
            }
            Transport::Udp { .. } => {
                Some(Recognised { number: self.number(&packet.payload)?, direction: Direction::Request })
            }
            Transport::Icmp { kind, .. } => {
                let direction = match kind {
                    0 | 129 => Direction::Reply,
                    _ => Direction::Request,
                };
                Some(Recognised { number: self.number(&packet.payload)?, direction })
            }
            Transport::Other(_) => None,
        }
    }

    fn recognise_segment(&self, flags: TcpFlags, sequence: u32, acknowledgment: u32) -> Option<Recognised> {
        let ours = |value: u32| value.to_be_bytes()[..3] == self.key;
        let number = |value: u32| value.to_be_bytes()[3] >> 2;
        let TcpFlags { syn, ack, rst, .. } = flags;
        if syn && !ack && ours(sequence) {
            return Some(Recognised { number: number(sequence), direction: Direction::Request });
        }
        if ack && (syn || rst) && ours(acknowledgment.wrapping_sub(1)) {
            let number = number(acknowledgment.wrapping_sub(1));
            return Some(Recognised { number, direction: Direction::Reply });
        }
        (rst && ours(sequence.wrapping_sub(1)))
            .then(|| Recognised { number: number(sequence.wrapping_sub(1)), direction: Direction::Cleanup })
    }

    /// The number in a payload that has the mark.
    fn number(&self, payload: &[u8]) -> Option<u8> {
        let payload = payload.get(..MARK_LEN)?;
        // Where nftables cuts a packet short only the first bytes are there; the kernel side has checked no more.
        let is_ours = payload[..8] == CONSTANT && payload[8..11] == self.key && payload[12..] == self.rest;
        is_ours.then(|| payload[11] >> 2)
    }

    /// As [`Mark::recognise`] for a packet of which nftables shows the first 20 bytes behind the IP header.
    pub fn recognise_cut(&self, packet: &Packet) -> Option<Recognised> {
        self.recognise(packet).or_else(|| {
            let payload = packet.payload.get(..12)?;
            let is_ours = payload[..8] == CONSTANT && payload[8..11] == self.key;
            let reply =
                matches!(packet.inner(), Some(Ip { transport: Transport::Icmp { kind: 0 | 129, .. }, .. }));
            let direction = if reply { Direction::Reply } else { Direction::Request };
            is_ours.then(|| Recognised { number: payload[11] >> 2, direction })
        })
    }
}

fn v4(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or([0; 4], |address| address.octets()),
    }
}

const TTL: u8 = 64;
const WINDOW: u16 = 64240;

/// Fourteen hexadecimal digits.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.iter().chain(&self.rest).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Not fourteen hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("mark {0:?} is not 14 hexadecimal digits")]
pub struct MarkError(String);

impl FromStr for Mark {
    type Err = MarkError;

    fn from_str(text: &str) -> Result<Self, MarkError> {
        let bytes = crate::agent::hex::decode(text).and_then(|bytes| <[u8; 7]>::try_from(bytes).ok());
        let [a, b, c, rest @ ..] = bytes.ok_or_else(|| MarkError(text.to_owned()))?;
        Ok(Self { key: [a, b, c], rest })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp => f.write_str("ICMP echo"),
            Self::Tcp(port) => write!(f, "TCP SYN to port {port}"),
            Self::Udp(port) => write!(f, "UDP to port {port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        "a1b2c3d4e5f607".parse().unwrap()
    }

    fn ends(source: &str, destination: &str) -> Ends {
        Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap(), port: 4000 }
    }

    #[test]
    fn what_is_built_is_recognised() {
        for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
            for protocol in [Protocol::Icmp, Protocol::Tcp(80), Protocol::Udp(53)] {
                for number in 0..3 {
                    let ends = ends(source, destination);
                    let bytes = mark().packet(number, protocol, ends, 100);
                    let found = mark().recognise(&Packet::network(0, &bytes));
                    assert_eq!(found, Some(Recognised { number, direction: Direction::Request }));
                    let other: Mark = "a1b2c4d4e5f607".parse().unwrap();
                    assert_eq!(other.recognise(&Packet::network(0, &bytes)), None);
                }
            }
        }
    }

    #[test]
    fn answers_to_a_segment() {
        #[track_caller]
        fn check(flags: &str, sequence: u32, acknowledgment: u32, expected: Option<(u8, Direction)>) {
            let has = |name: &str| flags.contains(name);
            let flags = TcpFlags { syn: has("S"), ack: has("A"), fin: false, rst: has("R") };
            let found = mark().recognise_segment(flags, sequence, acknowledgment);
            assert_eq!(found.map(|it| (it.number, it.direction)), expected);
        }
        let base = mark().sequence(1);
        check("S", base, 0, Some((1, Direction::Request)));
        check("SA", 77, base + 1, Some((1, Direction::Reply)));
        check("RA", 0, base + 1, Some((1, Direction::Reply)));
        check("R", base + 1, 0, Some((1, Direction::Cleanup)));
        check("A", base + 1, 78, None);
    }

    #[test]
    fn text_and_back() {
        assert_eq!(mark().to_string(), "a1b2c3d4e5f607");
        assert!("xyz".parse::<Mark>().is_err());
        assert!("a1b2".parse::<Mark>().is_err());
    }
}
