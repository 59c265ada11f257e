//! Rules about the host as a router for its containers.

use std::net::IpAddr;

use kernel::link::Link;

use crate::{
    doctor::{
        Finding, Remedy, Rule, Severity, Spot,
        lost::{Distance, Lost},
        mend::Mend,
    },
    facts::{Facts, attachment::Attached, firewall::Fate, network::Network},
};

pub(super) const IP_FORWARD_OFF: Rule = Rule {
    code: "ip-forward-off",
    summary: "the host does not forward packets of its containers",
    text: "Containers behind a bridge with isGateway, or behind ptp, reach the world only through this host's routing, which \
           net.ipv4.ip_forward and net.ipv6.conf.all.forwarding switch. Plugins switch it on at ADD; hardening scripts and `sysctl --system` \
           switch it off again.",
    remedy: Remedy::Fix("sets the switch to 1, until somebody sets it again"),
    check: ip_forward_off,
};

fn ip_forward_off(facts: &Facts) -> Vec<Finding> {
    let routed: Vec<_> = facts.attachments.iter().filter(|it| is_routed(facts, it)).collect();
    let families = [("net/ipv4/ip_forward", true), ("net/ipv6/conf/all/forwarding", false)];
    let off = families.into_iter().filter(|(path, v4)| {
        let wanted = routed.iter().flat_map(|it| it.addresses()).any(|address| address.is_ipv4() == *v4);
        wanted && facts.settings.value(path) == Some("0")
    });
    off.map(|(path, v4)| {
        let family = if v4 { "IPv4" } else { "IPv6" };
        let message = format!("{} does not forward {family}: containers reach only each other", facts.node);
        let found = Finding::new(Spot::host(), message, format!("{} is 0", path.replace('/', ".")))
            .evidence(format!("{} attachments need it", routed.len()))
            .mend(Mend::Sysctl { path: path.to_owned(), value: "1" });
        let lost = Lost::Of { is_ipv4: v4, from: Distance::World };
        routed.iter().fold(found, |found, attached| found.loses(attached, lost.clone()))
    })
    .collect()
}

/// The container's packets are meant to be routed by this host.
pub(super) fn is_routed(facts: &Facts, attached: &Attached) -> bool {
    let network = facts.network(attached.key.network.as_str());
    let is_ptp = |network: &Network| network.driver == "ptp";
    let is_port = facts.host_link(attached).map(|link| link.master.is_some());
    let by_bridge =
        |network: &Network| network.bridge.is_some() && network.is_gateway && is_port == Some(true);
    // Without a configuration the record tells, as far as it does.
    let by_record = || {
        let made = attached.made.as_ref().filter(|_| network.is_none());
        made.is_some_and(|made| match made.plugin {
            "ptp" => is_port.is_some(),
            plugin => is_port == Some(true) && (made.masquerade || plugin == "overlay"),
        })
    };
    network.is_some_and(|it| by_bridge(it) || is_ptp(it) && is_port.is_some()) || by_record()
}

/// Where the container's packets come to the host: the bridge, or the host's end of the veth.
pub(super) fn way_in<'a>(facts: &'a Facts, attached: &Attached) -> Option<&'a Link> {
    let link = facts.host_link(attached)?;
    match link.master {
        Some(master) => facts.host().link_at(master),
        None => Some(link),
    }
}

pub(super) const FORWARD_DROP: Rule = Rule {
    code: "forward-drop",
    summary: "a firewall of the host drops what containers send through it",
    text: "A base chain at the forward hook drops the containers' packets, by its policy or by a rule. An accept in another table does not help: \
           every base chain has to let a packet pass. Docker sets the policy of iptables' FORWARD to DROP, ufw and firewalld have their own. The chained \
           plugin `firewall` puts an accept there for each network.",
    remedy: Remedy::Person("the rules are somebody else's, and may be meant"),
    check: forward_drop,
};

fn forward_drop(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for attached in facts.attachments.iter().filter(|it| is_routed(facts, it)) {
        let Some(device) = way_in(facts, attached) else { continue };
        for address in attached.addresses() {
            for chain in &facts.forward {
                let name = format!("{} {} {}", chain.family, chain.table, chain.name);
                let (rule, cause) = match chain.fate(&device.name, address.ip()) {
                    Fate::Passes => continue,
                    Fate::DroppedByPolicy => {
                        (name.clone(), format!("chain {name}: policy drop, no rule accepts {}", device.name))
                    }
                    Fate::DroppedBy(chain_name, handle) => {
                        let rule = format!("{} {} {chain_name} handle {handle}", chain.family, chain.table);
                        (rule.clone(), format!("rule {rule} drops it"))
                    }
                };
                // The accepts that stood there are what is missing then.
                if chain.table == "filter" && lacks_accepts(facts, attached) {
                    continue;
                }
                let spot = Spot { rule: Some(rule), ..Spot::device(&device.name) };
                let lost = Lost::Of { is_ipv4: address.is_ipv4(), from: Distance::World };
                if let Some(found) = findings.iter_mut().find(|found| found.spot == spot) {
                    found.losses.push((attached.key.clone(), lost));
                    continue;
                }
                let owner = owner(facts, &chain.table);
                let message = format!(
                    "{} drops what containers behind {} send through it{owner}",
                    facts.node, device.name
                );
                let insert = format!("nft insert rule {} {} {}", chain.family, chain.table, chain.name);
                let command = format!(
                    "{insert} iifname {0} accept && {insert} oifname {0} ct state established,related accept",
                    device.name
                );
                let found = Finding::new(spot, message, cause).mend(Mend::ByHand(command));
                findings.push(found.evidence(format!("{}: {address}", attached.key)).loses(attached, lost));
            }
        }
    }
    findings
}

/// What the plugin `firewall` has for the container's network in the host's own tables is gone, which is a finding.
fn lacks_accepts(facts: &Facts, attached: &Attached) -> bool {
    let mut missing = facts.shared.iter().filter(|(_, missing)| !missing.is_empty());
    missing.any(|(shared, _)| *shared.network() == attached.key.network)
}

/// Who is known to keep such chains.
fn owner(facts: &Facts, table: &str) -> String {
    let chains = facts.forward.iter().filter(|chain| chain.table == table);
    let names: Vec<_> = chains.flat_map(|chain| chain.rules.iter().map(|rule| rule.chain.as_str())).collect();
    let starts = |start: &str| names.iter().any(|name| name.starts_with(start));
    let owner = match table {
        "firewalld" => "firewalld",
        _ if starts("DOCKER") => "Docker",
        _ if starts("ufw") => "ufw",
        _ => return String::new(),
    };
    format!(" ({owner}'s rules)")
}

pub(super) const BR_NETFILTER_OFF: Rule = Rule {
    code: "br-netfilter-off",
    summary: "answers between containers of one bridge miss the translation of published ports",
    text: "A container that calls a published port of a neighbour on its bridge is answered through the bridge, past the address translation, \
           unless net.bridge.bridge-nf-call-iptables is 1: the answer comes from an address that was never called, and is dropped.",
    remedy: Remedy::Fix("sets it to 1, until somebody sets it again"),
    check: br_netfilter_off,
};

fn br_netfilter_off(facts: &Facts) -> Vec<Finding> {
    const PATH: &str = "net/bridge/bridge-nf-call-iptables";
    if facts.settings.value(PATH) != Some("0") {
        return Vec::new();
    }
    let publishing = facts.attachments.iter().filter(|it| it.space.is_some() && !it.ports().is_empty());
    let mut bridges: Vec<_> = publishing
        .filter_map(|it| way_in(facts, it))
        .filter(|it| it.is_bridge())
        .map(|it| it.name.as_str())
        .collect();
    bridges.sort_unstable();
    bridges.dedup();
    let found = bridges.into_iter().map(|bridge| {
        let message = format!("containers on {bridge} cannot reach each other's published ports");
        Finding::new(Spot::device(bridge), message, "net.bridge.bridge-nf-call-iptables is 0")
            .severity(Severity::Warning)
            .mend(Mend::Sysctl { path: PATH.to_owned(), value: "1" })
    });
    found.collect()
}

pub(super) const BRIDGE_ADDR_MISMATCH: Rule = Rule {
    code: "bridge-addr-mismatch",
    summary: "the bridge does not have the gateway's address",
    text: "Containers send everything to the gateway that the address plugin named, which the bridge has to have as an address. A changed subnet, \
           another tool on the same bridge, or `ip addr flush` leaves it with another one. The reference refuses the next ADD then, unless forceAddress.",
    remedy: Remedy::Partly(
        "adds the address and leaves the others; not where a container has it, or the network is on a VLAN",
    ),
    check: bridge_addr_mismatch,
};

fn bridge_addr_mismatch(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for network in facts.networks.iter().filter(|it| it.is_gateway) {
        let bridge = network.bridge.as_deref().and_then(|name| facts.host().link(name));
        let Some(bridge) = bridge.filter(|_| facts.attached_to(network).any(|it| it.space.is_some())) else {
            continue;
        };
        let has = facts.host().addresses_of(bridge);
        // The gateways of an access VLAN are on an interface of their own.
        let elsewhere =
            |gateway: &IpAddr| facts.host().addresses.iter().any(|it| it.network.ip() == *gateway);
        let subnets = network.subnets();
        for gateway in network.gateways().iter().filter(|gateway| !elsewhere(gateway)) {
            let prefix =
                subnets.iter().find(|it| it.contains(*gateway)).map_or(32, ipnetwork::IpNetwork::prefix);
            let list: Vec<_> = has.iter().map(ToString::to_string).collect();
            let cause = format!(
                "{} has {}",
                bridge.name,
                if list.is_empty() { "none".into() } else { list.join(", ") }
            );
            let message =
                format!("{} lacks {gateway}, the gateway of network {}", bridge.name, network.list.name);
            let taken =
                facts.spaces.iter().flat_map(|it| &it.addresses).any(|it| it.network.ip() == *gateway);
            let mend = match ipnetwork::IpNetwork::new(*gateway, prefix) {
                Ok(whole) if !taken && !network.has_vlans => {
                    Mend::Address { link: bridge.name.clone(), network: whole }
                }
                _ => Mend::ByHand(format!("ip addr add {gateway}/{prefix} dev {}", bridge.name)),
            };
            let found = Finding::new(Spot::device(&bridge.name), message, cause).mend(mend);
            let lost = Lost::Of { is_ipv4: gateway.is_ipv4(), from: Distance::Gateway };
            findings.push(facts.attached_to(network).fold(found, |found, attached| {
                found.loses(attached, lost.clone()).loses(attached, Lost::To((*gateway).into()))
            }));
        }
    }
    findings
}

pub(super) const MACVLAN_HOST_ISOLATION: Rule = Rule {
    code: "macvlan-host-isolation",
    summary: "the host and its macvlan or ipvlan containers cannot reach each other, by design",
    text: "A macvlan or ipvlan and the link that it is on never exchange packets in the kernel, so the host's own address on that link is out of the containers' \
           reach, and they of the host's. An interface of the same kind of the host's own on the same link, with a route to the containers through it, is the \
           way around; our macvlan makes one when asked to.",
    remedy: Remedy::Person(
        "it is as these links work; the configuration decides, for macvlan by `hostAccess`",
    ),
    check: macvlan_host_isolation,
};

fn macvlan_host_isolation(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attached in facts.attachments.iter().filter(|it| it.space.is_some()) {
        let network = facts.network(attached.key.network.as_str());
        let plugin = attached.made.as_ref().map(|made| made.plugin);
        let kind = plugin.or_else(|| Some(network?.driver.as_str()));
        let Some(kind) = kind.filter(|kind| ["macvlan", "ipvlan"].contains(kind)) else { continue };
        let noted = attached.made.as_ref().and_then(|made| made.master.clone());
        let master = noted.or_else(|| network?.master.clone());
        let Some(master) = master.as_deref().and_then(|name| facts.host().link(name)) else { continue };
        let own = facts.host().addresses_of(master);
        let reachable = |address: &ipnetwork::IpNetwork| {
            let shim = facts.host().routes.iter().any(|route| {
                route.dev.is_some_and(|dev| dev != master.index)
                    && route.dst.prefix() > 0
                    && route.dst.contains(address.ip())
            });
            shim || !own.iter().any(|own| own.contains(address.ip()))
        };
        if attached.addresses().iter().all(reachable) {
            continue;
        }
        let spot = attached.netns_spot(facts);
        let list: Vec<_> = own.iter().map(ToString::to_string).collect();
        let message = format!("{} and this host cannot reach each other", attached.key);
        let cause =
            format!("{kind} never exchanges packets with its link {} ({})", master.name, list.join(", "));
        let mut found = Finding::new(spot, message, cause).severity(Severity::Info);
        if kind == "macvlan" {
            let file = network.map(|network| network.list.file.display().to_string()).unwrap_or_default();
            let command = format!(
                "sed -i 's/\"type\": *\"macvlan\"/&, \"hostAccess\": true/' {file}  # for what attaches from then on"
            );
            found = found.mend(Mend::ByHand(command));
        }
        findings.push(found);
    }
    findings
}
