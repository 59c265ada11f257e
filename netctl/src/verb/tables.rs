//! `netctl neigh`, `fdb` and `flows`: tables of the kernel, with the containers' names in them.

use std::{collections::BTreeMap, net::IpAddr};

use clap::Args;
use kernel::{
    conntrack::{Conntrack, Ends, Filter},
    fdb,
    link::Link,
    neighbour,
    netlink::Netlink,
    netns::Netns,
};
use serde_json::json;

use crate::{
    commands,
    exit::Failure,
    facts::Facts,
    output::{Reply, Table},
    verb::Context,
};

/// Lists whose MAC address goes with which IP address, in the host's namespace and every container's.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netctl neigh")]
pub struct Neigh {}

/// Lists behind which port of a bridge, or which end of a tunnel, each MAC address is.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netctl fdb -o json")]
pub struct Fdb {}

/// Lists the host's tracked connections of containers.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netctl flows\n  netctl flows --all")]
pub struct Flows {
    /// Those of others too
    #[arg(long)]
    all: bool,
}

pub fn neigh(facts: &Facts, context: &Context) -> Result<Reply, Failure> {
    context.show_commands(|| commands::facts::everywhere(facts, "ip neigh"));
    let owners = owners(facts);
    let (mut items, mut names, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for space in &facts.spaces {
        let netns = Netns::open(&space.place.path).map_err(anyhow::Error::new)?;
        let mut netlink = Netlink::open_in(&netns).map_err(anyhow::Error::new)?;
        let mut entries = neighbour::list(&mut netlink, None).map_err(anyhow::Error::new)?;
        entries.sort_by_key(|entry| (u32::from(entry.link), entry.address));
        for entry in entries {
            let device = space.link_at(entry.link).map(|link| link.name.clone()).unwrap_or_default();
            let mac = entry.mac.map(|mac| mac.to_string());
            let container = owners.get(&entry.address).cloned();
            let (netns, address, state) = (&space.place.name, entry.address.to_string(), state(entry.state));
            items.push(
                json!({"netns": netns, "device": device, "address": address, "mac": mac, "state": state,
                "container": container}),
            );
            let cells = [netns.clone(), device, address.clone(), mac.unwrap_or_default(), state.to_owned()];
            rows.push(cells.into_iter().chain([container.unwrap_or_default()]).collect());
            names.push(address);
        }
    }
    let columns = &["NETNS", "DEVICE", "ADDRESS", "MAC", "STATE", "CONTAINER"];
    Ok(Reply { kind: "Neighbours", items, names, table: Table { columns, wide: &[], rows } })
}

/// `NUD_*` as `ip neigh` words it.
fn state(bits: u16) -> &'static str {
    match bits {
        0x01 => "incomplete",
        0x02 => "reachable",
        0x04 => "stale",
        0x08 => "delay",
        0x10 => "probe",
        neighbour::FAILED => "failed",
        neighbour::PERMANENT => "permanent",
        _ => "none",
    }
}

pub fn fdb(facts: &Facts, context: &Context) -> Result<Reply, Failure> {
    context.show_commands(|| vec!["bridge fdb show".to_owned()]);
    let host = facts.host();
    let macs: BTreeMap<_, _> = facts
        .attachments
        .iter()
        .filter_map(|it| Some((facts.interface(it)?.mac?, it.label().to_owned())))
        .collect();
    let mut netlink = Netlink::open().map_err(anyhow::Error::new)?;
    let (mut items, mut names, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let has_table =
        |link: &&Link| link.master.is_some() || link.kind.as_ref().is_some_and(|it| it.name() == "vxlan");
    for link in host.links.iter().filter(has_table) {
        let mut entries = fdb::list(&mut netlink, link.index).map_err(anyhow::Error::new)?;
        entries.sort_by_key(|entry| (entry.mac, entry.vlan, entry.remote));
        let bridge = link.master.and_then(|it| host.link_at(it)).map(|it| it.name.clone());
        for entry in entries.into_iter().filter(|entry| !entry.mac.is_multicast()) {
            let remote = entry.remote.map(|remote| remote.to_string());
            let container = macs.get(&entry.mac).cloned();
            let (mac, state) = (entry.mac.to_string(), if entry.permanent { "permanent" } else { "learned" });
            items.push(json!({"device": link.name, "bridge": bridge, "mac": mac, "remote": remote,
                "vlan": entry.vlan, "state": state, "container": container}));
            let vlan = entry.vlan.map(|vlan| vlan.to_string());
            let texts = [bridge.clone(), Some(mac.clone()), remote, vlan, Some(state.to_owned()), container];
            let cells = [Some(link.name.clone())].into_iter().chain(texts);
            rows.push(cells.map(Option::unwrap_or_default).collect());
            names.push(mac);
        }
    }
    let columns = &["DEVICE", "BRIDGE", "MAC", "REMOTE", "VLAN", "STATE", "CONTAINER"];
    Ok(Reply { kind: "ForwardingEntries", items, names, table: Table { columns, wide: &[], rows } })
}

pub fn flows(flows: &Flows, facts: &Facts, context: &Context) -> Result<Reply, Failure> {
    let owners = owners(facts);
    context.show_commands(|| vec!["conntrack -L".to_owned()]);
    let mut conntrack = Conntrack::open().map_err(anyhow::Error::new)?;
    let mut found = conntrack.list(&Filter::default()).map_err(anyhow::Error::new)?;
    found.sort_by_key(|flow| (flow.protocol, sort_key(&flow.original), sort_key(&flow.reply)));
    let (mut items, mut names, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for flow in found {
        let ends = [&flow.original, &flow.reply];
        let container =
            ends.iter().flat_map(|ends| [ends.source, ends.destination]).find_map(|it| owners.get(&it));
        if container.is_none() && !flows.all {
            continue;
        }
        let [original, reply] = ends.map(shown);
        let is_translated = flow.original.source != flow.reply.destination
            || flow.original.destination != flow.reply.source
            || flow.original.source_port != flow.reply.destination_port
            || flow.original.destination_port != flow.reply.source_port;
        let protocol = protocol(flow.protocol);
        let end = |ends: &Ends| {
            json!({"source": ends.source.to_string(), "sourcePort": ends.source_port,
                "destination": ends.destination.to_string(), "destinationPort": ends.destination_port})
        };
        items.push(json!({"protocol": protocol, "original": end(&flow.original), "reply": end(&flow.reply),
            "translated": is_translated, "container": container}));
        names.push(original.clone());
        let nat = if is_translated { "nat" } else { "" };
        rows.push(vec![protocol, original, reply, nat.to_owned(), container.cloned().unwrap_or_default()]);
    }
    let columns = &["PROTOCOL", "ORIGINAL", "REPLY", "NAT", "CONTAINER"];
    Ok(Reply { kind: "Flows", items, names, table: Table { columns, wide: &[], rows } })
}

fn sort_key(ends: &Ends) -> (IpAddr, IpAddr, u16, u16) {
    (ends.source, ends.destination, ends.destination_port, ends.source_port)
}

fn shown(ends: &Ends) -> String {
    let end = |address: IpAddr, port: u16| std::net::SocketAddr::new(address, port).to_string();
    format!("{} → {}", end(ends.source, ends.source_port), end(ends.destination, ends.destination_port))
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

/// Whose an address is.
fn owners(facts: &Facts) -> BTreeMap<IpAddr, String> {
    let of = facts.attachments.iter().flat_map(|it| {
        it.addresses().into_iter().map(|address| (address.ip(), it.label().to_owned())).collect::<Vec<_>>()
    });
    of.collect()
}
