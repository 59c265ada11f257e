//! Rules about addresses: who has them, who is on the books for them, and whether any are left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    net::IpAddr,
};

use crate::{
    doctor::{Finding, Rule, Spot, mend::Mend},
    facts::{
        Facts,
        network::{Network, capacity},
    },
};

pub(super) const DUP_IP: Rule = Rule {
    code: "dup-ip",
    summary: "two interfaces on one network have the same address",
    text: "Neighbours send to whichever answered last, so that connections break now and then. It comes from addresses set by hand, from two runtimes or \
           two networks with books of their own on one bridge, and from restored snapshots.",
    check: dup_ip,
};

pub(super) const DUP_MAC: Rule = Rule {
    code: "dup-mac",
    summary: "two interfaces on one bridge have the same MAC address",
    text: "The bridge sends frames to the port it last heard the address from, so that both lose packets in turn. It comes from a MAC address fixed in \
           configuration or CNI_ARGS, and from cloned machines.",
    check: dup_mac,
};

fn dup_ip(facts: &Facts) -> Vec<Finding> {
    let all = stations(facts);
    let of = all.iter().flat_map(|it| it.addresses.iter().map(move |address| ((it.segment, *address), it)));
    twice(of, |address| format!("{address} is there twice"))
}

fn dup_mac(facts: &Facts) -> Vec<Finding> {
    let all = stations(facts);
    // The host's own interfaces do not send by the container's port.
    let of = all.iter().filter_map(|it| Some(((it.segment, it.mac.clone().filter(|_| !it.is_host)?), it)));
    twice(of, |mac| format!("{mac} is there twice"))
}

/// An interface on a segment: a bridge, or the link below a macvlan.
struct Station<'a> {
    segment: &'a str,
    netns: &'a str,
    device: &'a str,
    addresses: Vec<IpAddr>,
    mac: Option<String>,
    is_host: bool,
}

/// All on segments that have a container, the host's own first.
fn stations(facts: &Facts) -> Vec<Station<'_>> {
    let host = facts.host();
    let mut found: Vec<Station<'_>> = Vec::new();
    let mut segments = BTreeSet::new();
    for space in facts.spaces.iter().skip(1) {
        for inside in &space.links {
            let segment = match host.other_end(inside) {
                Some(near) => near.master.and_then(|master| host.link_at(master)),
                None if inside.kind.as_ref().is_some_and(|kind| kind.name() == "macvlan") => {
                    inside.parent.filter(|_| inside.peer_netnsid.is_some()).and_then(|it| host.link_at(it))
                }
                None => None,
            };
            let Some(segment) = segment else { continue };
            let addresses = |space: &crate::facts::space::Space, link| {
                space.addresses_of(link).iter().map(|it| it.ip()).collect::<Vec<_>>()
            };
            if segments.insert(segment.index) {
                found.push(Station {
                    segment: &segment.name,
                    netns: &host.place.name,
                    device: &segment.name,
                    addresses: addresses(host, segment),
                    mac: None,
                    is_host: true,
                });
            }
            found.push(Station {
                segment: &segment.name,
                netns: &space.place.name,
                device: &inside.name,
                addresses: addresses(space, inside),
                mac: inside.mac.map(|mac| mac.to_string()),
                is_host: false,
            });
        }
    }
    found
}

/// A finding at the last of each group with one key.
fn twice<'a, K: Ord + Display>(
    of: impl Iterator<Item = ((&'a str, K), &'a Station<'a>)>,
    message: impl Fn(&K) -> String,
) -> Vec<Finding> {
    let mut groups: BTreeMap<(&str, K), Vec<&Station<'_>>> = BTreeMap::new();
    for (key, station) in of {
        groups.entry(key).or_default().push(station);
    }
    let several = groups.into_iter().filter(|(_, group)| group.len() > 1);
    let found = several.filter_map(|((segment, key), group)| {
        let name = |it: &&Station<'_>| format!("{}/{}", it.netns, it.device);
        let names: Vec<_> = group.iter().map(name).collect();
        let last = group.last()?;
        let message = format!("{}, on {segment}", message(&key));
        let cause = format!("{} have it", names.join(" and "));
        let found = Finding::new(Spot::inside(last.netns, last.device), message, cause);
        Some(names.iter().fold(found, |found, name| found.evidence(format!("{name}: {key}"))))
    });
    found.collect()
}

pub(super) const IPAM_EXHAUSTED: Rule = Rule {
    code: "ipam-exhausted",
    summary: "a network has no address left to give",
    text: "Every address of a range set is leased, so that the next ADD fails. Either there are as many containers, and the range is too small, or leases \
           are left of containers that are gone (see ipam-leak).",
    check: ipam_exhausted,
};

fn ipam_exhausted(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for network in &facts.networks {
        for set in network.sets() {
            let size = capacity(std::slice::from_ref(set));
            let leased = network
                .leases
                .iter()
                .filter(|(address, _)| set.range_of(*address).is_some() && !set.is_gateway(*address));
            let leased = u64::try_from(leased.count()).unwrap_or(u64::MAX);
            if leased < size {
                continue;
            }
            let message = format!("network {} has no address left in {set}", network.list.name);
            let cause = format!("{leased} of {size} are leased");
            let command = format!("netctl ipam check {}", network.list.name);
            findings
                .push(Finding::new(Spot::conf(&network.list), message, cause).mend(Mend::ByHand(command)));
        }
    }
    findings
}

pub(super) const IPAM_LEAK: Rule = Rule {
    code: "ipam-leak",
    summary: "an address is leased to a container that does not exist",
    text: "host-local's files say that a container holds the address, but neither libcni's cache nor a plugin's record knows such an attachment, and no \
           interface here has the address. It is what remains when a runtime loses its state; enough of it empties the range.",
    check: ipam_leak,
};

fn ipam_leak(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for network in &facts.networks {
        for (address, owner) in facts.leaked(network) {
            let dir = network
                .pool
                .iter()
                .flatten()
                .next()
                .map(|pool| pool.place.leases().join(address.to_string()));
            let spot = Spot { file: dir.map(|file| file.display().to_string()), ..Spot::default() };
            let message =
                format!("network {} holds {address} for a container that is gone", network.list.name);
            let release = Mend::Release { network: network.list.name.to_string(), addresses: vec![address] };
            let cause = format!("leased to {owner}, of which there is no attachment");
            findings.push(Finding::new(spot, message, cause).mend(release));
        }
    }
    findings
}

pub(super) const SUBNET_OVERLAP: Rule = Rule {
    code: "subnet-overlap",
    summary: "two networks, or a network and a route of the host, share addresses",
    text: "Where two ranges overlap, the host has two ways to one address and takes one of them: containers of the other network are out of reach, and so \
           is whatever the host's own route led to (a VPN, the office).",
    check: subnet_overlap,
};

fn subnet_overlap(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (nth, network) in facts.networks.iter().enumerate() {
        let routed = ["bridge", "ptp"].contains(&network.driver.as_str());
        for subnet in network.subnets() {
            let earlier = facts.networks[..nth].iter().filter(|other| {
                other.list.name != network.list.name
                    && (network.master.is_none() || other.master != network.master)
            });
            for other in earlier {
                for theirs in other.subnets().into_iter().filter(|theirs| overlap(*theirs, subnet)) {
                    let (name, other_name) = (&network.list.name, &other.list.name);
                    let message = format!("networks {name} and {other_name} share addresses");
                    let cause = format!("{subnet} of {name} overlaps {theirs} of {other_name}");
                    let file = format!("{}: {theirs}", other.list.file.display());
                    findings.push(Finding::new(Spot::conf(&network.list), message, cause).evidence(file));
                }
            }
            let foreign = facts.host().routes.iter().filter(|route| {
                let host_route = route.dst.prefix() == if route.dst.is_ipv4() { 32 } else { 128 };
                let device = route.dev.and_then(|dev| facts.host().link_at(dev));
                let own = device.is_none_or(|device| {
                    is_own(facts, network, &device.name)
                        || device.is_veth()
                            && device.alias.as_deref().is_some_and(|it| it.starts_with("tenon:"))
                });
                routed && !route.is_default() && !host_route && !own && overlap(route.dst, subnet)
            });
            for route in foreign {
                let device =
                    route.dev.and_then(|dev| facts.host().link_at(dev)).map(|link| link.name.as_str());
                let device = device.unwrap_or_default();
                let message =
                    format!("network {} has addresses that this host reaches by {device}", network.list.name);
                let cause = format!("{subnet} overlaps the route to {} by {device}", route.dst);
                let spot = Spot { device: Some(device.to_owned()), ..Spot::conf(&network.list) };
                findings.push(Finding::new(spot, message, cause));
            }
        }
    }
    findings
}

/// The device is one of a network with these addresses: its own, or of one that overlaps it and is reported as such.
fn is_own(facts: &Facts, network: &Network, device: &str) -> bool {
    let is_bridge = |it: &Network| {
        it.bridge.as_deref().is_some_and(|bridge| {
            device == bridge || device.strip_prefix(bridge).is_some_and(|rest| rest.starts_with('.'))
        })
    };
    is_bridge(network)
        || facts.networks.iter().any(|other| {
            is_bridge(other)
                && other.subnets().iter().any(|it| network.subnets().iter().any(|own| overlap(*it, *own)))
        })
}

fn overlap(a: ipnetwork::IpNetwork, b: ipnetwork::IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}
