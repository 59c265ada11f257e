//! Links, addresses, routes, rules, permanent neighbours and qdiscs of a namespace as lines of text.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage::{
    self, GetAddress, GetLink, GetNeighbour, GetQueueDiscipline, GetRoute, GetRule, NewAddress, NewLink,
    NewNeighbour, NewQueueDiscipline, NewRoute, NewRule,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::tc::{TcAttribute, TcMessage};

use crate::rtnl::Rtnl;

type Names = BTreeMap<u32, String>;

pub(super) fn read() -> io::Result<BTreeSet<String>> {
    let mut rtnl = Rtnl::open()?;
    let links = rtnl.dump(GetLink(LinkMessage::default()))?;
    let names = links.iter().filter_map(link_name).collect();
    let mut lines: BTreeSet<String> = links.iter().filter_map(|part| link(part, &names)).collect();
    for (request, line) in KINDS {
        lines.extend(rtnl.dump(request())?.iter().filter_map(|part| line(part, &names)));
    }
    Ok(lines)
}

type Kind = (fn() -> RouteNetlinkMessage, fn(&RouteNetlinkMessage, &Names) -> Option<String>);

const KINDS: [Kind; 5] = [
    (|| GetAddress(AddressMessage::default()), address),
    (|| GetRoute(RouteMessage::default()), route),
    (|| GetRule(RuleMessage::default()), rule),
    (|| GetNeighbour(NeighbourMessage::default()), neighbour),
    (|| GetQueueDiscipline(TcMessage::default()), qdisc),
];

fn link_name(part: &RouteNetlinkMessage) -> Option<(u32, String)> {
    let NewLink(message) = part else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some((message.header.index, name.clone())),
        _ => None,
    })
}

fn link(part: &RouteNetlinkMessage, names: &Names) -> Option<String> {
    let NewLink(message) = part else { return None };
    let mut words = vec![format!("link {}", name(names, message.header.index))];
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => info.iter().find_map(|part| match part {
            LinkInfo::Kind(kind) => Some(kind.to_string()),
            _ => None,
        }),
        _ => None,
    });
    for attribute in &message.attributes {
        words.push(match attribute {
            LinkAttribute::Mtu(mtu) => format!("mtu {mtu}"),
            LinkAttribute::Controller(index) => format!("master {}", name(names, *index)),
            LinkAttribute::IfAlias(alias) => format!("alias {alias}"),
            // A bridge follows the lowest address among its ports.
            LinkAttribute::Address(mac) if kind.as_deref() != Some("bridge") => format!("mac {}", hex(mac)),
            _ => continue,
        });
    }
    words.sort_unstable_by_key(|word| !word.starts_with("link "));
    words.insert(1, kind.unwrap_or_else(|| "plain".to_string()));
    for (flag, word) in
        [(LinkFlags::Up, "up"), (LinkFlags::Promisc, "promisc"), (LinkFlags::Allmulti, "allmulti")]
    {
        if message.header.flags.contains(flag) {
            words.push(word.to_string());
        }
    }
    Some(words.join(" "))
}

fn address(part: &RouteNetlinkMessage, names: &Names) -> Option<String> {
    let NewAddress(message) = part else { return None };
    if message.header.scope == AddressScope::Link {
        return None;
    }
    let mut found: Option<IpAddr> = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => found = Some(*ip),
            AddressAttribute::Address(ip) => found = found.or(Some(*ip)),
            _ => {}
        }
    }
    let (ip, prefix) = (found?, message.header.prefix_len);
    Some(format!("address {ip}/{prefix} dev {}", name(names, message.header.index)))
}

fn route(part: &RouteNetlinkMessage, names: &Names) -> Option<String> {
    let NewRoute(message) = part else { return None };
    if message.header.protocol == RouteProtocol::Kernel {
        return None;
    }
    let default = if u8::from(message.header.address_family) == 2 { "0.0.0.0" } else { "::" };
    let (mut to, mut words) = (default.to_string(), Vec::new());
    let mut table = u32::from(message.header.table);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => to = route_address(address),
            RouteAttribute::Gateway(address) => words.push(format!("via {}", route_address(address))),
            RouteAttribute::PrefSource(address) => words.push(format!("src {}", route_address(address))),
            RouteAttribute::Oif(index) => words.push(format!("dev {}", name(names, *index))),
            RouteAttribute::Priority(metric) => words.push(format!("metric {metric}")),
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Metrics(metrics) => words.push(format!("{metrics:?}")),
            RouteAttribute::MultiPath(hops) => words.push(format!("{hops:?}")),
            RouteAttribute::Encap(encap) => words.push(format!("{encap:?}")),
            _ => {}
        }
    }
    words.sort_unstable();
    let length = message.header.destination_prefix_length;
    let (protocol, kind) = (message.header.protocol, message.header.kind);
    Some(format!("route {to}/{length} {} table {table} proto {protocol} {kind:?}", words.join(" ")))
}

fn route_address(address: &RouteAddress) -> String {
    match address {
        RouteAddress::Inet(ip) => ip.to_string(),
        RouteAddress::Inet6(ip) => ip.to_string(),
        other => format!("{other:?}"),
    }
}

fn rule(part: &RouteNetlinkMessage, _: &Names) -> Option<String> {
    let NewRule(message) = part else { return None };
    let mut priority = 0;
    let mut words = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(number) => priority = *number,
            other => words.push(format!("{other:?}")),
        }
    }
    words.sort_unstable();
    let header = &message.header;
    let (family, from, to) = (header.family, header.src_len, header.dst_len);
    Some(format!("rule {priority} {family:?} from/{from} to/{to} {}", words.join(" ")))
}

fn neighbour(part: &RouteNetlinkMessage, names: &Names) -> Option<String> {
    let NewNeighbour(message) = part else { return None };
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let (mut to, mut mac) = (String::new(), String::new());
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => to = ip.to_string(),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => to = ip.to_string(),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = hex(bytes),
            _ => {}
        }
    }
    Some(format!("neighbour {to} {mac} dev {}", name(names, message.header.ifindex)))
}

/// The queues that a link is born with are not told.
fn qdisc(part: &RouteNetlinkMessage, names: &Names) -> Option<String> {
    let NewQueueDiscipline(message) = part else { return None };
    let kind = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    })?;
    let born_with = ["noqueue", "pfifo_fast", "fq_codel", "mq"].contains(&kind);
    let index = u32::try_from(message.header.index).ok()?;
    (!born_with).then(|| format!("qdisc {kind} dev {}", name(names, index)))
}

fn name(names: &Names, index: u32) -> String {
    names.get(&index).cloned().unwrap_or_else(|| format!("#{index}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}
