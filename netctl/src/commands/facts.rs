//! The commands of the verbs that look at a node's state.

use kernel::link::Link;

use super::{inside, line, named, words};
use crate::facts::{Facts, attachment::Attached, network::Network, space::Space};

/// Containers with their addresses, and the host's ends.
pub fn attachments(facts: &Facts, wanted: impl Fn(&Attached) -> bool) -> Vec<String> {
    let mut lines = vec![shell("ip -br link show type veth"), shell("bridge link")];
    for attached in facts.attachments.iter().filter(|it| wanted(it)) {
        lines.extend(attached.file.as_deref().map(|file| quoted("cat", file)));
        let Some((space, link)) = facts.space(attached).zip(facts.interface(attached)) else { continue };
        lines.push(line(&inside(&space.place, &format!("ip addr show dev {}", link.name))));
    }
    lines
}

/// Files, bridges and leases of networks.
pub fn networks<'a>(facts: &Facts, networks: impl IntoIterator<Item = &'a Network>) -> Vec<String> {
    let mut lines = Vec::new();
    for network in networks {
        lines.push(quoted("cat", &network.list.file.display().to_string()));
        let device = network.bridge.as_deref().or(network.master.as_deref());
        if let Some(link) = device.and_then(|name| facts.host().link(name)) {
            lines.push(shell(&format!("ip -d addr show dev {}", link.name)));
            if link.is_bridge() {
                lines.push(shell(&format!("ip link show master {}", link.name)));
            }
        }
        lines.extend(leases(network));
    }
    lines
}

/// Who holds which address of a network; nothing where nobody does.
pub fn leases(network: &Network) -> Option<String> {
    let place = &network.pool.as_ref()?.as_ref().ok()?.place;
    let has_any = !network.leases.is_empty();
    has_any.then(|| quoted("grep -r .", &place.leases().display().to_string()))
}

/// That take leases away, as a person would; netctl takes the network's lock while it does so.
pub fn release(network: &Network, addresses: impl IntoIterator<Item = std::net::IpAddr>) -> Vec<String> {
    let Some(Ok(pool)) = &network.pool else { return Vec::new() };
    let file = |address: std::net::IpAddr| pool.place.leases().join(address.to_string());
    addresses.into_iter().map(|address| quoted("rm", &file(address).display().to_string())).collect()
}

/// Everything about one attachment.
pub fn everything(facts: &Facts, attached: &Attached) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(space) = facts.space(attached) {
        for command in ["ip -d addr", "ip route", "ip -6 route", "ip neigh"] {
            lines.push(line(&inside(&space.place, command)));
        }
        let inode = space.place.inode;
        let find = || {
            format!("find /proc -maxdepth 3 -path '*/ns/net' -lname 'net:\\[{inode}\\]' 2>/dev/null || true")
        };
        lines.push(named(&space.place).map_or_else(find, |name| shell(&format!("ip netns pids {name}"))));
    }
    let port = |link: &Link| shell(&format!("ip -d link show dev {}", link.name));
    lines.extend(facts.host_link(attached).map(port));
    lines.extend(attached.file.as_deref().map(|file| quoted("cat", file)));
    lines
}

/// In every namespace.
pub fn everywhere(facts: &Facts, command: &str) -> Vec<String> {
    facts.spaces.iter().map(|Space { place, .. }| line(&inside(place, command))).collect()
}

/// Rules and connections of published and masqueraded containers.
pub fn translations() -> Vec<String> {
    ["nft list ruleset", "conntrack -L --src-nat", "conntrack -L --dst-nat"].map(str::to_owned).to_vec()
}

/// Counters of the containers' devices: the host's end where there is one.
pub fn counters(facts: &Facts) -> Vec<String> {
    let of = facts.attachments.iter().filter_map(|it| match facts.host_link(it) {
        Some(link) => Some(shell(&format!("ip -s -s link show dev {}", link.name))),
        None => {
            let (space, link) = facts.space(it).zip(facts.interface(it))?;
            Some(line(&inside(&space.place, &format!("ip -s -s link show dev {}", link.name))))
        }
    });
    of.collect()
}

/// Of a network's tunnel on this host.
pub fn tunnel(device: &str) -> Vec<String> {
    let commands =
        ["ip -d link show", "bridge fdb show", "ip neigh show", "ip route show", "ip -6 route show"];
    commands.map(|command| format!("{command} dev {device}")).to_vec()
}

/// The configuration files, for their syntax.
pub fn syntax<'a>(networks: impl IntoIterator<Item = &'a Network>) -> Vec<String> {
    networks.into_iter().map(|network| quoted("jq .", &network.list.file.display().to_string())).collect()
}

fn shell(command: &str) -> String {
    line(&words(command))
}

fn quoted(command: &str, argument: &str) -> String {
    let mut words = words(command);
    words.push(argument.to_owned());
    line(&words)
}
