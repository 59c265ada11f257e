//! `netctl inspect`: everything about a container.

use std::collections::BTreeMap;

use clap::Args;
use kernel::link::Link;
use serde_json::{Value, json};

use super::ps;
use crate::{
    commands,
    exit::Failure,
    facts::{Facts, attachment::Attached, space},
    output::{Reply, Table},
    verb::{Context, look::Sight},
};

/// Shows everything about the attachments of a container: its links, addresses and routes, the host's end of each veth, the
/// result in libcni's cache and what our plugin has written down.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Inspect {
    /// A container's name, the start of its id, NETWORK/CONTAINER, an address, the host's end of a veth, netns:PATH|NAME;
    /// NODE/... on a peer
    #[arg(value_name = "SELECTOR", required = true)]
    selectors: Vec<String>,
}

pub fn look(inspect: &Inspect, facts: &Facts, context: &Context) -> Result<Sight, Failure> {
    let (mut items, mut names, mut unknown) = (Vec::new(), Vec::new(), BTreeMap::new());
    for selector in &inspect.selectors {
        let found = select(facts, selector)?;
        if found.is_empty() {
            let why = format!("no container {selector:?}; `netctl ps` lists them");
            unknown.insert(selector.clone(), why);
            continue;
        }
        let everything = |attached: &&Attached| commands::facts::everything(facts, attached);
        context.show_commands(|| found.iter().flat_map(everything).collect());
        items.extend(found.into_iter().map(|attached| detail(facts, attached)));
        names.push(selector.clone());
    }
    let reply = Reply { kind: "Attachment", items, names, table: Table::default() };
    Ok(Sight { unknown, ..Sight::from(reply) })
}

/// The attachments of the one container that the selector means here; none if it means another node's.
fn select<'a>(facts: &'a Facts, selector: &str) -> Result<Vec<&'a Attached>, Failure> {
    let here = selector.strip_prefix(facts.node.as_str()).and_then(|rest| rest.strip_prefix('/'));
    let selector = here.unwrap_or(selector);
    let exact = |it: &&Attached| is_named(facts, it, selector);
    let mut found: Vec<_> = facts.attachments.iter().filter(exact).collect();
    if found.is_empty() {
        let prefix = selector.strip_prefix("id:").unwrap_or(selector);
        let starts = |it: &&Attached| it.key.container.as_str().starts_with(prefix);
        found = facts.attachments.iter().filter(starts).collect();
    }
    let mut labels: Vec<_> = found.iter().map(|it| it.key.container.as_str()).collect();
    labels.sort_unstable();
    labels.dedup();
    if labels.len() > 1 {
        return Err(Failure::Usage(format!("{selector:?} means several containers: {}", labels.join(", "))));
    }
    Ok(found)
}

fn is_named(facts: &Facts, attached: &Attached, selector: &str) -> bool {
    let (network, container) = (attached.key.network.as_str(), attached.key.container.as_str());
    let called = |name: &str| name == container || Some(name) == attached.name.as_deref();
    if let Some(netns) = selector.strip_prefix("netns:") {
        let name = facts.space(attached).is_some_and(|space| space.place.name == netns);
        return name || attached.netns.as_deref() == Some(netns);
    }
    called(selector)
        || selector.split_once('/').is_some_and(|(of, name)| of == network && called(name))
        || attached.addresses().iter().any(|address| address.ip().to_string() == selector)
        || facts.host_link(attached).is_some_and(|link| link.name == selector)
}

fn detail(facts: &Facts, attached: &Attached) -> Value {
    let mut value = ps::Row::of(facts, attached).json();
    let Some(object) = value.as_object_mut() else { return value };
    let space = facts.space(attached);
    let routes: Vec<_> = space
        .iter()
        .flat_map(|space| space.routes.iter().map(move |route| (space, route)))
        .filter(|(_, route)| !(route.dst.is_ipv6() && route.dst.ip().is_multicast()))
        .map(|(space, route)| {
            let device = route.dev.and_then(|dev| space.link_at(dev)).map(|link| link.name.clone());
            let gateway = route.gateway.map(|gateway| gateway.to_string());
            json!({"dst": route.dst.to_string(), "gateway": gateway, "device": device})
        })
        .collect();
    let links: Vec<_> = space.iter().flat_map(|space| space.links.iter().map(link)).collect();
    let pids = space.map(|space| space::processes(&space.place)).unwrap_or_default();
    let host = facts.host_link(attached);
    let entry = attached.entry.as_ref();
    let plugin = attached.made.as_ref().map(|made| made.plugin);
    object.insert("netnsInode".to_owned(), space.map(|space| space.place.inode).into());
    object.insert("pids".to_owned(), pids.into());
    object.insert("links".to_owned(), links.into());
    object.insert("routes".to_owned(), routes.into());
    object.insert("hostLink".to_owned(), host.map(link).into());
    object.insert(
        "cache".to_owned(),
        json!({"file": attached.file, "result": entry.and_then(|it| it.result.clone())}),
    );
    object.insert("record".to_owned(), json!({"plugin": plugin, "missingRules": attached.unruled}));
    value
}

fn link(link: &Link) -> Value {
    let port = link.port.map(|port| json!({"hairpin": port.hairpin, "isolated": port.isolated}));
    json!({
        "name": link.name, "index": u32::from(link.index), "kind": link.kind.as_ref().map(|kind| kind.name().to_owned()),
        "mtu": link.mtu, "mac": link.mac.map(|mac| mac.to_string()), "up": link.is_up(), "alias": link.alias, "port": port,
    })
}

const AFTER_HELP: &str = "\
Examples:
  netctl inspect c1
  netctl inspect mynet/c1 -o json
  netctl inspect 10.9.0.2";
