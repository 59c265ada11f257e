//! A macvlan with addresses of both families. The Go plugin waits until it is sure of the IPv6 address.

use netlink_packet_route::RouteNetlinkMessage::{DelLink, NewLink};
use netlink_packet_route::link::{LinkAttribute, LinkMessage, MacVlanMode};
use rtnetlink::LinkMacVlan;
use serde_json::json;

use super::dual::{self, Addresses, EXCLUSIVE, INSIDE};
use super::{Floor, Network, Scripts, Subject, floor, nothing, peer, questions};
use crate::front::bench::script::{self, Place};

pub(super) const DUAL_STACK: Subject = Subject {
    title: "macvlan, both families",
    programs: &[("macvlan", "macvlan"), ("ipam", "host-local")],
    prepare: dual::wire,
    needs: None,
    beside: true,
    chain: |network, _| {
        Ok(vec![json!({ "type": "macvlan", "master": network.name, "ipam": dual::ipam(network) })])
    },
    floor: Some(Floor { prepare: nothing, scripts }),
    cases: &[(0, &[1])],
    budgets: &[peer("ADD", 1, 100.0), floor("ADD", 1.5), floor("DEL", 1.5)],
};

/// The kernel is asked what the plugin asks it, and told all that an attachment is: born in the container with a known MAC address, named after its owner, up, with
/// addresses and routes; and the announcement.
fn scripts(network: &Network<'_>, slot: usize) -> anyhow::Result<Scripts> {
    let addresses = Addresses::of(network, slot)?;
    let mac = [2, network.number, u8::try_from(slot)?, 0, 0, 1];
    let mut born = LinkMacVlan::new("eth0", dual::link(network)?, MacVlanMode::Bridge)
        .append_extra_attribute(LinkAttribute::Address(mac.to_vec()))
        .append_extra_attribute(LinkAttribute::NetNsFd(script::NETNS_FD))
        .build();
    born.header.index = INSIDE;
    let alias =
        dual::change(INSIDE, LinkAttribute::IfAlias(format!("floor:{}:{slot}", network.name))).build();
    let inside = [addresses.bring_up(INSIDE), vec![(NewLink(alias), 0)], addresses.default_routes()];
    let add = [
        questions::link_named(Place::Container, "eth0"),
        questions::link_named(Place::Host, &network.name),
        script::part(Place::Host, &[(NewLink(born), EXCLUSIVE)]),
        questions::link_named(Place::Container, "eth0"),
        dual::prepare_v6(),
        script::part(Place::Container, &inside.concat()),
        dual::announce(INSIDE, mac),
    ];
    let mut link = LinkMessage::default();
    link.header.index = INSIDE;
    let del = script::part(Place::Container, &[(DelLink(link), 0)]);
    Ok(Scripts { add: add.concat(), del, address: addresses.v4.to_string() })
}
