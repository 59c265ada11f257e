//! Routes. Knows no link but by its index.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
        RouteNextHopFlags, RouteVia,
    },
};

use crate::{
    error::{Error, Result},
    link::LinkIndex,
    netlink::{Netlink, Request},
};

/// A route, as it is to be or as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; host bits are cleared before the kernel sees them.
    pub dst: IpNetwork,
    /// Through which router; of the other family for an IPv4 route through an IPv6 router (RFC 5549).
    pub gateway: Option<IpAddr>,
    /// Through which link.
    pub dev: Option<LinkIndex>,
    /// Source address for what this host sends itself.
    pub source: Option<IpAddr>,
    /// The metric; the lowest wins. The kernel's IPv6 default is 1024.
    pub priority: Option<u32>,
    /// 254 is `main`.
    pub table: u32,
    /// `RT_SCOPE_*`: 0 universe, 253 link, 254 host. IPv6 ignores it.
    pub scope: u8,
    /// Who made it (`RTPROT_*`): 2 kernel, 3 boot, 4 static, 9 ra.
    pub protocol: u8,
    /// What it does with a packet (`RTN_*`): 1 unicast, 2 local, 6 blackhole, 7 unreachable, 9 throw.
    pub kind: u8,
    /// The gateway is reachable on the link though no address of the link says so.
    pub onlink: bool,
    /// `RTAX_MTU`.
    pub mtu: Option<u32>,
    /// `RTAX_ADVMSS`.
    pub advmss: Option<u32>,
    /// Several ways of equal rank, in place of `gateway` and `dev`.
    pub next_hops: Vec<NextHop>,
}

/// One of several ways of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Through which router.
    pub gateway: Option<IpAddr>,
    /// Through which link.
    pub dev: LinkIndex,
    /// 1 to 256.
    pub weight: u16,
    /// As [`Route::onlink`].
    pub onlink: bool,
}

impl Route {
    /// A plain unicast route in the main table, to be completed with struct update syntax. Scope universe and protocol
    /// boot are what the Go netlink library and `ip route` give.
    pub fn to(dst: IpNetwork) -> Self {
        Self {
            dst,
            gateway: None,
            dev: None,
            source: None,
            priority: None,
            table: TABLE_MAIN,
            scope: SCOPE_UNIVERSE,
            protocol: PROTOCOL_BOOT,
            kind: KIND_UNICAST,
            onlink: false,
            mtu: None,
            advmss: None,
            next_hops: Vec::new(),
        }
    }

    /// The route goes everywhere.
    pub fn is_default(&self) -> bool {
        self.dst.prefix() == 0
    }

    fn describe(&self) -> String {
        let mut text = format!("route to {}", self.dst);
        if let Some(gateway) = self.gateway {
            text += &format!(" via {gateway}");
        }
        if self.table != TABLE_MAIN {
            text += &format!(" in table {}", self.table);
        }
        text
    }
}

/// `RT_TABLE_MAIN`.
pub const TABLE_MAIN: u32 = 254;
/// `RT_SCOPE_UNIVERSE`.
pub const SCOPE_UNIVERSE: u8 = 0;
/// `RT_SCOPE_HOST`.
pub const SCOPE_HOST: u8 = 254;
/// `RT_SCOPE_LINK`.
pub const SCOPE_LINK: u8 = 253;
/// `RTPROT_KERNEL`: made with an address.
pub const PROTOCOL_KERNEL: u8 = 2;
/// `RTPROT_BOOT`.
pub const PROTOCOL_BOOT: u8 = 3;
/// `RTPROT_RA`: learned from router advertisements.
pub const PROTOCOL_RA: u8 = 9;
/// `RTN_UNICAST`.
pub const KIND_UNICAST: u8 = 1;

/// Adds a route; it is an error if one with the same destination, table and metric exists.
pub fn add(route: &Route) -> Request {
    request(route, NLM_F_CREATE | NLM_F_EXCL, "add")
}

/// Adds a route, or puts it in place of the one with the same destination, table and metric.
pub fn replace(route: &Route) -> Request {
    request(route, NLM_F_CREATE | NLM_F_REPLACE, "set")
}

/// Adds a route beside others with the same destination, table and metric; the first one is used.
pub fn append(route: &Route) -> Request {
    request(route, NLM_F_CREATE | NLM_F_APPEND, "append")
}

/// Removes the route that agrees in what is given; accepts that there is none.
pub fn remove(route: &Route) -> Request {
    let act = format!("remove {}", route.describe());
    Request::new(RouteNetlinkMessage::DelRoute(encode(route)), 0, act).ok_if_missing()
}

fn request(route: &Route, flags: u16, verb: &str) -> Request {
    let act = format!("{verb} {}", route.describe());
    Request::new(RouteNetlinkMessage::NewRoute(encode(route)), flags, act)
}

/// Which routes [`list`] shows. Kernels from 5.0 on do the filtering, so that a large table costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this table; all tables if `None`.
    pub table: Option<u32>,
    /// Only routes through this link.
    pub dev: Option<LinkIndex>,
    /// Only routes of this origin (`RTPROT_*`).
    pub protocol: Option<u8>,
}

impl Filter {
    fn admits(&self, route: &Route) -> bool {
        let through = |dev| route.dev == Some(dev) || route.next_hops.iter().any(|hop| hop.dev == dev);
        self.table.is_none_or(|table| route.table == table)
            && self.dev.is_none_or(through)
            && self.protocol.is_none_or(|protocol| route.protocol == protocol)
    }
}

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<Family> for AddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Inet,
            Family::V6 => Self::Inet6,
        }
    }
}

pub(crate) fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { Family::V4.into() } else { Family::V6.into() }
}

/// The routes of one family. A table that was never used is empty.
pub fn list(nl: &mut Netlink, family: Family, filter: Filter) -> Result<Vec<Route>> {
    let Filter { table, dev, protocol } = filter;
    let mut message = RouteMessage::default();
    message.header.address_family = family.into();
    message.header.protocol = protocol.unwrap_or_default().into();
    message.attributes.extend(table.map(RouteAttribute::Table));
    message.attributes.extend(dev.map(|dev| RouteAttribute::Oif(dev.into())));
    let replies = match nl.dump(&RouteNetlinkMessage::GetRoute(message), "list routes") {
        Err(err) if table.is_some() && err.is_missing() => Vec::new(),
        replies => replies?,
    };
    Ok(replies.into_iter().filter_map(decode).filter(|route| filter.admits(route)).collect())
}

/// The link of the default route with the lowest metric, in the main table.
pub fn default_link(nl: &mut Netlink, family: Family) -> Result<Option<LinkIndex>> {
    let routes = list(nl, family, Filter { table: Some(TABLE_MAIN), ..Filter::default() })?;
    let usable = routes.iter().filter(|route| route.is_default() && route.kind == KIND_UNICAST);
    let best = usable.min_by_key(|route| route.priority.unwrap_or(0));
    Ok(best.and_then(|route| route.dev.or_else(|| route.next_hops.first().map(|hop| hop.dev))))
}

/// A packet whose way is asked for. What is `None` is not told to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where to.
    pub dst: IpAddr,
    /// Where from.
    pub source: Option<IpAddr>,
    /// The link it comes in by; this host sends it itself if there is none.
    pub iif: Option<LinkIndex>,
    /// Number of the protocol above IP (`IPPROTO_*`): TCP, UDP, ICMP or ICMPv6.
    pub protocol: Option<u8>,
    /// Destination port.
    pub port: Option<u16>,
}

impl Packet {
    /// One that this host sends, to be narrowed with struct update syntax.
    pub fn to(dst: IpAddr) -> Self {
        Self { dst, source: None, iif: None, protocol: None, port: None }
    }
}

/// The route that a packet to `dst` would take now (`ip route get`): gateway, link and source address are resolved.
/// It is an error if there is none (`ENETUNREACH`).
pub fn lookup(nl: &mut Netlink, dst: IpAddr) -> Result<Route> {
    taken(nl, &Packet::to(dst))
}

/// As [`lookup`], of any packet. One that comes in is checked as if it did: `EXDEV` is the reverse path filter's,
/// `EHOSTUNREACH` says that nothing is forwarded or no route is there.
pub fn taken(nl: &mut Netlink, packet: &Packet) -> Result<Route> {
    ask(nl, packet, RouteFlags::empty())
}

/// The entry of the table that decides about a packet, as it was made (`ip route get ... fibmatch`).
pub fn matched(nl: &mut Netlink, packet: &Packet) -> Result<Route> {
    // IPv6 names the table unasked, and refuses the question (inet6_rtm_valid_getroute_req).
    let table = if packet.dst.is_ipv4() { RouteFlags::LookupTable } else { RouteFlags::empty() };
    ask(nl, packet, RouteFlags::FibMatch | table)
}

fn ask(nl: &mut Netlink, packet: &Packet, flags: RouteFlags) -> Result<Route> {
    let Packet { dst, source, iif, protocol, port } = *packet;
    let act = format!("look up route to {dst}");
    let whole = if dst.is_ipv4() { 32 } else { 128 };
    let mut message = RouteMessage::default();
    message.header.address_family = family(dst);
    message.header.destination_prefix_length = whole;
    message.header.source_prefix_length = if source.is_some() { whole } else { 0 };
    message.header.flags = flags;
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(dst.into()));
    attributes.extend(source.map(|source| RouteAttribute::Source(source.into())));
    attributes.extend(iif.map(|iif| RouteAttribute::Iif(iif.into())));
    attributes.extend(protocol.map(RouteAttribute::IpProto));
    attributes.extend(port.map(RouteAttribute::Dport));
    let request = Request::new(RouteNetlinkMessage::GetRoute(message), 0, act.clone());
    let answers = nl.ask(&[request])?;
    if let Some((_, error)) = answers.failures.into_iter().next() {
        return Err(error);
    }
    let route = answers.replies.into_iter().find_map(|(_, message)| decode(message));
    route.ok_or_else(|| Error::malformed(act, "no route in the reply"))
}

fn encode(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family(route.dst.ip()),
        destination_prefix_length: route.dst.prefix(),
        // A table above 255 does not fit here, and is given as an attribute.
        table: u8::try_from(route.table).unwrap_or_default(),
        protocol: route.protocol.into(),
        scope: route.scope.into(),
        kind: route.kind.into(),
        flags: if route.onlink { RouteFlags::Onlink } else { RouteFlags::empty() },
        ..RouteHeader::default()
    };
    let attributes = &mut message.attributes;
    if route.dst.prefix() > 0 {
        attributes.push(RouteAttribute::Destination(route.dst.network().into()));
    }
    attributes.extend(route.gateway.map(|gateway| via(route.dst.ip(), gateway)));
    attributes.extend(route.dev.map(|dev| RouteAttribute::Oif(dev.into())));
    attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(source.into())));
    attributes.extend(route.priority.map(RouteAttribute::Priority));
    if route.table > u32::from(u8::MAX) {
        attributes.push(RouteAttribute::Table(route.table));
    }
    let metrics: Vec<_> =
        route.mtu.map(RouteMetric::Mtu).into_iter().chain(route.advmss.map(RouteMetric::Advmss)).collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    if !route.next_hops.is_empty() {
        let hops = route.next_hops.iter().map(|hop| encode_hop(route.dst.ip(), hop)).collect();
        attributes.push(RouteAttribute::MultiPath(hops));
    }
    message
}

fn encode_hop(dst: IpAddr, hop: &NextHop) -> RouteNextHop {
    let mut encoded = RouteNextHop::default();
    encoded.interface_index = hop.dev.into();
    encoded.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    encoded.flags.set(RouteNextHopFlags::Onlink, hop.onlink);
    encoded.attributes.extend(hop.gateway.map(|gateway| via(dst, gateway)));
    encoded
}

/// `RTA_GATEWAY` within a family, `RTA_VIA` across.
fn via(dst: IpAddr, gateway: IpAddr) -> RouteAttribute {
    if dst.is_ipv4() == gateway.is_ipv4() {
        RouteAttribute::Gateway(gateway.into())
    } else {
        RouteAttribute::Via(gateway.into())
    }
}

/// The route that an event is about, come, changed or gone ([`Netlink::event`]).
pub fn of_event(event: RouteNetlinkMessage) -> Option<Route> {
    match event {
        RouteNetlinkMessage::DelRoute(message) => decode(RouteNetlinkMessage::NewRoute(message)),
        event => decode(event),
    }
}

/// A message that is no route of IPv4 or IPv6 is `None`.
fn decode(message: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    let header = message.header;
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut route = Route {
        table: header.table.into(),
        scope: header.scope.into(),
        protocol: header.protocol.into(),
        kind: header.kind.into(),
        onlink: header.flags.contains(RouteFlags::Onlink),
        ..Route::to(IpNetwork::from(unspecified))
    };
    let mut dst = unspecified;
    for attribute in message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = ip(&address)?,
            RouteAttribute::PrefSource(address) => route.source = ip(&address),
            RouteAttribute::Oif(index) => route.dev = Some(index.into()),
            RouteAttribute::Priority(priority) => route.priority = Some(priority),
            RouteAttribute::Table(table) => route.table = table,
            RouteAttribute::Metrics(metrics) => decode_metrics(&mut route, &metrics),
            RouteAttribute::MultiPath(hops) => route.next_hops = hops.iter().map(decode_hop).collect(),
            other => route.gateway = route.gateway.or_else(|| gateway(&other)),
        }
    }
    route.dst = IpNetwork::new(dst, header.destination_prefix_length).ok()?;
    Some(route)
}

fn decode_metrics(route: &mut Route, metrics: &[RouteMetric]) {
    for metric in metrics {
        match metric {
            RouteMetric::Mtu(mtu) => route.mtu = Some(*mtu),
            RouteMetric::Advmss(advmss) => route.advmss = Some(*advmss),
            _ => {}
        }
    }
}

fn decode_hop(hop: &RouteNextHop) -> NextHop {
    NextHop {
        gateway: hop.attributes.iter().find_map(gateway),
        dev: hop.interface_index.into(),
        weight: u16::from(hop.hops) + 1,
        onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
    }
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
