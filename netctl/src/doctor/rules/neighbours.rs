//! Neighbour tables on bridges against who is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use kernel::{
    link::{Link, LinkIndex},
    mac::MacAddr,
    neighbour,
};

use crate::{
    doctor::{
        Finding, Severity, Spot,
        lost::{Distance, Lost},
        mend::{Mend, table::Change},
    },
    facts::{Facts, space::Space},
};

/// Entries of the host and of containers for an address on their bridge that has another MAC address now.
pub(super) fn neigh_stale(facts: &Facts) -> Vec<Finding> {
    let stations = stations(facts);
    let mut findings = Vec::new();
    for (nth, space) in facts.spaces.iter().enumerate() {
        for entry in &space.neighbours {
            let Some((link, mac)) = space.link_at(entry.link).zip(entry.mac) else { continue };
            let segment = match nth {
                0 if link.is_bridge() => Some(link.index),
                0 => None,
                _ => segment(facts, link),
            };
            let there = segment.and_then(|segment| stations.get(&(segment, entry.address)));
            let Some(has) = there.filter(|macs| !macs.contains(&mac)).and_then(|macs| macs.first()) else {
                continue;
            };
            let fixed = entry.state & neighbour::PERMANENT != 0;
            let message = format!("{} has {has}, and {mac} is in the table", entry.address);
            let cause = match fixed {
                true => "a fixed entry of a former holder",
                false => "the former holder's; the kernel asks again when it is used and nobody answers",
            };
            let severity = if fixed { Severity::Error } else { Severity::Warning };
            let found = Finding::new(spot(space, &link.name), message, cause).severity(severity);
            let (device, change) = (link.name.clone(), Change::NoNeighbour { address: entry.address });
            let found = found.mend(Mend::Table { place: space.place.clone(), device, change });
            findings.push(with_losses(facts, found, nth, link, entry.address));
        }
    }
    findings
}

/// The host does not find the container with that address, or the container not whom it looks for, which may be its gateway.
fn with_losses(facts: &Facts, mut found: Finding, nth: usize, link: &Link, address: IpAddr) -> Finding {
    let gateway = Lost::Of { is_ipv4: address.is_ipv4(), from: Distance::Gateway };
    for attached in &facts.attachments {
        if nth == 0 && attached.addresses().iter().any(|own| own.ip() == address) {
            found = found.loses(attached, gateway.clone());
        }
        if nth > 0 && attached.space == Some(nth) && attached.key.ifname.as_str() == link.name {
            let is_gateway = facts.host().addresses.iter().any(|it| it.network.ip() == address);
            found =
                found.loses(attached, if is_gateway { gateway.clone() } else { Lost::To(address.into()) });
        }
    }
    found
}

fn spot(space: &Space, device: &str) -> Spot {
    Spot::inside(&space.place.name, device)
}

/// The bridge that a container's interface hangs on.
fn segment(facts: &Facts, inside: &Link) -> Option<LinkIndex> {
    facts.host().other_end(inside)?.master
}

/// Who has an address on a bridge.
fn stations(facts: &Facts) -> BTreeMap<(LinkIndex, IpAddr), BTreeSet<MacAddr>> {
    let mut stations: BTreeMap<(LinkIndex, IpAddr), BTreeSet<MacAddr>> = BTreeMap::new();
    let mut note = |segment: LinkIndex, space: &Space, link: &Link| {
        for address in space.addresses_of(link) {
            stations.entry((segment, address.ip())).or_default().extend(link.mac);
        }
    };
    for space in facts.spaces.iter().skip(1) {
        for link in &space.links {
            if let Some(segment) = segment(facts, link) {
                note(segment, space, link);
            }
        }
    }
    let host = facts.host();
    host.links.iter().filter(|link| link.is_bridge()).for_each(|link| note(link.index, host, link));
    stations
}
