//! Which packets to capture, in the words of pcap-filter(7) that people use daily. Looks at every layer, so that a
//! filter for a container's address finds its packets in a tunnel too.

use std::{net::IpAddr, str::FromStr};

use ipnetwork::IpNetwork;

use crate::packet::{Ip, Layer, Packet, Transport};

/// A condition on packets. The default lets all pass.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Filter {
    #[default]
    All,
    Is(Kind),
    Net(Side, IpNetwork),
    Port(Side, u16),
    Not(Box<Self>),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
}

/// A protocol by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tcp,
    Udp,
    Icmp,
    Icmp6,
    Arp,
    Ip4,
    Ip6,
}

/// Which end a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
    Either,
}

/// Not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "filter {text:?}: {why} (known: tcp udp icmp icmp6 arp ip ip6, [src|dst] host|net|port VALUE, and or not ( ))"
)]
pub struct FilterError {
    text: String,
    why: String,
}

impl Filter {
    /// Whether a layer of the packet, or what an ICMP error quotes, meets the condition.
    pub fn matches(&self, packet: &Packet) -> bool {
        match self {
            Self::All => true,
            Self::Not(of) => !of.matches(packet),
            Self::And(a, b) => a.matches(packet) && b.matches(packet),
            Self::Or(a, b) => a.matches(packet) || b.matches(packet),
            simple => {
                packet.layers.iter().any(|layer| simple.holds(layer))
                    || packet.quoted.as_ref().is_some_and(|quoted| self.matches(quoted))
            }
        }
    }

    fn holds(&self, layer: &Layer) -> bool {
        match (self, layer) {
            (Self::Is(Kind::Arp), Layer::Arp { .. }) => true,
            (Self::Net(side, net), Layer::Arp { sender, target, .. }) => {
                side.any((*sender).into(), (*target).into(), |it: IpAddr| net.contains(it))
            }
            (Self::Is(kind), Layer::Ip(ip)) => kind.holds(ip),
            (Self::Net(side, net), Layer::Ip(ip)) => {
                side.any(ip.source, ip.destination, |it| net.contains(it))
            }
            (Self::Port(side, port), Layer::Ip(ip)) => {
                ip.transport.ports().is_some_and(|(from, to)| side.any(from, to, |it| it == *port))
            }
            _ => false,
        }
    }
}

impl Kind {
    fn holds(self, ip: &Ip) -> bool {
        match self {
            Self::Tcp => matches!(ip.transport, Transport::Tcp { .. }),
            Self::Udp => matches!(ip.transport, Transport::Udp { .. }),
            Self::Icmp => matches!(ip.transport, Transport::Icmp { v6: false, .. }),
            Self::Icmp6 => matches!(ip.transport, Transport::Icmp { v6: true, .. }),
            Self::Ip4 => ip.source.is_ipv4(),
            Self::Ip6 => ip.source.is_ipv6(),
            Self::Arp => false,
        }
    }
}

impl Side {
    fn any<T>(self, source: T, destination: T, holds: impl Fn(T) -> bool) -> bool {
        match self {
            Self::Source => holds(source),
            Self::Destination => holds(destination),
            Self::Either => holds(source) || holds(destination),
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('!', " not ");
        let mut words = Words { rest: spaced.split_whitespace().collect(), at: 0 };
        let parsed = if words.rest.is_empty() { Ok(Self::All) } else { words.either() };
        parsed
            .and_then(|filter| match words.next() {
                None => Ok(filter),
                Some(word) => Err(format!("{word:?} is not expected there")),
            })
            .map_err(|why| FilterError { text: text.to_owned(), why })
    }
}

struct Words<'a> {
    rest: Vec<&'a str>,
    at: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let word = self.rest.get(self.at).copied();
        self.at += usize::from(word.is_some());
        word
    }

    fn accept(&mut self, words: &[&str]) -> bool {
        let found = self.rest.get(self.at).is_some_and(|word| words.contains(word));
        self.at += usize::from(found);
        found
    }

    fn either(&mut self) -> Result<Filter, String> {
        let mut filter = self.both()?;
        while self.accept(&["or", "||"]) {
            filter = Filter::Or(Box::new(filter), Box::new(self.both()?));
        }
        Ok(filter)
    }

    fn both(&mut self) -> Result<Filter, String> {
        let mut filter = self.one(0)?;
        // `tcp port 80` is `tcp and port 80`.
        while self.accept(&["and", "&&"]) || (matches!(filter, Filter::Is(_)) && self.value_follows()) {
            filter = Filter::And(Box::new(filter), Box::new(self.one(0)?));
        }
        Ok(filter)
    }

    fn value_follows(&self) -> bool {
        matches!(self.rest.get(self.at), Some(&("src" | "dst" | "port" | "host" | "net")))
    }

    fn one(&mut self, depth: u8) -> Result<Filter, String> {
        if depth > DEEPEST {
            return Err("too many negations".to_owned());
        }
        let side = match self.next().ok_or("a condition is missing")? {
            "not" => return Ok(Filter::Not(Box::new(self.one(depth + 1)?))),
            "(" => return self.bracket(),
            "tcp" => return Ok(Filter::Is(Kind::Tcp)),
            "udp" => return Ok(Filter::Is(Kind::Udp)),
            "icmp" => return Ok(Filter::Is(Kind::Icmp)),
            "icmp6" => return Ok(Filter::Is(Kind::Icmp6)),
            "arp" => return Ok(Filter::Is(Kind::Arp)),
            "ip" => return Ok(Filter::Is(Kind::Ip4)),
            "ip6" => return Ok(Filter::Is(Kind::Ip6)),
            "src" => Side::Source,
            "dst" => Side::Destination,
            _ => {
                self.at -= 1;
                Side::Either
            }
        };
        self.value(side)
    }

    fn bracket(&mut self) -> Result<Filter, String> {
        let open = self.rest[..self.at].iter().filter(|word| **word == "(").count();
        if open > usize::from(DEEPEST) {
            return Err("too many brackets".to_owned());
        }
        let filter = self.either()?;
        if self.accept(&[")"]) { Ok(filter) } else { Err("a bracket is not closed".to_owned()) }
    }

    fn value(&mut self, side: Side) -> Result<Filter, String> {
        let what = self.next().unwrap_or_default();
        let value = match what {
            "port" | "host" | "net" => self.next().ok_or_else(|| format!("value of {what} is missing"))?,
            // `src 10.0.0.1` is `src host 10.0.0.1`.
            value => value,
        };
        if what == "port" {
            let port = value.parse().map_err(|_| format!("port {value:?} is not a number below 65536"))?;
            return Ok(Filter::Port(side, port));
        }
        let net = value.parse().map_err(|_| format!("{value:?} is not an address"))?;
        Ok(Filter::Net(side, net))
    }
}

const DEEPEST: u8 = 32;

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    #[test]
    fn words_of_pcap() {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(4000, 80, 1, 1);
        builder.write(&mut bytes, &[]).unwrap();
        let packet = Packet::network(0x0800, &bytes);
        #[track_caller]
        fn check(packet: &Packet, text: &str, expected: bool) {
            assert_eq!(text.parse::<Filter>().unwrap().matches(packet), expected, "{text}");
        }
        check(&packet, "", true);
        check(&packet, "tcp port 80", true);
        check(&packet, "tcp and port 80", true);
        check(&packet, "udp or dst port 80", true);
        check(&packet, "src port 80", false);
        check(&packet, "src net 10.0.0.0/24 and not udp", true);
        check(&packet, "host 10.0.0.3", false);
        check(&packet, "10.0.0.2", true);
        check(&packet, "!(tcp or udp)", false);
        check(&packet, "udp and tcp or ip", true);
    }

    #[test]
    fn what_is_no_filter_is_told() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let err = text.parse::<Filter>().unwrap_err().to_string();
            assert!(err.contains(expected), "{err}");
        }
        check("port http", "port \"http\"");
        check("tcp and", "a condition is missing");
        check("(tcp", "not closed");
        check("tcp udp", "\"udp\" is not expected");
        check("host nowhere", "\"nowhere\" is not an address");
        check(&"not ".repeat(5000), "too many negations");
        check(&"(".repeat(5000), "too many brackets");
    }
}
