//! Rules about VXLAN tunnels: what each node has, against what the other nodes that were asked have, and what came of trying.

use std::{collections::BTreeMap, net::IpAddr};

use kernel::{fdb::Entry, link::Link};

use super::undo;
use crate::{
    doctor::{Finding, Rule, Spot, mend::Mend},
    facts::{
        Facts,
        attachment::Attached,
        tunnel::{Report, Tunnel},
    },
};

pub(super) const FDB_STALE: Rule = Rule {
    code: "fdb-stale",
    summary: "a forwarding table says that a MAC address is where it is not",
    text: "Frames go to the port, or to the tunnel's far end, that the table has for their MAC address. A fixed entry of a container that has moved, or \
           of a node that has another address now, sends them where nobody takes them. Entries of tunnels are compared with the nodes named by --peer.",
    check: fdb_stale,
};

fn fdb_stale(facts: &Facts) -> Vec<Finding> {
    let mut findings = on_bridges(facts);
    for (report, tunnel) in tunnels(facts) {
        for (mac, remote) in &tunnel.remotes {
            let owner = peers(facts, report, tunnel).find(|(_, it)| it.mac.as_ref() == Some(mac));
            let wanted = tunnel.neighbours.iter().any(|(_, of)| of == mac);
            let device = &tunnel.device;
            let (message, command) = match owner.map(|(owner, it)| (owner, it.local)) {
                Some((_, Some(local))) if local == *remote => continue,
                Some((owner, Some(local))) => (
                    format!("{mac} of {} is said to be at {remote}, and is at {local}", owner.node),
                    format!("bridge fdb replace {mac} dev {device} dst {local} self permanent"),
                ),
                Some(_) => continue,
                // Whose it was is for vtep-mac-mismatch where somebody still asks for it.
                None if !wanted && node_at(facts, report, tunnel, *remote).is_some() && mac != EVERYBODY => (
                    format!("{mac} is said to be at {remote}, which has another"),
                    format!("bridge fdb del {mac} dev {device} dst {remote} self"),
                ),
                None => continue,
            };
            findings.push(on(
                report,
                tunnel,
                message,
                "the entry is of a former state of that node",
                command,
            ));
        }
        for (address, mac) in &tunnel.neighbours {
            let owner = peers(facts, report, tunnel).find(|(_, it)| it.mac.as_ref() == Some(mac));
            let Some((owner, Some(local))) = owner.map(|(owner, it)| (owner, it.local)) else { continue };
            if !tunnel.remotes.iter().any(|(of, _)| of == mac) {
                let message =
                    format!("{} at {local} has {mac} for {address}, and no entry leads there", owner.node);
                let command =
                    format!("bridge fdb replace {mac} dev {} dst {local} self permanent", tunnel.device);
                findings.push(on(report, tunnel, message, "the entry is gone", command));
            }
        }
    }
    findings
}

/// Fixed entries for a container's address behind another port than the container's.
fn on_bridges(facts: &Facts) -> Vec<Finding> {
    let found = astray(facts).map(|(attached, entry, port, near)| {
        let message =
            format!("frames for {} go to {}, and it is behind {}", attached.key, port.name, near.name);
        let mend = Mend::Entry { port: port.name.clone(), mac: entry.mac, vlan: entry.vlan };
        let cause = format!("a fixed entry for {}", entry.mac);
        Finding::new(Spot::device(&port.name), message, cause).mend(mend)
    });
    found.collect()
}

/// Attachments that a fixed entry of their bridge has behind another port: the entry, that port, and their own.
pub(super) fn astray(facts: &Facts) -> impl Iterator<Item = (&Attached, &Entry, &Link, &Link)> {
    let host = facts.host();
    let ports = facts.attachments.iter().filter_map(|it| {
        let (inside, near) = (facts.interface(it)?, facts.host_link(it)?);
        Some((inside.mac?, (near, it)))
    });
    let ports: BTreeMap<_, _> = ports.collect();
    facts.forwarding.iter().filter(|entry| entry.permanent && entry.remote.is_none()).filter_map(
        move |entry| {
            let (near, attached) = *ports.get(&entry.mac)?;
            let port = host.link_at(entry.link)?;
            let is_other = port.index != near.index && port.master.is_some() && port.master == near.master;
            is_other.then_some((attached, entry, port, near))
        },
    )
}

pub(super) const VTEP_MAC_MISMATCH: Rule = Rule {
    code: "vtep-mac-mismatch",
    summary: "a node's tunnel has another MAC address than the other nodes think",
    text: "What comes out of a tunnel is dropped unless it is for the MAC address of the device. The other nodes have the one that was announced; \
           systemd-udevd (MACAddressPolicy=persistent) or making the device anew gives it another one.",
    check: vtep_mac_mismatch,
};

fn vtep_mac_mismatch(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for (report, tunnel, address, mac, owner, theirs) in misled(facts) {
        let is_old = theirs.local.is_some_and(|local| tunnel.macs_behind(local).contains(&mac));
        let place = on(owner, theirs, "", "", String::new());
        if !is_old || findings.iter().any(|it| it.node == place.node && it.spot == place.spot) {
            continue;
        }
        let has = theirs.mac.as_deref().unwrap_or("none");
        let message = format!("{} has {has}, and the other nodes send to {mac}", theirs.device);
        let cause = format!("{} has {mac} for {address}", report.node);
        let command = format!("ip link set {} address {mac}", theirs.device);
        findings.push(on(owner, theirs, message, cause, command));
    }
    findings
}

pub(super) const NEIGH_STALE: Rule = Rule {
    code: "neigh-stale",
    summary: "a neighbour table has an old MAC address for an IP address",
    text: "Packets go out to a MAC address that nobody has any more: the address was given to another container or node, and the entry is fixed, or \
           not yet tried again. Tunnels have fixed entries for all nodes, which are compared with the nodes named by --peer.",
    check: neigh_stale,
};

fn neigh_stale(facts: &Facts) -> Vec<Finding> {
    let mut findings = super::neighbours::neigh_stale(facts);
    for (report, tunnel, address, mac, owner, theirs) in misled(facts) {
        if theirs.local.is_some_and(|local| tunnel.macs_behind(local).contains(&mac)) {
            continue;
        }
        let has = theirs.mac.as_deref().unwrap_or("none");
        let message = format!("{address} of {} has {has}, and {mac} is in the table", owner.node);
        let command = format!("ip neigh replace {address} lladdr {has} dev {} nud permanent", tunnel.device);
        findings.push(on(report, tunnel, message, "the entry is of a former state of that node", command));
    }
    findings
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
    check: |facts| disagreements(facts, |tunnel| tunnel.vni, "network identifier", |a, b| a.port == b.port),
};

pub(super) const VXLAN_PORT_MISMATCH: Rule = Rule {
    code: "vxlan-port-mismatch",
    summary: "two nodes' tunnels use different UDP ports",
    text: "4789 is the registered port, 8472 Linux's old default (flannel's and Cilium's); a tunnel sends to and listens on one. Nodes of one network \
           must use the same. Needs the other nodes, named by --peer.",
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
            let Some(other) = node_at(facts, report, tunnel, remote) else { continue };
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
                format!("ip -d link show {}", odd_one.device),
            );
            if !findings.iter().any(|it| it.node == found.node && it.spot == found.spot) {
                findings.push(found);
            }
        }
    }
    findings
}

pub(super) const VXLAN_PORT_BLOCKED: Rule = Rule {
    code: "vxlan-port-blocked",
    summary: "a firewall rule of a node drops what comes for its tunnel, or what the tunnel sends",
    text: "Other nodes reach the tunnel at a UDP port of this host (4789 or 8472), which the chains at the input hook have to accept, and those at the \
           output hook for what it sends.",
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
        let mut found = on(report, tunnel, message, format!("{rule} stops it"), undo(rule));
        found.spot.rule = Some(rule.clone());
        Some(found)
    });
    blocked.collect()
}

pub(super) const VXLAN_PORT_CONFLICT: Rule = Rule {
    code: "vxlan-port-conflict",
    summary: "somebody else has the UDP port of a tunnel",
    text: "A port belongs to one socket: a tunnel device can't be set up while a process, or a tunnel of another kind (Cilium's, Docker's), has its port. \
           `ip link set DEVICE up` says Address already in use.",
    check: vxlan_port_conflict,
};

fn vxlan_port_conflict(facts: &Facts) -> Vec<Finding> {
    let taken = tunnels(facts).filter_map(|(report, tunnel)| {
        let owner = tunnel.taken.as_ref()?;
        let message = format!("{} is down: it has no UDP port {}", tunnel.device, tunnel.port);
        let command = format!("ip link set {} up", tunnel.device);
        Some(on(report, tunnel, message, format!("{owner} has it, and must let go first"), command))
    });
    taken.collect()
}

pub(super) const VXLAN_BAD_CSUM: Rule = Rule {
    code: "vxlan-bad-csum",
    summary: "packets of a tunnel come in with a wrong checksum",
    text: "Some network cards, and some kernels with them, compute the checksum of what is in a tunnel wrongly; the receiver drops the packet and counts \
           Udp InCsumErrors. The remedy is on the sending node: no offload of checksums for the tunnel device.",
    check: vxlan_bad_csum,
};

fn vxlan_bad_csum(facts: &Facts) -> Vec<Finding> {
    let bad = facts.reports.iter().filter(|report| report.bad_checksums > 0);
    let found = bad.filter_map(|report| {
        let tunnel = report.tunnels.first()?;
        let message = format!("{} packets came in with a wrong UDP checksum", report.bad_checksums);
        let cause = "a node that sends to this one computes it wrongly: offload";
        let command = format!("ethtool -K {} tx-checksum-ip-generic off", tunnel.device);
        Some(on(report, tunnel, message, cause, command))
    });
    found.collect()
}

pub(super) const VXLAN_PATH_BLOCKED: Rule = Rule {
    code: "vxlan-path-blocked",
    summary: "a node does not answer through the tunnel, and neither end shows why",
    text: "An echo request through the tunnel got no answer. Where the node itself answers outside of the tunnel, something between the two drops UDP at \
           the tunnel's port (a security group, a router, the node's own firewall if it is not named by --peer); else the node is down or cut off.",
    check: vxlan_path_blocked,
};

/// Once for each pair of nodes. Whatever else is wrong with the tunnels of either end comes first.
fn vxlan_path_blocked(facts: &Facts) -> Vec<Finding> {
    let others = [FDB_STALE, NEIGH_STALE, VNI_MISMATCH, VTEP_MAC_MISMATCH, VXLAN_BAD_CSUM];
    let others = others.into_iter().chain([VXLAN_PORT_BLOCKED, VXLAN_PORT_CONFLICT, VXLAN_PORT_MISMATCH]);
    let faulty: Vec<_> = others.flat_map(|rule| (rule.check)(facts)).map(|found| found.node).collect();
    let is_faulty = |report: &Report| faulty.contains(&named(report));
    let (mut findings, mut pairs) = (Vec::new(), Vec::new());
    for report in facts.reports.iter().filter(|report| !is_faulty(report)) {
        for trial in report.trials.iter().filter(|trial| !trial.answered) {
            let Some(tunnel) = report.tunnels.iter().find(|it| it.device == trial.device) else { continue };
            let pair = (tunnel.local.min(Some(trial.remote)), tunnel.local.max(Some(trial.remote)));
            let other = node_at(facts, report, tunnel, trial.remote);
            if other.is_some_and(is_faulty) || pairs.contains(&pair) {
                continue;
            }
            pairs.push(pair);
            let message = format!("{} does not answer through {}", trial.remote, tunnel.device);
            let cause = match trial.underlay_answered {
                Some(true) => format!("it answers by itself: UDP port {} is blocked on the way", tunnel.port),
                _ => "it does not answer outside of the tunnel either".to_owned(),
            };
            let command = format!("netctl trace host {} --node {}", trial.address, report.node);
            let found = on(report, tunnel, message, cause, command);
            findings.push(found.evidence(format!("no echo from {}", trial.address)));
        }
    }
    findings
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
fn node_at<'a>(facts: &'a Facts, report: &Report, _: &Tunnel, remote: IpAddr) -> Option<&'a Report> {
    let is_there =
        |it: &&Report| it.node != report.node && it.tunnels.iter().any(|it| it.local == Some(remote));
    facts.reports.iter().find(is_there)
}

fn named(report: &Report) -> Option<String> {
    Some(report.node.clone())
}

/// A finding at a tunnel, with the command to run on its node.
fn on(
    report: &Report,
    tunnel: &Tunnel,
    message: impl Into<String>,
    cause: impl Into<String>,
    command: String,
) -> Finding {
    let found = Finding::new(Spot::device(&tunnel.device), message, cause);
    Finding { node: named(report), ..found }.mend(Mend::ByHand(command))
}

const EVERYBODY: &str = "00:00:00:00:00:00";
