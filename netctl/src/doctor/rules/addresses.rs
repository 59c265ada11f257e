//! Rules about addresses: who has them, who is on the books for them, and whether any are left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::mac::MacAddr;

use crate::{
    agent::place::Place,
    doctor::{
        Finding, Remedy, Rule, Spot,
        lost::{Distance, Lost},
        mend::{Mend, inside},
    },
    facts::{
        Facts,
        attachment::Attached,
        network::{Network, capacity},
    },
};

pub(super) const DUP_IP: Rule = Rule {
    code: "dup-ip",
    summary: "two interfaces on one network have the same address",
    text: "Neighbours send to whichever answered last, so that connections break now and then. It comes from addresses set by hand, from two runtimes or \
           two networks with books of their own on one bridge, and from restored snapshots.",
    remedy: Remedy::Person("which of the two is to keep it is not known"),
    check: dup_ip,
};

pub(super) const DUP_MAC: Rule = Rule {
    code: "dup-mac",
    summary: "two interfaces on one bridge have the same MAC address",
    text: "The bridge sends frames to the port it last heard the address from, so that both lose packets in turn. It comes from a MAC address fixed in \
           configuration or CNI_ARGS, and from cloned machines.",
    remedy: Remedy::Person("which of the two is to keep it is not known"),
    check: dup_mac,
};

fn dup_ip(facts: &Facts) -> Vec<Finding> {
    let all = stations(facts);
    let of = all.iter().flat_map(|it| it.addresses.iter().map(move |own| ((it.segment, own.ip()), it)));
    let found = twice(of).into_iter().map(|(address, mut group)| {
        // Whoever was given it by a plugin has more of a right to it.
        let is_given = |it: &&Station<'_>| it.is_host || it.attached.is_some_and(|it| has(it, address));
        group.sort_by_key(|it| !is_given(it));
        let (found, last) = finding(&address, &group);
        let own = last.addresses.iter().find(|own| own.ip() == address);
        let own = own.map_or_else(|| address.to_string(), ToString::to_string);
        found.mend(Mend::ByHand(format!("{}ip addr del {own} dev {}", inside(last.place), last.device)))
    });
    found.collect()
}

fn has(attached: &Attached, address: IpAddr) -> bool {
    attached.addresses().iter().any(|own| own.ip() == address)
}

fn dup_mac(facts: &Facts) -> Vec<Finding> {
    let all = stations(facts);
    // The host's own interfaces do not send by the container's port.
    let of = all.iter().filter_map(|it| Some(((it.segment, it.mac.filter(|_| !it.is_host)?), it)));
    let found = twice(of).into_iter().map(|(mac, group)| {
        let (found, last) = finding(&mac, &group);
        let command = format!("ip link set {} address {}", last.device, last.another_mac(mac));
        found.mend(Mend::ByHand(format!("{}{command}", inside(last.place))))
    });
    found.collect()
}

/// An interface on a segment: a bridge, or the link below a macvlan.
struct Station<'a> {
    segment: &'a str,
    place: &'a Place,
    device: &'a str,
    addresses: Vec<IpNetwork>,
    mac: Option<MacAddr>,
    is_host: bool,
    attached: Option<&'a Attached>,
}

impl Station<'_> {
    /// As plugins derive one from the IPv4 address; else the next one.
    fn another_mac(&self, mac: MacAddr) -> MacAddr {
        let mut v4 = self.addresses.iter().filter_map(|own| match own.ip() {
            IpAddr::V4(v4) => Some(v4.octets()),
            IpAddr::V6(_) => None,
        });
        let derived = v4.next().map(|[a, b, c, d]| MacAddr([0x0a, 0x58, a, b, c, d]));
        let MacAddr([first, b, c, d, e, last]) = mac;
        derived
            .filter(|it| *it != mac)
            .unwrap_or_else(|| MacAddr([first | 2, b, c, d, e, last.wrapping_add(1)]))
    }
}

/// All on segments that have a container, the host's own first.
fn stations(facts: &Facts) -> Vec<Station<'_>> {
    let host = facts.host();
    let mut found: Vec<Station<'_>> = Vec::new();
    let mut segments = BTreeSet::new();
    let of_place =
        |it| Some(((facts.space(it)?.place.inode, it.key.ifname.as_str()), it)) as Option<(_, &Attached)>;
    let by_place: BTreeMap<_, _> = facts.attachments.iter().filter_map(of_place).collect();
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
            if segments.insert(segment.index) {
                found.push(Station {
                    segment: &segment.name,
                    place: &host.place,
                    device: &segment.name,
                    addresses: host.addresses_of(segment),
                    mac: None,
                    is_host: true,
                    attached: None,
                });
            }
            found.push(Station {
                segment: &segment.name,
                place: &space.place,
                device: &inside.name,
                addresses: space.addresses_of(inside),
                mac: inside.mac,
                is_host: false,
                attached: by_place.get(&(space.place.inode, inside.name.as_str())).copied(),
            });
        }
    }
    found
}

/// The groups of several with one key on one segment.
fn twice<'a, K: Ord>(
    of: impl Iterator<Item = ((&'a str, K), &'a Station<'a>)>,
) -> Vec<(K, Vec<&'a Station<'a>>)> {
    let mut groups: BTreeMap<(&str, K), Vec<&Station<'_>>> = BTreeMap::new();
    for (key, station) in of {
        groups.entry(key).or_default().push(station);
    }
    let several = groups.into_iter().filter(|(_, group)| group.len() > 1);
    several.map(|((_, key), group)| (key, group)).collect()
}

/// A finding at the last of a group, and that one.
fn finding<'a>(key: &impl Display, group: &[&'a Station<'a>]) -> (Finding, &'a Station<'a>) {
    let last = group.last().expect("a group has two");
    let mut names: Vec<_> = group.iter().map(|it| format!("{}/{}", it.place.name, it.device)).collect();
    let message = format!("{key} is there twice, on {}", last.segment);
    let spot = Spot::inside(&last.place.name, last.device);
    names.sort();
    let found = Finding::new(spot, message, format!("{} have it", names.join(" and ")));
    let found = names.iter().fold(found, |found, name| found.evidence(format!("{name}: {key}")));
    let attached = group.iter().filter_map(|it| it.attached);
    (attached.fold(found, |found, it| found.loses(it, Lost::From(Distance::Segment))), last)
}

pub(super) const IPAM_EXHAUSTED: Rule = Rule {
    code: "ipam-exhausted",
    summary: "a network has no address left to give",
    text: "Every address of a range set is leased, so that the next ADD fails. Either there are as many containers, and the range is too small, or leases \
           are left of containers that are gone (see ipam-leak).",
    remedy: Remedy::Person("a larger range is a decision; what leaked is `ipam-leak`"),
    check: ipam_exhausted,
};

fn ipam_exhausted(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for network in &facts.networks {
        for set in network.sets() {
            let size = capacity(std::slice::from_ref(set));
            let leased: Vec<_> = network
                .leases
                .iter()
                .filter(|(address, _)| set.range_of(*address).is_some() && !set.is_gateway(*address))
                .collect();
            let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
            if number(leased.len()) < size {
                continue;
            }
            // Those that are held for nobody are findings themselves.
            let lost = unused(facts, network);
            let used = leased.iter().filter(|(address, _)| !lost.contains(address));
            if number(used.count()) < size {
                continue;
            }
            let leased = leased.len();
            let message = format!("network {} has no address left in {set}", network.list.name);
            let cause = format!("{leased} of {size} are leased");
            let command = format!("netctl ipam check {}", network.list.name);
            findings
                .push(Finding::new(Spot::conf(&network.list), message, cause).mend(Mend::ByHand(command)));
        }
    }
    findings
}

/// Leases of containers that are gone, whoever knows of them.
fn unused(facts: &Facts, network: &Network) -> BTreeSet<IpAddr> {
    let stale = facts.attached_to(network).filter(|it| it.gone.is_some());
    let stale = stale.flat_map(|it| it.addresses()).map(|address| address.ip());
    stale.chain(facts.leaked(network).into_iter().map(|(address, _)| address)).collect()
}

pub(super) const IPAM_LEAK: Rule = Rule {
    code: "ipam-leak",
    summary: "an address is leased to a container that does not exist",
    text: "host-local's files say that a container holds the address, but neither libcni's cache nor a plugin's record knows such an attachment, and no \
           interface here has the address. It is what remains when a runtime loses its state; enough of it empties the range.",
    remedy: Remedy::Fix("gives the lease back, if it is still that owner's"),
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
    remedy: Remedy::Person("another subnet is a decision, and containers would have to be made anew"),
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
                    let found = Finding::new(Spot::conf(&network.list), message, cause).evidence(file);
                    findings.push(found.mend(another(facts, network, subnet)));
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
                findings.push(Finding::new(spot, message, cause).mend(another(facts, network, subnet)));
            }
        }
    }
    findings
}

/// Another subnet of that size for the network, the next one that nobody has.
fn another(facts: &Facts, network: &Network, subnet: IpNetwork) -> Mend {
    let file = network.list.file.display();
    let taken: Vec<_> = facts.networks.iter().flat_map(Network::subnets).collect();
    let routes = facts.host().routes.iter().filter(|route| !route.is_default()).map(|route| route.dst);
    let taken: Vec<_> = routes.chain(taken).collect();
    let is_free = |it: &IpNetwork| !taken.iter().any(|taken| overlap(*taken, *it));
    Mend::ByHand(match following(subnet).find(is_free) {
        Some(free) => format!("sed -i 's#{subnet}#{free}#' {file}"),
        None => format!("${{EDITOR:-vi}} {file}"),
    })
}

/// The subnets of the same size behind it, as many as are worth a look.
fn following(subnet: IpNetwork) -> impl Iterator<Item = IpNetwork> {
    const WORTH: u32 = 4096;
    let bits = if subnet.is_ipv4() { 32 } else { 128 };
    let step = 1_u128.checked_shl(bits - u32::from(subnet.prefix())).unwrap_or(0);
    (1..=WORTH).map_while(move |nth| {
        let offset = step.checked_mul(nth.into())?;
        let next: IpAddr = match subnet.network() {
            IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).checked_add(u32::try_from(offset).ok()?)?.into()),
            IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).checked_add(offset)?.into()),
        };
        IpNetwork::new(next, subnet.prefix()).ok()
    })
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

fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}
