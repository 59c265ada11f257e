//! Rules about VXLAN tunnels: what each node has, against what the other nodes that were asked have, and what came of trying.

use std::net::IpAddr;

use kernel::{mac::MacAddr, neighbour};

use super::undo;
use crate::{
    doctor::{
        Finding, Remedy, Rule, Spot,
        lost::{Distance, Lost},
        mend::{Mend, table::Change},
    },
    facts::{
        Facts,
        tunnel::{Report, Tunnel},
    },
};

pub(super) const FDB_STALE: Rule = Rule {
    code: "fdb-stale",
    summary: "a forwarding table says that a MAC address is where it is not",
    text: "Frames go to the port, or to the tunnel's far end, that the table has for their MAC address. A fixed entry of a container that has moved, or \
           of a node that has another address now, sends them where nobody takes them. Entries of tunnels are compared with the nodes named by --peer.",
    remedy: Remedy::Fix("sets or removes the entry on this node; other nodes get the command"),
    check: fdb_stale,
};

fn fdb_stale(facts: &Facts) -> Vec<Finding> {
    let entries = wrong_entries(facts).into_iter().chain(missing_entries(facts)).map(|fault| fault.found);
    on_bridges(facts).into_iter().chain(entries).collect()
}

/// What is wrong with a tunnel, and between which two nodes, if it is not about all.
struct Fault {
    found: Finding,
    with: Option<String>,
}

impl Fault {
    fn between(found: Finding, other: &Report) -> Self {
        Self { found, with: Some(other.node.clone()) }
    }

    /// It says why these two don't hear each other; the other may be unknown.
    fn explains(&self, one: &str, other: Option<&str>) -> bool {
        let is_one = |node: &str| node == one || Some(node) == other;
        self.found.node.as_deref().is_some_and(is_one) && self.with.as_deref().is_none_or(is_one)
    }
}

/// Entries of tunnels that lead to a node whose the MAC address is not.
fn wrong_entries(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (report, tunnel) in tunnels(facts) {
        for (text, remote) in &tunnel.remotes {
            let Ok(mac) = text.parse::<MacAddr>() else { continue };
            let owner = peers(facts, report, tunnel).find(|(_, it)| it.mac.as_ref() == Some(text));
            let wanted = tunnel.neighbours.iter().any(|(_, of)| of == text);
            let there = node_at(facts, report, *remote);
            let (message, change, other) = match owner.map(|(owner, it)| (owner, it.local)) {
                Some((_, Some(local))) if local == *remote => continue,
                Some((owner, Some(local))) => (
                    format!("{mac} of {} is said to be at {remote}, and is at {local}", owner.node),
                    Change::Behind { mac, remote: local },
                    owner,
                ),
                Some(_) => continue,
                // Whose it was is for vtep-mac-mismatch where somebody still asks for it.
                None => match there.filter(|_| !wanted && text != EVERYBODY) {
                    Some(there) => (
                        format!("{mac} is said to be at {remote}, which has another"),
                        Change::NotBehind { mac, remote: *remote },
                        there,
                    ),
                    None => continue,
                },
            };
            let cause = "the entry is of a former state of that node";
            let found = on(report, tunnel, message, cause).mend(table(facts, tunnel, change));
            faults.push(Fault::between(found, other));
        }
    }
    faults
}

/// MAC addresses that have a node, which tunnels don't know.
fn missing_entries(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (report, tunnel) in tunnels(facts) {
        for (address, text) in &tunnel.neighbours {
            let Ok(mac) = text.parse::<MacAddr>() else { continue };
            let owner = peers(facts, report, tunnel).find(|(_, it)| it.mac.as_ref() == Some(text));
            let Some((owner, Some(remote))) = owner.map(|(owner, it)| (owner, it.local)) else { continue };
            if !tunnel.remotes.iter().any(|(of, _)| of == text) {
                let message =
                    format!("{} at {remote} has {mac} for {address}, and no entry leads there", owner.node);
                let mend = table(facts, tunnel, Change::Behind { mac, remote });
                let found = on(report, tunnel, message, "the entry is gone").mend(mend);
                faults.push(Fault::between(found, owner));
            }
        }
    }
    faults
}

/// On the node of the tunnel.
fn table(facts: &Facts, tunnel: &Tunnel, change: Change) -> Mend {
    Mend::Table { place: facts.host().place.clone(), device: tunnel.device.clone(), change }
}

/// Fixed entries for a container's address behind another port than the container's.
fn on_bridges(facts: &Facts) -> Vec<Finding> {
    let host = facts.host();
    let ports = facts.attachments.iter().filter_map(|it| {
        let (inside, near) = (facts.interface(it)?, facts.host_link(it)?);
        Some((inside.mac?, (near, it)))
    });
    let ports: std::collections::BTreeMap<_, _> = ports.collect();
    let mut findings = Vec::new();
    for entry in facts.forwarding.iter().filter(|entry| entry.permanent && entry.remote.is_none()) {
        let (Some((near, attached)), Some(port)) = (ports.get(&entry.mac), host.link_at(entry.link)) else {
            continue;
        };
        if port.index == near.index || port.master != near.master || port.master.is_none() {
            continue;
        }
        let message =
            format!("frames for {} go to {}, and it is behind {}", attached.key, port.name, near.name);
        let change = Change::NotAtPort { mac: entry.mac, vlan: entry.vlan };
        let mend = Mend::Table { place: host.place.clone(), device: port.name.clone(), change };
        let cause = format!("a fixed entry for {}", entry.mac);
        let found = Finding::new(Spot::device(&port.name), message, cause).mend(mend);
        findings.push(found.loses(attached, Lost::From(Distance::Segment)));
    }
    findings
}

pub(super) const VTEP_MAC_MISMATCH: Rule = Rule {
    code: "vtep-mac-mismatch",
    summary: "a node's tunnel has another MAC address than the other nodes think",
    text: "What comes out of a tunnel is dropped unless it is for the MAC address of the device. The other nodes have the one that was announced; \
           systemd-udevd (MACAddressPolicy=persistent) or making the device anew gives it another one.",
    remedy: Remedy::Fix(
        "gives the tunnel of this node the address that the others have, and its neighbours back; other nodes get the command",
    ),
    check: vtep_mac_mismatch,
};

fn vtep_mac_mismatch(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (report, tunnel, address, mac, owner, theirs) in misled(facts) {
        let is_old = theirs.local.is_some_and(|local| tunnel.macs_behind(local).contains(&mac));
        let place = on(owner, theirs, "", "");
        if !is_old || findings.iter().any(|it| it.node == place.node && it.spot == place.spot) {
            continue;
        }
        let Ok(wanted) = mac.parse() else { continue };
        let has = theirs.mac.as_deref().unwrap_or("none");
        let message = format!("{} has {has}, and the other nodes send to {mac}", theirs.device);
        let cause = format!("{} has {mac} for {address}", report.node);
        let (device, neighbours) = (theirs.device.clone(), fixed(facts, theirs));
        let mend = Mend::Mac { device, mac: wanted, neighbours };
        findings.push(on(owner, theirs, message, cause).mend(mend));
    }
    findings
}

/// The fixed neighbours of a tunnel of this host.
fn fixed(facts: &Facts, tunnel: &Tunnel) -> Vec<neighbour::Neighbour> {
    let host = facts.host();
    let Some(link) = host.link(&tunnel.device) else { return Vec::new() };
    let all = host.neighbours.iter().filter(|it| it.link == link.index);
    all.filter(|it| it.state & neighbour::PERMANENT != 0).cloned().collect()
}

pub(super) const NEIGH_STALE: Rule = Rule {
    code: "neigh-stale",
    summary: "a neighbour table has an old MAC address for an IP address",
    text: "Packets go out to a MAC address that nobody has any more: the address was given to another container or node, and the entry is fixed, or \
           not yet tried again. Tunnels have fixed entries for all nodes, which are compared with the nodes named by --peer.",
    remedy: Remedy::Fix(
        "removes the entry, which the kernel makes anew, or sets that of a tunnel of this node; other nodes get the command",
    ),
    check: neigh_stale,
};

fn neigh_stale(facts: &Facts) -> Vec<Finding> {
    let of_tunnels = wrong_neighbours(facts).into_iter().map(|fault| fault.found);
    super::neighbours::neigh_stale(facts).into_iter().chain(of_tunnels).collect()
}

fn wrong_neighbours(facts: &Facts) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (report, tunnel, address, mac, owner, theirs) in misled(facts) {
        if theirs.local.is_some_and(|local| tunnel.macs_behind(local).contains(&mac)) {
            continue;
        }
        let Some(Ok(has)) = theirs.mac.as_deref().map(str::parse::<MacAddr>) else { continue };
        let message = format!("{address} of {} has {has}, and {mac} is in the table", owner.node);
        let found = on(report, tunnel, message, "the entry is of a former state of that node");
        let mend = table(facts, tunnel, Change::Neighbour { address, mac: has });
        faults.push(Fault::between(found.mend(mend), owner));
    }
    faults
}

type Misled<'a> = (&'a Report, &'a Tunnel, IpAddr, &'a str, &'a Report, &'a Tunnel);

/// Entries of neighbour tables with another MAC address than the node has.
fn misled(facts: &Facts) -> Vec<Misled<'_>> {
    let mut found = Vec::new();
    for (report, tunnel) in tunnels(facts) {
        for (address, mac) in &tunnel.neighbours {
            let owner = peers(facts, report, tunnel).find(|(_, it)| it.addresses.contains(address));
            let Some((owner, theirs)) = owner else { continue };
            if theirs.mac.as_ref() != Some(mac) {
                found.push((report, tunnel, *address, mac.as_str(), owner, theirs));
            }
        }
    }
    found
}

pub(super) const VNI_MISMATCH: Rule = Rule {
    code: "vni-mismatch",
    summary: "two nodes' tunnels have different network identifiers",
    text: "A tunnel only takes packets with its own VXLAN network identifier; others are dropped as if nobody listened. Nodes of one network must have \
           the same. Needs the other nodes, named by --peer.",
    remedy: Remedy::Person("the device has to be made anew, by whoever keeps it"),
    check: |facts| disagreements(facts, |tunnel| tunnel.vni, "network identifier", |a, b| a.port == b.port),
};

pub(super) const VXLAN_PORT_MISMATCH: Rule = Rule {
    code: "vxlan-port-mismatch",
    summary: "two nodes' tunnels use different UDP ports",
    text: "4789 is the registered port, 8472 Linux's old default (flannel's and Cilium's); a tunnel sends to and listens on one. Nodes of one network \
           must use the same. Needs the other nodes, named by --peer.",
    remedy: Remedy::Person("the device has to be made anew, by whoever keeps it"),
    check: |facts| disagreements(facts, |tunnel| tunnel.port.into(), "UDP port", |a, b| a.vni == b.vni),
};

/// Pairs of nodes that send to each other and whose tunnels are `alike` but for `number`; each at the node that fewer agree with.
fn disagreements(
    facts: &Facts,
    number: fn(&Tunnel) -> u32,
    what: &str,
    alike: fn(&Tunnel, &Tunnel) -> bool,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (report, tunnel) in tunnels(facts) {
        for remote in tunnel.nodes() {
            let Some(other) = node_at(facts, report, remote) else { continue };
            let at = || other.tunnels.iter().filter(|it| it.local == Some(remote));
            if at().any(|it| it.vni == tunnel.vni && it.port == tunnel.port) {
                continue;
            }
            let Some(theirs) = at().find(|it| alike(it, tunnel)) else { continue };
            let votes = |it: &Tunnel| tunnels(facts).filter(|(_, all)| number(all) == number(it)).count();
            let (odd, odd_one, agreed) = match votes(theirs) > votes(tunnel) {
                true => (report, tunnel, theirs),
                false => (other, theirs, tunnel),
            };
            let found = on(
                odd,
                odd_one,
                format!(
                    "{} has {what} {}, the other nodes {}",
                    odd_one.device,
                    number(odd_one),
                    number(agreed)
                ),
                format!(
                    "{} and {} send to each other and do not listen to each other",
                    report.node, other.node
                ),
            );
            let found = found.mend(Mend::ByHand(anew(odd_one, agreed)));
            if !findings.iter().any(|it| it.node == found.node && it.spot == found.spot) {
                findings.push(found);
            }
        }
    }
    findings
}

/// Makes a tunnel anew as others have theirs: the kernel changes neither identifier nor port of one that there is (`vxlan_changelink`).
fn anew(tunnel: &Tunnel, agreed: &Tunnel) -> String {
    let Tunnel { device, mtu, mac, local, addresses, .. } = tunnel;
    let mac = mac.as_ref().map(|mac| format!(" address {mac}")).unwrap_or_default();
    let local = local.map(|local| format!(" local {local}")).unwrap_or_default();
    // The kernel gives it one for the link by itself.
    let is_given = |it: &&IpAddr| !matches!(it, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let given = addresses.iter().filter(is_given).map(|it| ipnetwork::IpNetwork::from(*it));
    let addresses = given.map(|it| format!(" && ip addr add {it} dev {device}"));
    format!(
        "ip link del {device} && ip link add {device}{mac} mtu {mtu} type vxlan id {} dstport {}{local} nolearning && ip link set {device} up{}",
        agreed.vni,
        agreed.port,
        addresses.collect::<String>()
    )
}

pub(super) const VXLAN_PORT_BLOCKED: Rule = Rule {
    code: "vxlan-port-blocked",
    summary: "a firewall rule of a node drops what comes for its tunnel, or what the tunnel sends",
    text: "Other nodes reach the tunnel at a UDP port of this host (4789 or 8472), which the chains at the input hook have to accept, and those at the \
           output hook for what it sends.",
    remedy: Remedy::Person("the rules are somebody else's, and may be meant"),
    check: vxlan_port_blocked,
};

fn vxlan_port_blocked(facts: &Facts) -> Vec<Finding> {
    let blocked = tunnels(facts).filter_map(|(report, tunnel)| {
        let rule = tunnel.blocked.as_ref()?;
        // What gets through is not blocked, whatever the rules seem to say.
        let mut tried = report.trials.iter().filter(|trial| trial.device == tunnel.device).peekable();
        if tried.peek().is_some() && tried.all(|trial| trial.answered) {
            return None;
        }
        let message = format!("UDP port {} of {} is blocked", tunnel.port, tunnel.device);
        let mut found = on(report, tunnel, message, format!("{rule} stops it"));
        found.spot.rule = Some(rule.clone());
        Some(found.mend(Mend::ByHand(undo(rule))))
    });
    blocked.collect()
}

pub(super) const VXLAN_PORT_CONFLICT: Rule = Rule {
    code: "vxlan-port-conflict",
    summary: "somebody else has the UDP port of a tunnel",
    text: "A port belongs to one socket: a tunnel device can't be set up while a process, or a tunnel of another kind (Cilium's, Docker's), has its port. \
           `ip link set DEVICE up` says Address already in use.",
    remedy: Remedy::Person("whoever has the port must let go first"),
    check: vxlan_port_conflict,
};

fn vxlan_port_conflict(facts: &Facts) -> Vec<Finding> {
    let taken = tunnels(facts).filter_map(|(report, tunnel)| {
        let owner = tunnel.taken.as_ref()?;
        let message = format!("{} is down: it has no UDP port {}", tunnel.device, tunnel.port);
        let command = format!("ip link set {} up", tunnel.device);
        let found = on(report, tunnel, message, format!("{owner} has it, and must let go first"));
        Some(found.mend(Mend::ByHand(command)))
    });
    taken.collect()
}

pub(super) const VXLAN_BAD_CSUM: Rule = Rule {
    code: "vxlan-bad-csum",
    summary: "packets of a tunnel come in with a wrong checksum",
    text: "Some network cards, and some kernels with them, compute the checksum of what is in a tunnel wrongly; the receiver drops the packet and counts \
           Udp InCsumErrors. The remedy is on the sending node: no offload of checksums for the tunnel device.",
    remedy: Remedy::Person("it is the sending node's"),
    check: vxlan_bad_csum,
};

fn vxlan_bad_csum(facts: &Facts) -> Vec<Finding> {
    let bad = facts.reports.iter().filter(|report| report.bad_checksums > 0);
    let found = bad.filter_map(|report| {
        let tunnel = report.tunnels.first()?;
        let message = format!("{} packets came in with a wrong UDP checksum", report.bad_checksums);
        let cause = "a node that sends to this one computes it wrongly: offload";
        let command = format!("ethtool -K {} tx-checksum-ip-generic off", tunnel.device);
        Some(on(report, tunnel, message, cause).mend(Mend::ByHand(command)))
    });
    found.collect()
}

pub(super) const VXLAN_PATH_BLOCKED: Rule = Rule {
    code: "vxlan-path-blocked",
    summary: "a node does not answer through the tunnel, and neither end shows why",
    text: "An echo request through the tunnel got no answer. Where the node itself answers outside of the tunnel, something between the two drops UDP at \
           the tunnel's port (a security group, a router, the node's own firewall if it is not named by --peer); else the node is down or cut off.",
    remedy: Remedy::Person("it is between the nodes"),
    check: vxlan_path_blocked,
};

/// Once for each pair of nodes that no other fault is about.
fn vxlan_path_blocked(facts: &Facts) -> Vec<Finding> {
    let faults = faults(facts);
    let (mut findings, mut pairs) = (Vec::new(), Vec::new());
    for report in &facts.reports {
        for trial in report.trials.iter().filter(|trial| !trial.answered) {
            let Some(tunnel) = report.tunnels.iter().find(|it| it.device == trial.device) else { continue };
            let asked = peers(facts, report, tunnel).find(|(_, it)| it.addresses.contains(&trial.address));
            let other = asked.map(|(other, _)| other).or_else(|| node_at(facts, report, trial.remote));
            let other = other.map(|other| other.node.as_str());
            let far = other.map_or_else(|| trial.remote.to_string(), str::to_owned);
            let pair = (report.node.clone().min(far.clone()), report.node.clone().max(far));
            let is_known = faults.iter().any(|fault| fault.explains(&report.node, other));
            if is_known || pairs.contains(&pair) {
                continue;
            }
            pairs.push(pair);
            let message = format!("{} does not answer through {}", trial.remote, tunnel.device);
            let cause = match trial.underlay_answered {
                Some(true) => format!("it answers by itself: UDP port {} is blocked on the way", tunnel.port),
                _ => "it does not answer outside of the tunnel either".to_owned(),
            };
            let command = format!("netctl trace host {} --node {}", trial.address, report.node);
            let found = on(report, tunnel, message, cause).mend(Mend::ByHand(command));
            findings.push(found.evidence(format!("no echo from {}", trial.address)));
        }
    }
    findings
}

/// All that is wrong with tunnels by what the nodes have.
fn faults(facts: &Facts) -> Vec<Fault> {
    let of_all = [VNI_MISMATCH, VTEP_MAC_MISMATCH, VXLAN_BAD_CSUM, VXLAN_PORT_BLOCKED, VXLAN_PORT_CONFLICT];
    let of_all = of_all.into_iter().chain([VXLAN_PORT_MISMATCH]).flat_map(|rule| (rule.check)(facts));
    let mut faults: Vec<_> = of_all.map(|found| Fault { found, with: None }).collect();
    for of_two in [wrong_entries, missing_entries, wrong_neighbours] {
        faults.append(&mut of_two(facts));
    }
    faults
}

/// Something is wrong with a tunnel of this node, at one of its ends.
pub(super) fn is_faulty(facts: &Facts, device: &str) -> bool {
    let vni = facts.reports[0].tunnels.iter().find(|it| it.device == device).map(|it| it.vni);
    let is_same = |it: &Finding| {
        let mut ends = tunnels(facts).filter(|(report, _)| it.node.as_ref() == Some(&report.node));
        ends.any(|(_, tunnel)| it.spot.device.as_ref() == Some(&tunnel.device) && Some(tunnel.vni) == vni)
    };
    let mut found = faults(facts).into_iter().map(|fault| fault.found).chain(vxlan_path_blocked(facts));
    found.any(|it| is_same(&it))
}

/// All tunnels of all nodes.
fn tunnels(facts: &Facts) -> impl Iterator<Item = (&Report, &Tunnel)> {
    facts.reports.iter().flat_map(|report| report.tunnels.iter().map(move |tunnel| (report, tunnel)))
}

/// The other nodes' tunnels of the same network.
fn peers<'a>(
    facts: &'a Facts,
    report: &'a Report,
    tunnel: &'a Tunnel,
) -> impl Iterator<Item = (&'a Report, &'a Tunnel)> {
    tunnels(facts).filter(|(other, it)| other.node != report.node && it.vni == tunnel.vni)
}

/// The other node that has a tunnel at this address.
fn node_at<'a>(facts: &'a Facts, report: &Report, remote: IpAddr) -> Option<&'a Report> {
    let is_there =
        |it: &&Report| it.node != report.node && it.tunnels.iter().any(|it| it.local == Some(remote));
    facts.reports.iter().find(is_there)
}

/// A finding at a tunnel of a node.
fn on(report: &Report, tunnel: &Tunnel, message: impl Into<String>, cause: impl Into<String>) -> Finding {
    let found = Finding::new(Spot::device(&tunnel.device), message, cause);
    Finding { node: Some(report.node.clone()), ..found }
}

const EVERYBODY: &str = "00:00:00:00:00:00";
