//! Rules about what each attachment has in the kernel.

use cni::names::Attachment;
use kernel::link::{Kind, Link};

use super::{flows::is_only_hairpin, host::way_in};
use crate::{
    doctor::{
        Finding, Remedy, Rule, Severity, Spot,
        lost::{Distance, Lost},
        mend::Mend,
    },
    facts::{Facts, network::Network, space},
};

pub(super) const STALE_ATTACHMENT: Rule = Rule {
    code: "stale-attachment",
    summary: "an attachment is on the books, but its container or its interface is gone",
    text: "The runtime went away without DEL: it crashed, the host was reset, or somebody removed the namespace by hand. The address stays leased, and \
           published ports and rules stay, until a DEL or GC takes them back.",
    remedy: Remedy::Partly(
        "DEL by the plugins where the container is gone, and out with rules of nobody; not where a live container has lost its interface",
    ),
    check: stale_attachment,
};

fn stale_attachment(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attached in facts.attachments.iter().filter(|it| !it.abandoned) {
        let netns = attached.netns.as_deref().unwrap_or("?");
        let detach = Mend::Detach { attachment: attached.key.clone() };
        let spot = Spot { file: attached.file.clone(), ..attached.netns_spot(facts) };
        if let Some(gone) = attached.gone {
            let message = format!("{} is attached, but its container is gone", attached.key);
            let found = Finding::new(spot, message, format!("{netns}: {gone}")).mend(detach);
            let addresses = attached.addresses();
            findings.push(addresses.iter().fold(found, |found, it| found.evidence(format!("holds {it}"))));
        } else if attached.space.is_some() && facts.interface(attached).is_none() {
            let message = format!("{} is attached, but has no such interface", attached.key);
            let cause = format!("no {} in {netns}", attached.key.ifname);
            // Its runtime would not know of another address.
            let Attachment { network, container, ifname } = &attached.key;
            let add =
                format!("netctl exec add {network} {netns} --container-id {container} --ifname {ifname}");
            let mend = Mend::ByHand(format!("{} && {add}", detach.command()));
            findings.push(Finding::new(spot, message, cause).mend(mend));
        }
    }
    findings.extend(ownerless(facts));
    findings
}

/// Elements in the suite's tables of attachments that nobody knows, and what is left of those that others took apart.
fn ownerless(facts: &Facts) -> Vec<Finding> {
    let strangers = facts.strangers();
    let abandoned = facts.attachments.iter().filter(|it| it.abandoned).map(|attached| {
        let message = format!("what {} was given is there, the attachment is not", attached.key);
        let cause = "another suite's plugins took its links, as after a rollback";
        Finding::new(attached.netns_spot(facts), message, cause).mend(Mend::Rules)
    });
    let found = strangers.iter().map(|comment| {
        let spot = Spot { rule: Some(format!("inet tenon: {comment}")), ..Spot::host() };
        let message = format!("the rules of {comment} are there, the attachment is not");
        Finding::new(spot, message, "neither a record nor libcni's cache knows it").mend(Mend::Rules)
    });
    found.chain(abandoned).collect()
}

pub(super) const NETNS_LEAK: Rule = Rule {
    code: "netns-leak",
    summary: "a namespace hangs on a network's bridge that no container uses",
    text: "The namespace has no process and no attachment: a runtime forgot it, or lost its state. A mount in /run/netns keeps it, its interface and \
           its address alive, and the address may be given to somebody else.",
    remedy: Remedy::Person("it takes the namespace away with all that is in it"),
    check: netns_leak,
};

fn netns_leak(facts: &Facts) -> Vec<Finding> {
    let orphans = facts.orphans().into_iter().filter_map(|(link, inside)| Some((link, inside?)));
    let mut findings = Vec::new();
    for (link, (space, inside)) in orphans {
        let known = facts
            .attachments
            .iter()
            .any(|it| it.space.is_some_and(|nth| facts.spaces[nth].place.inode == space.place.inode));
        if known || !space::processes(&space.place).is_empty() {
            continue;
        }
        let path = space.place.path.display();
        let message = format!("{path} is in nobody's use, and holds {} open", link.name);
        let found = Finding::new(
            Spot::inside(&space.place.name, &inside.name),
            message,
            "no process, no attachment record and no cache entry",
        );
        let addresses = space.addresses_of(inside);
        let found = addresses.iter().fold(found, |found, it| found.evidence(format!("has {it}")));
        let command = match path.to_string().strip_prefix("/run/netns/") {
            Some(name) => format!("ip netns del {name}"),
            None => format!("umount {path} && rm {path}"),
        };
        findings.push(found.severity(Severity::Warning).mend(Mend::ByHand(command)));
    }
    findings
}

pub(super) const BRIDGE_PORT_MISSING: Rule = Rule {
    code: "bridge-port-missing",
    summary: "the host's end of a container's veth is not a port of its bridge, or is down",
    text: "The container is up and has its address, but its packets end at the host's end of its veth. Something took the port out of the bridge or \
           set it down: NetworkManager and systemd-networkd do so where they think the link is theirs, and so does making the bridge anew.",
    remedy: Remedy::Partly(
        "puts the port back and up, and makes the bridge if that is gone; not in VLANs, nor a bridge of overlayd's",
    ),
    check: bridge_port_missing,
};

fn bridge_port_missing(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attached in &facts.attachments {
        let network = facts.network(attached.key.network.as_str());
        let noted = attached.made.as_ref().map(|made| made.bridge.clone());
        let bridge = noted.unwrap_or_else(|| network.and_then(|network| network.bridge.clone()));
        let (Some(bridge), Some(link)) = (bridge, facts.host_link(attached)) else { continue };
        let master = link.master.and_then(|master| facts.host().link_at(master));
        let cause = match master {
            Some(master) if master.name == bridge && link.is_up() => continue,
            Some(master) if master.name == bridge => format!("{} is down", link.name),
            Some(master) => format!("{} is a port of {}", link.name, master.name),
            None if facts.host().link(&bridge).is_none() => format!("there is no bridge {bridge}"),
            None => format!("{} is no port", link.name),
        };
        let message = format!("{} is cut off: {} is no running port of {bridge}", attached.key, link.name);
        let mend = port(facts, network, link, bridge);
        let found = Finding::new(Spot::device(&link.name), message, cause).mend(mend);
        findings.push(found.loses(attached, Lost::From(Distance::Segment)));
    }
    findings
}

/// Makes the link a port of the bridge again; first of all the bridge.
fn port(facts: &Facts, network: Option<&Network>, link: &Link, bridge: String) -> Mend {
    let is_there = facts.host().link(&bridge).is_some();
    let mend = match network {
        Some(network) if !is_there => {
            Mend::Bridge { bridge, mtu: network.mtu, promiscuous: network.promiscuous }
        }
        network => {
            let (hairpin, isolated) = network.map_or((false, false), |it| (it.hairpin, it.isolated));
            Mend::Port { port: link.name.clone(), bridge, hairpin, isolated }
        }
    };
    let is_ours = network.is_none_or(|it| !it.has_vlans && (is_there || it.driver == "bridge"));
    if is_ours { mend } else { Mend::ByHand(mend.command()) }
}

pub(super) const HAIRPIN_OFF: Rule = Rule {
    code: "hairpin-off",
    summary: "a container cannot reach itself through its own published port",
    text: "The packet comes back by the port that it left by, which a bridge only lets pass in hairpin mode (bridge(8)); `hairpinMode` in the network's \
           configuration sets it at ADD.",
    remedy: Remedy::Partly("switches it on where the configuration asks for it"),
    check: hairpin_off,
};

fn hairpin_off(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attached in &facts.attachments {
        let Some(network) = facts.network(attached.key.network.as_str()) else { continue };
        let publishes = !attached.ports().is_empty();
        let bridge = way_in(facts, attached).filter(|link| link.is_bridge() && !link.is_promiscuous());
        let Some(link) = facts.host_link(attached).filter(|_| bridge.is_some()) else { continue };
        let is_off = link.port.is_some_and(|port| !port.hairpin);
        if !is_off || !(publishes || network.hairpin) {
            continue;
        }
        let message = format!("{} cannot reach itself through a published port", attached.key);
        let (severity, cause) = match network.hairpin {
            true => (Severity::Warning, "hairpin mode is off, which the network's configuration switches on"),
            false => {
                (Severity::Info, "hairpin mode is off, and the network's configuration does not ask for it")
            }
        };
        let ports = attached.ports();
        let found = Finding::new(Spot::device(&link.name), message, cause).severity(severity);
        let found = ports
            .iter()
            .fold(found, |found, port| found.evidence(format!("publishes {}/{}", port.host, port.protocol)));
        let mend = Mend::Hairpin { port: link.name.clone() };
        findings.push(found.mend(if network.hairpin { mend } else { Mend::ByHand(mend.command()) }));
    }
    findings
}

pub(super) const MASQ_MISSING: Rule = Rule {
    code: "masq-missing",
    summary: "a container's connections are not masqueraded any more",
    text: "The network has ipMasq, but the rules are gone: `nft flush ruleset`, a firewall that was restarted, or somebody's cleaning. The container's \
           packets leave with its own address, and no answer finds back.",
    remedy: Remedy::Fix("puts the elements back, from the records or libcni's cache"),
    check: masq_missing,
};

fn masq_missing(facts: &Facts) -> Vec<Finding> {
    let wanting = facts.attachments.iter().filter(|it| {
        let masquerade = it.made.as_ref().is_some_and(|made| made.masquerade);
        masquerade && !it.unruled.is_empty() && !it.abandoned && facts.interface(it).is_some()
    });
    let found = wanting.map(|attached| {
        let device = way_in(facts, attached).map(|link| link.name.clone());
        let spot = Spot { device, rule: Some("inet tenon".to_owned()), ..Spot::host() };
        let message = format!("connections of {} leave with the container's own address", attached.key);
        let found =
            Finding::new(spot, message, format!("the table inet tenon lacks {}", attached.unruled[0]))
                .loses(attached, Lost::From(Distance::World));
        attached
            .unruled
            .iter()
            .fold(found, |found, it| found.evidence(format!("missing: {it}")))
            .mend(Mend::Rules)
    });
    found.collect()
}

pub(super) const PORTMAP_MISSING: Rule = Rule {
    code: "portmap-missing",
    summary: "a container's published ports or its firewall rules are gone",
    text: "The plugins portmap or firewall made rules for the container, and they are not there any more: `nft flush ruleset`, or a firewall that was \
           restarted. Published ports answer nobody until `netctl repair` puts the rules back.",
    remedy: Remedy::Fix("puts the elements and the accepts back, from the records or libcni's cache"),
    check: portmap_missing,
};

fn portmap_missing(facts: &Facts) -> Vec<Finding> {
    let wanting = facts.attachments.iter().filter(|it| {
        // That alone is hairpin-no-masq.
        !it.unpublished.is_empty() && !is_only_hairpin(it) && it.space.is_some() && !it.abandoned
    });
    let found = wanting.map(|attached| {
        let device = way_in(facts, attached).map(|link| link.name.clone());
        let spot = Spot { device, rule: Some("inet tenon".to_owned()), ..Spot::host() };
        let message = format!("rules that {} was given are gone", attached.key);
        let found = Finding::new(spot, message, format!("the tables lack {}", attached.unpublished[0]));
        attached
            .unpublished
            .iter()
            .fold(found, |found, it| found.evidence(format!("missing: {it}")))
            .mend(Mend::Rules)
    });
    let shared = facts.shared.iter().filter(|(_, missing)| !missing.is_empty()).map(|(shared, missing)| {
        let spot = Spot { rule: Some("filter".to_owned()), ..Spot::host() };
        let message = format!("rules that network {} has for its containers are gone", shared.network());
        let found = Finding::new(spot, message, format!("the host lacks {}", missing[0]));
        missing.iter().fold(found, |found, it| found.evidence(format!("missing: {it}"))).mend(Mend::Rules)
    });
    found.chain(shared).collect()
}

pub(super) const MTU_BLACKHOLE: Rule = Rule {
    code: "mtu-blackhole",
    summary: "large packets of a container disappear without an error",
    text: "A bridge drops what is too large for a port without telling the sender, and so does the far end of a veth: connections open, and hang with the \
           first full packet. The MTU of the container must not be larger than that of any device on its way at layer 2; a tunnel needs 50 bytes (70 over IPv6) \
           less than the link below it.",
    remedy: Remedy::Partly(
        "sets the MTU of the veth, the bridge or the tunnel as it has to be; not that of another port, which may bear no more",
    ),
    check: mtu_blackhole,
};

fn mtu_blackhole(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attached in &facts.attachments {
        let (Some(inside), Some(link)) = (facts.interface(attached), facts.host_link(attached)) else {
            continue;
        };
        let bridge = way_in(facts, attached).filter(|way_in| way_in.index != link.index);
        // A bridge takes the MTU of its narrowest port.
        let culprit = |bridge: &Link| {
            let ports = facts.host().links.iter().filter(|it| it.master == Some(bridge.index));
            ports.filter(|it| it.mtu == bridge.mtu).map(|it| it.index).min()
        };
        let narrow = [Some(link), bridge].into_iter().flatten().find(|it| it.mtu < inside.mtu);
        let narrow = narrow.map(|it| match it.is_bridge() {
            true => culprit(it).and_then(|port| facts.host().link_at(port)).unwrap_or(it),
            false => it,
        });
        if let Some(narrow) = narrow {
            let message = format!("packets of {} above {} bytes disappear", attached.key, narrow.mtu);
            let cause = format!("{} has MTU {}, the container's {}", narrow.name, narrow.mtu, inside.mtu);
            let mend = Mend::Mtu { link: narrow.name.clone(), mtu: inside.mtu };
            // What is behind a network card is not seen from here.
            let mend =
                if narrow.is_veth() || narrow.is_bridge() { mend } else { Mend::ByHand(mend.command()) };
            if !findings.iter().any(|found: &Finding| found.spot.device.as_ref() == Some(&narrow.name)) {
                findings.push(Finding::new(Spot::device(&narrow.name), message, cause).mend(mend));
            }
        }
    }
    for tunnel in &facts.host().links {
        let Some(Kind::Vxlan { dev: Some(dev), local, .. }) = &tunnel.kind else { continue };
        let Some(below) = facts.host().link_at(*dev) else { continue };
        let overhead = if local.is_some_and(|local| local.is_ipv6()) { 70 } else { 50 };
        if tunnel.mtu + overhead > below.mtu {
            let message = format!(
                "packets through {} above {} bytes disappear",
                tunnel.name,
                below.mtu.saturating_sub(overhead)
            );
            let cause = format!(
                "{} has MTU {}, {} below it {}, and the tunnel adds {overhead}",
                tunnel.name, tunnel.mtu, below.name, below.mtu
            );
            let mend = Mend::Mtu { link: tunnel.name.clone(), mtu: below.mtu.saturating_sub(overhead) };
            findings.push(Finding::new(Spot::device(&tunnel.name), message, cause).mend(mend));
        }
    }
    findings
}
