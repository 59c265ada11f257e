//! A device of the host that goes into a container and comes back.

use std::fs;

use anyhow::Context;
use netlink_packet_route::RouteNetlinkMessage::SetLink;
use netlink_packet_route::link::LinkAttribute;
use rtnetlink::LinkUnspec;
use serde_json::json;

use super::dual::{self, Addresses};
use super::{Floor, Network, Scripts, Subject, floor, nothing, peer};
use crate::front::bench::script::{self, Place};

/// The kernel takes most of this time to move a device, which it does for everybody, and twice for the Go plugin: the floor is
/// the measure.
pub(super) const ONE_FAMILY: Subject = Subject {
    title: "host-device",
    programs: PROGRAMS,
    prepare: dual::wire,
    needs: None,
    beside: false,
    chain: |network, _| {
        let mut ipam = dual::ipam(network);
        ipam["ranges"] = json!([ipam["ranges"][0]]);
        ipam["routes"] = json!([ipam["routes"][0]]);
        Ok(vec![json!({ "type": "host-device", "device": network.name, "ipam": ipam })])
    },
    floor: Some(Floor { prepare: nothing, scripts: |network, slot| scripts(network, slot, 1) }),
    cases: &[(0, &[1])],
    budgets: &[floor("ADD", 1.5), floor("DEL", 1.5)],
};

pub(super) const DUAL_STACK: Subject = Subject {
    title: "host-device, both families",
    programs: PROGRAMS,
    prepare: dual::wire,
    needs: None,
    beside: false,
    chain: |network, _| {
        Ok(vec![json!({ "type": "host-device", "device": network.name, "ipam": dual::ipam(network) })])
    },
    floor: Some(Floor { prepare: nothing, scripts: |network, slot| scripts(network, slot, 2) }),
    cases: &[(0, &[1])],
    budgets: &[peer("ADD", 1, 4.0), floor("ADD", 1.5), floor("DEL", 1.5)],
};

const PROGRAMS: &[(&str, &str)] = &[("host", "host-device"), ("ipam", "host-local")];

/// Of the first families, IPv4 before IPv6.
fn scripts(network: &Network<'_>, slot: usize, families: usize) -> anyhow::Result<Scripts> {
    let (addresses, index) = (Addresses::of(network, slot)?, dual::link(network)?);
    let named = |name: &str| LinkUnspec::new_with_index(index).name(name.to_string());
    let alias = LinkAttribute::IfAlias(network.name.clone());
    let away = named("eth0").append_extra_attribute(alias).setns_by_fd(script::NETNS_FD).build();
    let mut add = script::part(Place::Host, &[(SetLink(away), 0)]);
    let (mut inside, mut routes) = (addresses.bring_up(index), addresses.default_routes());
    inside.truncate(1 + families);
    routes.truncate(families);
    add.extend(script::part(Place::Container, &[inside, routes].concat()));
    add.extend(dual::announce(index, mac(network)?));
    // The lab's host is the namespace of this thread.
    let thread = u32::try_from(nix::unistd::gettid().as_raw())?;
    let back = named(&network.name).setns_by_pid(thread).build();
    let mut del = script::part(Place::Container, &[(SetLink(back), 0)]);
    let unmarked = LinkUnspec::new_with_index(index)
        .append_extra_attribute(LinkAttribute::IfAlias(String::new()))
        .up()
        .build();
    del.extend(script::part(Place::Host, &[(SetLink(unmarked), 0)]));
    Ok(Scripts { add, del, address: addresses.v4.to_string() })
}

fn mac(network: &Network<'_>) -> anyhow::Result<[u8; 6]> {
    let file = format!("/sys/class/net/{}/address", network.name);
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let octets: Result<Vec<u8>, _> =
        text.trim().split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    octets?.try_into().ok().with_context(|| format!("read {file}: {text:?}"))
}
