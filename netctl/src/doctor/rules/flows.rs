//! Rules about connections: translated ones that outlived their reason, and packets that nobody says are too large.

use std::net::IpAddr;

use kernel::conntrack::Flow;

use super::{host::way_in, undo};
use crate::{
    doctor::{Finding, Remedy, Rule, Severity, Spot, mend::Mend},
    facts::{
        Facts,
        attachment::Attached,
        firewall::{Chain, Traffic},
    },
};

pub(super) const CONNTRACK_STALE: Rule = Rule {
    code: "conntrack-stale",
    summary: "a UDP sender still goes where a published port led before",
    text: "The kernel translates a UDP flow by its first packet for as long as packets come, whatever the rules have become: to a container that is gone, \
           or to the host itself where the flow began before the port was published. DNS and game clients with a fixed port keep such a flow alive \
           for ever. Forgetting the flow lets the next packet find its way.",
    remedy: Remedy::Fix("forgets the connection; the next packet begins another"),
    check: conntrack_stale,
};

fn conntrack_stale(facts: &Facts) -> Vec<Finding> {
    let published: Vec<_> =
        facts.attachments.iter().filter_map(|it| Some((it, udp_ports(facts, it)?))).collect();
    let stale = facts.flows.iter().filter_map(|flow| Some((flow, wrong(facts, &published, flow)?)));
    let found = stale.map(|(flow, cause)| {
        let (from, to) = (flow.original.source, flow.original.destination);
        let (from_port, to_port) = (flow.original.source_port, flow.original.destination_port);
        let message =
            format!("UDP from {from} port {from_port} to {to} port {to_port} goes to {}", flow.reply.source);
        Finding::new(Spot::host(), message, cause).mend(Mend::Forget { flow: flow.clone() })
    });
    found.collect()
}

type Ports = Vec<(Option<IpAddr>, u16, u16)>;

/// The ports that a live container publishes: address and port of the host, port of the container.
fn udp_ports(facts: &Facts, attached: &Attached) -> Option<Ports> {
    facts.interface(attached)?;
    let ports = attached.ports().into_iter().filter(|port| port.protocol == "udp");
    let host = |text: &Option<String>| {
        text.as_ref().and_then(|text| text.parse::<IpAddr>().ok()).filter(|ip| !ip.is_unspecified())
    };
    let ports: Vec<_> = ports.map(|port| (host(&port.host_ip), port.host, port.container)).collect();
    (!ports.is_empty()).then_some(ports)
}

/// Why the flow goes wrong, if it does.
fn wrong(facts: &Facts, published: &[(&Attached, Ports)], flow: &Flow) -> Option<String> {
    let (original, reply) = (&flow.original, &flow.reply);
    let is_ours = |address: IpAddr| facts.host().addresses.iter().any(|it| it.network.ip() == address);
    for (attached, ports) in published.iter().filter(|_| is_ours(original.destination)) {
        let addresses: Vec<_> = attached.addresses().into_iter().map(|address| address.ip()).collect();
        if !addresses.iter().any(|address| address.is_ipv4() == original.destination.is_ipv4()) {
            continue;
        }
        let leads = |(host, port, inside): &&(Option<IpAddr>, u16, u16)| {
            *port == original.destination_port
                && host.is_none_or(|host| host == original.destination)
                && !(addresses.contains(&reply.source) && reply.source_port == *inside)
        };
        if let Some((.., inside)) = ports.iter().find(leads) {
            return Some(format!("the port is now {}'s, port {inside}", attached.key));
        }
    }
    let translated = reply.source != original.destination && is_ours(original.destination);
    let of_network =
        facts.networks.iter().any(|it| it.subnets().iter().any(|all| all.contains(reply.source)));
    let mut all = facts.spaces.iter().flat_map(|space| &space.addresses);
    let nobody = translated && of_network && !all.any(|it| it.network.ip() == reply.source);
    nobody.then(|| format!("{} is nobody's any more", reply.source))
}

pub(super) const HAIRPIN_NO_MASQ: Rule = Rule {
    code: "hairpin-no-masq",
    summary: "a container that calls its own published port is answered by itself",
    text: "The call comes back to the container with its own address as the sender, which it drops as a forgery, unless the host masquerades it on the \
           way. portmap does so unless its configuration says `\"snat\": false`.",
    remedy: Remedy::Partly("puts the elements back; not where the configuration has `\"snat\": false`"),
    check: hairpin_no_masq,
};

fn hairpin_no_masq(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attached in facts.attachments.iter().filter(|it| !it.ports().is_empty()) {
        let Some(link) = facts.host_link(attached) else { continue };
        let spot = Spot::device(&link.name);
        let message = format!("{} cannot reach itself through a published port", attached.key);
        if is_only_hairpin(attached) {
            let found = Finding::new(spot, message, format!("the tables lack {}", attached.unpublished[0]));
            findings.push(found.mend(Mend::Rules));
            continue;
        }
        let network = facts.network(attached.key.network.as_str());
        let off = network.is_some_and(|network| {
            let mut portmaps = network.list.plugins.iter().filter(|it| it.plugin_type == "portmap");
            portmaps.any(|it| cni::decode::field(&it.config, "snat") == Some(&false.into()))
        });
        // Without hairpin mode it was not asked for.
        if off && link.port.is_some_and(|port| port.hairpin) {
            let file = network.map(|network| network.list.file.display().to_string()).unwrap_or_default();
            let found = Finding::new(spot, message, format!("portmap has \"snat\": false in {file}"));
            findings.push(
                found
                    .severity(Severity::Warning)
                    .mend(Mend::ByHand(format!("sed -i 's/\"snat\": *false/\"snat\": true/' {file}"))),
            );
        }
    }
    findings
}

/// What is missing of portmap's is only the masquerading of such calls.
pub(super) fn is_only_hairpin(attached: &Attached) -> bool {
    !attached.unpublished.is_empty() && attached.unpublished.iter().all(|it| it.contains("hairpin"))
}

pub(super) const PMTUD_BLACKHOLE: Rule = Rule {
    code: "pmtud-blackhole",
    summary: "packets are too large for the way out, and containers are not told",
    text: "Where a way out is narrower than a container's MTU, the host answers a packet that is too large with ICMP `fragmentation needed` (RFC 1191), and \
           the sender makes smaller ones. Rules that drop ICMP break that: connections open, and hang with the first full packet. Let ICMP type 3 \
           code 4 pass, or make the containers' MTU as small as the way out.",
    remedy: Remedy::Person("the rules are somebody else's, and may be meant"),
    check: pmtud_blackhole,
};

fn pmtud_blackhole(facts: &Facts) -> Vec<Finding> {
    let found = facts.trials.large.iter().map(|large| {
        let attached = &facts.attachments[large.attachment];
        let way_in = way_in(facts, attached).map(|link| link.name.clone()).unwrap_or_default();
        let addresses: Vec<_> = attached.addresses().into_iter().map(|address| address.ip()).collect();
        // Type 3, code 4, compared one by one or together.
        let headers: [&[u8]; 4] = [&[1], &[3], &[4], &[3, 4]];
        let is_ipv4 = large.to.is_ipv4();
        let traffic = Traffic { is_ipv4, device: &way_in, addresses: &addresses, headers: &headers };
        let all: [&[Chain]; 2] = [&facts.output, &facts.forward];
        let rule = all.into_iter().flatten().find_map(|chain| chain.stops(&traffic));
        let spot = Spot { rule: rule.clone(), ..Spot::device(&large.device) };
        let message = format!("packets of {} above {} bytes disappear", attached.key, large.mtu);
        let cause = match &rule {
            Some(rule) => format!("{rule} stops the errors that would tell it"),
            None => "no error tells it so".to_owned(),
        };
        let mtu = facts.interface(attached).map(|inside| inside.mtu).unwrap_or_default();
        let command = match &rule {
            Some(rule) => undo(rule),
            None => format!(
                "nft list chains  # find what drops icmp type destination-unreachable, beside {way_in}"
            ),
        };
        let found = Finding::new(spot, message, cause).mend(Mend::ByHand(command));
        found.evidence(format!("{mtu} bytes to {} got no answer and no error, 84 did", large.to))
    });
    found.collect()
}
