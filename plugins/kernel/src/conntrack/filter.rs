//! Which connections: conditions that all have to hold.

use std::{fmt, net::IpAddr};

use netlink_packet_core::{DefaultNla, Emitable, NLA_F_NESTED};
use netlink_packet_netfilter::{
    NetfilterProtoFamily,
    conntrack::{IPTuple, ProtoTuple, Protocol, Tuple},
};

use super::Flow;

/// Conditions on a connection; what is `None` does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Who sent the first packet.
    pub source: Option<IpAddr>,
    /// Where the first packet was sent, before any translation.
    pub destination: Option<IpAddr>,
    /// The port it was sent to, before any translation.
    pub destination_port: Option<u16>,
    /// Who answers: the container behind a published port.
    pub reply_source: Option<IpAddr>,
    /// The port that answers.
    pub reply_source_port: Option<u16>,
    /// Whom the answers are sent to: the host's address where the connection is masqueraded.
    pub reply_destination: Option<IpAddr>,
    /// The zone.
    pub zone: Option<u16>,
}

impl Filter {
    /// Those whose first packet went to a published port; `address` of `None` is any of the host's.
    pub fn to_port(protocol: u8, address: Option<IpAddr>, port: u16) -> Self {
        Self {
            protocol: Some(protocol),
            destination: address,
            destination_port: Some(port),
            ..Self::default()
        }
    }

    /// Those answered by this address, whatever they were sent to.
    pub fn answered_by(address: IpAddr) -> Self {
        Self { reply_source: Some(address), ..Self::default() }
    }

    /// Those that this address began.
    pub fn begun_by(address: IpAddr) -> Self {
        Self { source: Some(address), ..Self::default() }
    }

    pub(super) fn matches(&self, flow: &Flow) -> bool {
        let Self {
            protocol,
            source,
            destination,
            destination_port,
            reply_source,
            reply_source_port,
            reply_destination,
            zone,
        } = self;
        is(protocol, flow.protocol)
            && is(source, flow.original.source)
            && is(destination, flow.original.destination)
            && is(destination_port, flow.original.destination_port)
            && is(reply_source, flow.reply.source)
            && is(reply_source_port, flow.reply.source_port)
            && is(reply_destination, flow.reply.destination)
            && is(zone, flow.zone)
    }

    /// The IP versions in which there can be any.
    pub(super) fn families(&self) -> Vec<NetfilterProtoFamily> {
        let allows = |v4| self.addresses().iter().flatten().all(|address| address.is_ipv4() == v4);
        let families = [(true, NetfilterProtoFamily::IPv4), (false, NetfilterProtoFamily::IPv6)];
        families.into_iter().filter(|(v4, _)| allows(*v4)).map(|(_, family)| family).collect()
    }

    fn addresses(&self) -> [Option<IpAddr>; 4] {
        [self.source, self.destination, self.reply_source, self.reply_destination]
    }

    /// The conditions that the kernel can test while it walks the table (CTA_FILTER, Linux 5.8; older ones ignore it).
    ///
    /// Never an IPv6 address: the kernel then lets through, or flushes, what does *not* match (the result of
    /// ipv6_addr_cmp is taken for its opposite in ctnetlink_filter_match_tuple; seen on Linux 6.18).
    ///
    /// Plain attributes: ConntrackAttribute would drop the flag that marks the filter as nested, and the kernel insists.
    pub(super) fn attributes(&self) -> Vec<DefaultNla> {
        let v4 = |address: Option<IpAddr>| address.filter(IpAddr::is_ipv4);
        let original = Direction {
            source: v4(self.source),
            destination: v4(self.destination),
            protocol: self.protocol,
            source_port: None,
            destination_port: self.destination_port,
        };
        let reply = Direction {
            source: v4(self.reply_source),
            destination: v4(self.reply_destination),
            // A port means nothing without the protocol (ctnetlink_parse_tuple_filter).
            protocol: self.protocol.filter(|_| self.reply_source_port.is_some()),
            source_port: self.reply_source_port,
            destination_port: None,
        };
        let flags = [original.flags(), reply.flags()];
        if flags == [0, 0] {
            return vec![];
        }
        let parts = [(CTA_FILTER_ORIG_FLAGS, flags[0]), (CTA_FILTER_REPLY_FLAGS, flags[1])];
        // These two numbers are in host order, unlike all others.
        let parts = parts.map(|(kind, flags)| DefaultNla::new(kind, flags.to_ne_bytes().to_vec()));
        let mut attributes = vec![nested(CTA_FILTER, parts.as_slice())];
        if flags[0] != 0 {
            attributes.push(nested(CTA_TUPLE_ORIG, original.tuple().as_slice()));
        }
        if flags[1] != 0 {
            attributes.push(nested(CTA_TUPLE_REPLY, reply.tuple().as_slice()));
        }
        attributes
    }

    /// As [`Self::attributes`], where these say all that the filter says.
    pub(super) fn whole(&self) -> Option<Vec<DefaultNla>> {
        let port = self.destination_port.is_some() || self.reply_source_port.is_some();
        let v6 = self.addresses().into_iter().flatten().any(|address| address.is_ipv6());
        let whole = self.zone.is_none() && !v6 && (self.protocol.is_some() || !port);
        whole.then(|| self.attributes())
    }
}

fn nested(kind: u16, attributes: impl Emitable) -> DefaultNla {
    let mut value = vec![0; attributes.buffer_len()];
    attributes.emit(&mut value);
    DefaultNla::new(kind | NLA_F_NESTED, value)
}

fn is<T: PartialEq>(condition: &Option<T>, value: T) -> bool {
    condition.as_ref().is_none_or(|wanted| *wanted == value)
}

/// The conditions on one direction.
struct Direction {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: Option<u8>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

impl Direction {
    fn flags(&self) -> u32 {
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        flag(self.source.is_some(), IP_SRC)
            | flag(self.destination.is_some(), IP_DST)
            | flag(self.protocol.is_some(), PROTO_NUM)
            | flag(self.protocol.is_some() && self.source_port.is_some(), PROTO_SRC_PORT)
            | flag(self.protocol.is_some() && self.destination_port.is_some(), PROTO_DST_PORT)
    }

    fn tuple(&self) -> Vec<Tuple> {
        let addresses =
            [self.source.map(IPTuple::SourceAddress), self.destination.map(IPTuple::DestinationAddress)];
        let protocol = [
            self.protocol.map(|number| ProtoTuple::Protocol(Protocol::from(number))),
            self.source_port.map(ProtoTuple::SourcePort),
            self.destination_port.map(ProtoTuple::DestinationPort),
        ];
        vec![
            Tuple::Ip(addresses.into_iter().flatten().collect()),
            Tuple::Proto(protocol.into_iter().flatten().collect()),
        ]
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.protocol.map(|value| format!("protocol {value}")),
            self.source.map(|value| format!("source {value}")),
            self.destination.map(|value| format!("destination {value}")),
            self.destination_port.map(|value| format!("destination port {value}")),
            self.reply_source.map(|value| format!("reply source {value}")),
            self.reply_source_port.map(|value| format!("reply source port {value}")),
            self.reply_destination.map(|value| format!("reply destination {value}")),
            self.zone.map(|value| format!("zone {value}")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "no condition" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// `enum ctattr_type` and `enum ctattr_filter`
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
/// `CTA_FILTER_F_*` of net/netfilter/nf_conntrack_netlink.c
const IP_SRC: u32 = 1 << 0;
const IP_DST: u32 = 1 << 1;
const PROTO_NUM: u32 = 1 << 3;
const PROTO_SRC_PORT: u32 = 1 << 4;
const PROTO_DST_PORT: u32 = 1 << 5;
