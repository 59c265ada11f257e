//! A pair with the host as the router at its other end, and addresses of both families. The Go plugin waits until it is sure of
//! the IPv6 address.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage::{DelLink, DelRoute, NewAddress, NewLink, NewRoute, SetLink};
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteProtocol, RouteScope};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use serde_json::json;

use super::dual::{self, Addresses, EXCLUSIVE, INSIDE, Message, address, route};
use super::{Floor, Network, Scripts, Subject, floor, nothing, peer};
use crate::front::bench::script::{self, Place};

pub(super) const DUAL_STACK: Subject = Subject {
    title: "ptp, both families",
    programs: &[("ptp", "ptp"), ("ipam", "host-local")],
    prepare: nothing,
    chain: |network, _| Ok(vec![json!({ "type": "ptp", "ipam": dual::ipam(network) })]),
    floor: Some(Floor { prepare: nothing, scripts }),
    cases: &[(0, &[1])],
    budgets: &[peer("ADD", 1, 100.0), floor("ADD", 1.5), floor("DEL", 1.5)],
};

fn scripts(network: &Network<'_>, slot: usize) -> anyhow::Result<Scripts> {
    let Network { number, .. } = network;
    let addresses = Addresses::of(network, slot)?;
    let (name, index) =
        (format!("fl{number}x{slot}"), 1_000_000 + 1_000 * u32::from(*number) + u32::try_from(slot)?);
    let mut end = LinkMessageBuilder::<LinkUnspec>::new().name("eth0".to_string()).build();
    end.header.index = INSIDE;
    end.attributes.push(LinkAttribute::NetNsFd(script::NETNS_FD));
    let mut pair = LinkVeth::new(&name, "eth0").set_info_data(InfoData::Veth(InfoVeth::Peer(end))).build();
    pair.header.index = index;
    let alias = LinkAttribute::IfAlias(format!("floor:{name}"));
    let finish = LinkUnspec::new_with_index(index).append_extra_attribute(alias).up().build();

    let mut add = script::part(Place::Host, &[(NewLink(pair), EXCLUSIVE)]);
    add.extend(script::part(Place::Host, &[vec![(SetLink(finish), 0)], router(index, &addresses)].concat()));
    let inside = [addresses.bring_up(INSIDE), through_the_host(&addresses), addresses.default_routes()];
    add.extend(script::part(Place::Container, &inside.concat()));
    let mut link = LinkMessage::default();
    link.header.index = index;
    let del = script::part(Place::Host, &[(DelLink(link), 0)]);
    Ok(Scripts { add, del, address: addresses.v4.to_string() })
}

/// Of each family: the container's address, the gateway's, and the lengths of a prefix of one and of the subnet's.
fn families(of: &Addresses) -> [(IpAddr, IpAddr, u8, u8); 2] {
    [(of.v4.into(), of.gateways.0.into(), 32, 16), (of.v6.into(), of.gateways.1.into(), 128, 64)]
}

fn router(index: u32, addresses: &Addresses) -> Vec<Message> {
    let of = |(own, gateway, alone, _)| {
        [
            (NewAddress(address(index, gateway, alone)), EXCLUSIVE),
            (NewRoute(route(index, own, alone, None)), EXCLUSIVE),
        ]
    };
    families(addresses).into_iter().flat_map(of).collect()
}

/// The subnet leads through the gateway in place of to the link.
fn through_the_host(addresses: &Addresses) -> Vec<Message> {
    let of = |(own, gateway, alone, subnet)| {
        let mut connected = route(INSIDE, own, subnet, None);
        connected.header.protocol = RouteProtocol::Kernel;
        connected.header.scope = if own.is_ipv4() { RouteScope::Link } else { RouteScope::Universe };
        [
            (DelRoute(connected), 0),
            (NewRoute(route(INSIDE, gateway, alone, None)), EXCLUSIVE),
            (NewRoute(route(INSIDE, own, subnet, Some(gateway))), EXCLUSIVE),
        ]
    };
    families(addresses).into_iter().flat_map(of).collect()
}
