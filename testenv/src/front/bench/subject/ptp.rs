//! A pair with the host as the router at its other end, and addresses of both families. The Go plugin waits until it is sure of
//! the IPv6 address.

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_route::RouteNetlinkMessage::{DelLink, DelRoute, GetLink, NewAddress, NewLink, NewRoute};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkMessage,
};
use netlink_packet_route::route::{RouteProtocol, RouteScope};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use serde_json::json;

use super::dual::{self, Addresses, EXCLUSIVE, INSIDE, Message, address, route};
use super::{Floor, Network, Scripts, Subject, floor, nothing, peer, questions};
use crate::front::bench::script::{self, Place};

pub(super) const DUAL_STACK: Subject = Subject {
    title: "ptp, both families",
    programs: &[("ptp", "ptp"), ("ipam", "host-local")],
    prepare: nothing,
    needs: None,
    beside: true,
    chain: |network, _| Ok(vec![json!({ "type": "ptp", "ipam": dual::ipam(network) })]),
    floor: Some(Floor { prepare: nothing, scripts }),
    cases: &[(0, &[1])],
    budgets: &[peer("ADD", 1, 100.0), floor("ADD", 1.5), floor("DEL", 1.5)],
};

/// The kernel is asked what the plugin asks it, and told all that an attachment is: a pair with known MAC addresses; the host's end named after its owner, up, with a
/// link-local address of its own, the gateways' and routes; the container's end up, with addresses and routes; and, once
/// the host's end has been seen to pass packets, the announcement.
fn scripts(network: &Network<'_>, slot: usize) -> anyhow::Result<Scripts> {
    let Network { number, .. } = network;
    let (addresses, low) = (Addresses::of(network, slot)?, u8::try_from(slot)?);
    let (name, index) =
        (format!("fl{number}x{slot}"), 1_000_000 + 1_000 * u32::from(*number) + u32::from(low));
    let mac = |end: u8| [2, *number, low, 0, 0, end];
    let mut end = LinkMessageBuilder::<LinkUnspec>::new().name("eth0".to_string()).build();
    end.header.index = INSIDE;
    end.attributes
        .extend([LinkAttribute::Address(mac(1).to_vec()), LinkAttribute::NetNsFd(script::NETNS_FD)]);
    let mut pair = LinkVeth::new(&name, "eth0")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(end)))
        .append_extra_attribute(LinkAttribute::Address(mac(0).to_vec()))
        .build();
    pair.header.index = index;
    let no_address = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let no_address = dual::change(index, LinkAttribute::AfSpecUnspec(vec![no_address])).build();
    let up = dual::change(index, LinkAttribute::IfAlias(format!("floor:{name}"))).up().build();
    let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into();
    let host = vec![
        (NewLink(no_address), 0),
        (NewLink(up), 0),
        (NewAddress(address(index, link_local, 64)), EXCLUSIVE),
    ];
    let inside = [addresses.bring_up(INSIDE), through_the_host(&addresses), addresses.default_routes()];
    let add = [
        questions::link_named(Place::Container, "eth0"),
        questions::ways_out(),
        script::part(Place::Host, &[(NewLink(pair), EXCLUSIVE), (GetLink(questions::by_index(index)), 0)]),
        script::part(Place::Host, &[host, router(index, &addresses)].concat()),
        dual::prepare_v6(),
        script::part(Place::Container, &inside.concat()),
        questions::link(Place::Host, index),
        dual::announce(INSIDE, mac(1)),
    ];
    let mut link = LinkMessage::default();
    link.header.index = index;
    let del = script::part(Place::Host, &[(DelLink(link), 0)]);
    Ok(Scripts { add: add.concat(), del, address: addresses.v4.to_string() })
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
