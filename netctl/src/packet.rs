//! What the first bytes of a packet say, in layers and in one line of text. Knows no probe and no place.
//!
//! Packets may be cut short: what is there is decoded, and nothing here fails.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use etherparse::{
    ArpPacketSlice, EtherType, IpNumber, LaxIpSlice, LaxNetSlice, LaxSlicedPacket, TransportSlice, ip_number,
};

/// A packet, outermost header first; what a tunnel carries follows in the next layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Empty when nothing is understood.
    pub layers: Vec<Layer>,
    /// What an ICMP error quotes of the packet it is about.
    pub quoted: Option<Box<Self>>,
    /// Where in the bytes the innermost payload is.
    pub payload: Vec<u8>,
}

/// One network header and what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// IPv4 or IPv6.
    Ip(Ip),
    /// Who has this address, or has it changed.
    Arp {
        /// A question, else an answer.
        request: bool,
        /// Who speaks.
        sender: Ipv4Addr,
        /// About whom.
        target: Ipv4Addr,
    },
}

/// An IP header and the transport header behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Identification field of IPv4.
    pub fragment: bool,
    pub transport: Transport,
    /// The tunnel that the next layer is in.
    pub tunnel: Option<Tunnel>,
}

/// A transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp {
        source: u16,
        destination: u16,
        flags: TcpFlags,
        sequence: u32,
        acknowledgment: u32,
    },
    Udp {
        source: u16,
        destination: u16,
    },
    Icmp {
        v6: bool,
        kind: u8,
        code: u8,
        id: u16,
        sequence: u16,
    },
    /// A protocol we do not look into, by number.
    Other(u8),
}

/// The flags that say what a segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
}

/// How the next layer is wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// RFC 7348, with its network identifier.
    Vxlan(u32),
    /// RFC 8926, likewise.
    Geneve(u32),
    /// IP in IP, RFC 2003 and RFC 2473.
    Ip,
}

impl Packet {
    /// Decodes a frame that begins with an Ethernet header.
    pub fn ethernet(bytes: &[u8]) -> Self {
        let mut packet = Self::default();
        packet.read_ethernet(bytes);
        packet
    }

    /// Decodes from the network header on; `protocol` is its EtherType, 0 if only the bytes tell.
    pub fn network(protocol: u16, bytes: &[u8]) -> Self {
        let mut packet = Self::default();
        if EtherType(protocol) == EtherType::ARP {
            packet.read_arp(bytes);
        } else {
            packet.read_ip(bytes);
        }
        packet
    }

    /// The innermost IP header.
    pub fn inner(&self) -> Option<&Ip> {
        self.layers.iter().rev().find_map(|layer| match layer {
            Layer::Ip(ip) => Some(ip),
            Layer::Arp { .. } => None,
        })
    }

    /// Whether a tunnel wraps the innermost header.
    pub fn is_wrapped(&self) -> bool {
        self.layers.len() > 1
    }

    fn read_ethernet(&mut self, bytes: &[u8]) {
        let Ok(sliced) = LaxSlicedPacket::from_ethernet(bytes) else { return };
        match &sliced.net {
            Some(LaxNetSlice::Arp(arp)) => self.push_arp(arp),
            // Ethernet header and tags are what is before the network header.
            Some(_) => {
                let rest = sliced.link.as_ref().map_or(0, |_| 14)
                    + sliced.link_exts.iter().map(|ext| ext.header_len()).sum::<usize>();
                self.read_ip(bytes.get(rest..).unwrap_or_default());
            }
            None => {}
        }
    }

    fn read_arp(&mut self, bytes: &[u8]) {
        if let Ok(arp) = ArpPacketSlice::from_slice(bytes) {
            self.push_arp(&arp);
        }
    }

    fn push_arp(&mut self, arp: &ArpPacketSlice<'_>) {
        let address = |octets: &[u8]| <[u8; 4]>::try_from(octets).map(Ipv4Addr::from);
        let (sender, target) = (address(arp.sender_protocol_addr()), address(arp.target_protocol_addr()));
        if let (Ok(sender), Ok(target)) = (sender, target) {
            let request = arp.operation() == etherparse::ArpOperation::REQUEST;
            self.layers.push(Layer::Arp { request, sender, target });
        }
    }

    fn read_ip(&mut self, bytes: &[u8]) {
        // Tunnels in tunnels end somewhere.
        if self.layers.len() >= 4 {
            return;
        }
        let Ok((slice, _)) = LaxIpSlice::from_slice(bytes) else { return };
        let (ttl, fragment) = match &slice {
            LaxIpSlice::Ipv4(v4) => (v4.header().ttl(), v4.is_payload_fragmented()),
            LaxIpSlice::Ipv6(v6) => (v6.header().hop_limit(), v6.is_payload_fragmented()),
        };
        let payload = slice.payload().payload;
        let number = slice.payload_ip_number();
        let transport = LaxSlicedPacket::from_ip(bytes).ok().and_then(|sliced| sliced.transport);
        let mut ip = Ip {
            source: slice.source_addr(),
            destination: slice.destination_addr(),
            ttl,
            fragment,
            transport: transport.as_ref().map_or(Transport::Other(number.0), read_transport),
            tunnel: None,
        };
        let tunnel = tunnel(number, transport.as_ref(), payload);
        ip.tunnel = tunnel.map(|(tunnel, _)| tunnel);
        self.layers.push(Layer::Ip(ip));
        match (tunnel, transport) {
            (Some((Tunnel::Ip, inner)), _) => self.read_ip(inner),
            (Some((_, inner)), _) => self.read_ethernet(inner),
            (None, Some(transport)) => self.read_payload(&transport),
            (None, None) => self.payload = payload.to_vec(),
        }
    }

    fn read_payload(&mut self, transport: &TransportSlice<'_>) {
        let (payload, is_error) = match transport {
            TransportSlice::Udp(udp) => (udp.payload(), false),
            TransportSlice::Tcp(tcp) => (tcp.payload(), false),
            TransportSlice::Icmpv4(icmp) => (icmp.payload(), matches!(icmp.type_u8(), 3 | 5 | 11 | 12)),
            TransportSlice::Icmpv6(icmp) => (icmp.payload(), icmp.type_u8() < 128),
            TransportSlice::Igmp(_) => (&[][..], false),
        };
        self.payload = payload.to_vec();
        if is_error {
            let mut quoted = Self::default();
            quoted.read_ip(payload);
            self.quoted = Some(Box::new(quoted)).filter(|quoted| !quoted.layers.is_empty());
        }
    }
}

fn read_transport(slice: &TransportSlice<'_>) -> Transport {
    let pair =
        |bytes: [u8; 4]| (u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]]));
    match slice {
        TransportSlice::Udp(udp) => {
            Transport::Udp { source: udp.source_port(), destination: udp.destination_port() }
        }
        TransportSlice::Tcp(tcp) => Transport::Tcp {
            source: tcp.source_port(),
            destination: tcp.destination_port(),
            flags: TcpFlags { syn: tcp.syn(), ack: tcp.ack(), fin: tcp.fin(), rst: tcp.rst() },
            sequence: tcp.sequence_number(),
            acknowledgment: tcp.acknowledgment_number(),
        },
        TransportSlice::Icmpv4(icmp) => {
            let (id, sequence) = pair(icmp.bytes5to8());
            Transport::Icmp { v6: false, kind: icmp.type_u8(), code: icmp.code_u8(), id, sequence }
        }
        TransportSlice::Icmpv6(icmp) => {
            let (id, sequence) = pair(icmp.bytes5to8());
            Transport::Icmp { v6: true, kind: icmp.type_u8(), code: icmp.code_u8(), id, sequence }
        }
        TransportSlice::Igmp(_) => Transport::Other(ip_number::IGMP.0),
    }
}

/// The tunnel a packet is, and what it carries. VXLAN is told by its header, not by its port, which differs.
fn tunnel<'a>(
    number: IpNumber,
    transport: Option<&TransportSlice<'a>>,
    payload: &'a [u8],
) -> Option<(Tunnel, &'a [u8])> {
    if matches!(number, ip_number::IPV4 | ip_number::IPV6) {
        return Some((Tunnel::Ip, payload));
    }
    let Some(TransportSlice::Udp(udp)) = transport else { return None };
    let payload = udp.payload();
    let &[flags, options, _, _, vni_a, vni_b, vni_c, last, ..] = payload else { return None };
    let vni = u32::from_be_bytes([0, vni_a, vni_b, vni_c]);
    if udp.destination_port() == GENEVE_PORT {
        let header = 8 + 4 * usize::from(flags & 0x3f);
        return payload.get(header..).map(|inner| (Tunnel::Geneve(vni), inner));
    }
    // Only the I flag may be set, all reserved bits are 0 (RFC 7348 section 5).
    let is_vxlan = flags == 0x08 && options == 0 && last == 0 && payload.len() >= 8 + 14 + 20;
    is_vxlan.then(|| (Tunnel::Vxlan(vni), &payload[8..]))
}

const GENEVE_PORT: u16 = 6081;

/// Outer addresses in brackets behind the inner packet: what people look for comes first.
impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((last, outer)) = self.layers.split_last() else { return f.write_str("not understood") };
        write!(f, "{last}")?;
        if let Some(quoted) = &self.quoted {
            write!(f, " about [{quoted}]")?;
        }
        for layer in outer.iter().rev() {
            match layer {
                Layer::Ip(Ip { tunnel: Some(tunnel), source, destination, transport, .. }) => {
                    let port = match transport {
                        Transport::Udp { destination, .. } => format!(":{destination}"),
                        _ => String::new(),
                    };
                    write!(f, " in {tunnel} {source} > {destination}{port}")?;
                }
                layer => write!(f, " in {layer}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Arp { request: true, sender, target } => write!(f, "ARP who has {target}, asks {sender}"),
            Self::Arp { request: false, sender, .. } => write!(f, "ARP {sender} is here"),
        }
    }
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, destination, transport, .. } = self;
        match transport.ports() {
            Some((from, to)) => {
                write!(f, "{} > {}", endpoint(*source, from), endpoint(*destination, to))?;
            }
            None => write!(f, "{source} > {destination}")?,
        }
        write!(f, " {transport}")?;
        if self.fragment { f.write_str(" fragment") } else { Ok(()) }
    }
}

fn endpoint(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

impl Transport {
    /// Source and destination port.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match *self {
            Self::Tcp { source, destination, .. } | Self::Udp { source, destination } => {
                Some((source, destination))
            }
            Self::Icmp { .. } | Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Tcp { flags, .. } => write!(f, "TCP {flags}"),
            Self::Udp { .. } => f.write_str("UDP"),
            Self::Icmp { v6, kind, code, .. } => f.write_str(&icmp_name(v6, kind, code)),
            Self::Other(number) => match IpNumber(number).keyword_str() {
                Some(name) => f.write_str(name),
                None => write!(f, "protocol {number}"),
            },
        }
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { syn, ack, fin, rst } = *self;
        let names = [(syn, "SYN"), (fin, "FIN"), (rst, "RST"), (ack, "ACK")];
        let set: Vec<_> = names.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        f.write_str(&if set.is_empty() { "data".to_owned() } else { set.join("-") })
    }
}

/// RFC 792 and RFC 4443, the ones that people meet.
fn icmp_name(v6: bool, kind: u8, code: u8) -> String {
    let name = match (v6, kind, code) {
        (false, 8, _) | (true, 128, _) => "ICMP echo request",
        (false, 0, _) | (true, 129, _) => "ICMP echo reply",
        (false, 3, 0) | (true, 1, 0) => "ICMP network unreachable",
        (false, 3, 1) | (true, 1, 3) => "ICMP host unreachable",
        (false, 3, 3) | (true, 1, 4) => "ICMP port unreachable",
        (false, 3, 4) => "ICMP fragmentation needed",
        (true, 2, _) => "ICMP packet too big",
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => "ICMP administratively prohibited",
        (false, 11, _) | (true, 3, _) => "ICMP time exceeded",
        (true, 135, _) => "ICMP neighbour solicitation",
        (true, 136, _) => "ICMP neighbour advertisement",
        (true, 133, _) => "ICMP router solicitation",
        (true, 134, _) => "ICMP router advertisement",
        _ => return format!("ICMP{} type {kind} code {code}", if v6 { "v6" } else { "" }),
    };
    name.to_owned()
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vxlan(vni) => write!(f, "VXLAN {vni}"),
            Self::Geneve(vni) => write!(f, "Geneve {vni}"),
            Self::Ip => f.write_str("IP"),
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn written(builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        builder.write(&mut bytes, payload).unwrap();
        bytes
    }

    fn echo() -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 1, 2], [10, 0, 2, 3], 63)
            .icmpv4_echo_request(7, 1)
            .write(&mut bytes, b"mark")
            .unwrap();
        bytes
    }

    #[track_caller]
    fn check(packet: &Packet, expected: &str) {
        assert_eq!(packet.to_string(), expected);
    }

    #[test]
    fn plain_packets() {
        let packet = Packet::ethernet(&echo());
        check(&packet, "10.0.1.2 > 10.0.2.3 ICMP echo request");
        assert_eq!(packet.payload, b"mark");
        check(&Packet::network(0x0800, &echo()[14..]), "10.0.1.2 > 10.0.2.3 ICMP echo request");
        let v6 = PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 64).udp(5, 53);
        let expected =
            "[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:5 > [fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe]:53 UDP";
        check(&Packet::network(0x86dd, &written(v6, b"")), expected);
    }

    #[test]
    fn tunnels() {
        let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &echo()].concat();
        let outer = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .udp(50000, 8472);
        let packet = Packet::ethernet(&written(outer, &vxlan));
        check(&packet, "10.0.1.2 > 10.0.2.3 ICMP echo request in VXLAN 42 192.0.2.1 > 192.0.2.2:8472");
        assert_eq!(packet.inner().unwrap().ttl, 63);
        assert_eq!(packet.payload, b"mark");
    }

    #[test]
    fn errors_quote_what_they_are_about() {
        let about = echo()[14..].to_vec();
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([10, 0, 1, 1], [10, 0, 1, 2], 64)
            .icmpv4_raw(3, 13, [0; 4])
            .write(&mut bytes, &about)
            .unwrap();
        let packet = Packet::network(0x0800, &bytes);
        check(
            &packet,
            "10.0.1.1 > 10.0.1.2 ICMP administratively prohibited about [10.0.1.2 > 10.0.2.3 ICMP echo request]",
        );
        assert_eq!(packet.quoted.unwrap().payload, b"mark");
    }

    #[test]
    fn any_cut_is_decoded_without_panic() {
        let vxlan = [&[8, 0, 0, 0, 0, 0, 42, 0][..], &echo()].concat();
        let outer = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
            .udp(50000, 8472);
        let whole = written(outer, &vxlan);
        for end in 0..whole.len() {
            let _ = Packet::ethernet(&whole[..end]).to_string();
        }
    }
}
