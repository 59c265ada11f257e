//! `netctl network`: the networks of the directory, and what each has on this node.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ps;
use crate::{
    commands,
    exit::Failure,
    facts::{
        Facts,
        attachment::Attached,
        network::{Network as Facet, capacity},
    },
    output::{Reply, Table},
    verb::{Context, look::Sight},
};

/// Shows the networks that are configured on this node.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netctl network ls")]
pub struct Network {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the networks
    #[command(visible_alias = "list", after_help = "Example:\n  netctl network ls -o name")]
    Ls,
    /// Show everything about a network
    #[command(after_help = "Example:\n  netctl network inspect mynet")]
    Inspect {
        #[arg(value_name = "NETWORK", required = true)]
        networks: Vec<String>,
    },
    /// List the host's routes that lead to networks
    #[command(after_help = "Example:\n  netctl network routes mynet")]
    Routes { networks: Vec<String> },
}

pub fn look(network: &Network, facts: &Facts, context: &Context) -> Sight {
    match &network.verb {
        Verb::Ls => {
            context.show_commands(|| commands::facts::networks(facts, &facts.networks));
            list(facts).into()
        }
        Verb::Inspect { networks } => {
            let (known, unknown) = chosen(facts, networks);
            let wanted = |it: &Attached| known.iter().any(|network| it.key.network == network.list.name);
            context.show_commands(|| {
                let attachments = commands::facts::attachments(facts, wanted);
                commands::facts::networks(facts, known.iter().copied())
                    .into_iter()
                    .chain(attachments)
                    .collect()
            });
            let items = known.iter().map(|network| detail(facts, network)).collect();
            let names = known.iter().map(|network| network.list.name.to_string()).collect();
            let reply = Reply { kind: "Network", items, names, table: Table::default() };
            Sight { unknown, ..Sight::from(reply) }
        }
        Verb::Routes { networks } => {
            let (known, unknown) = match &networks[..] {
                [] => (facts.networks.iter().collect(), BTreeMap::new()),
                named => chosen(facts, named),
            };
            context.show_commands(|| vec!["ip route".to_owned(), "ip -6 route".to_owned()]);
            Sight { unknown, ..Sight::from(routes(facts, &known)) }
        }
    }
}

/// Those of that name, and why the others are none.
pub(super) fn chosen<'a>(facts: &'a Facts, names: &[String]) -> (Vec<&'a Facet>, BTreeMap<String, String>) {
    let (mut known, mut unknown) = (Vec::new(), BTreeMap::new());
    for name in names {
        match find(facts, name) {
            Ok(network) => known.push(network),
            Err(why) => {
                unknown.insert(name.clone(), why.to_string());
            }
        }
    }
    (known, unknown)
}

/// The host's routes that lead to a network: over its device, or into one of its subnets.
fn routes(facts: &Facts, networks: &[&Facet]) -> Reply {
    let host = facts.host();
    let (mut items, mut names, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for network in networks {
        let name = network.list.name.to_string();
        let devices = [network.bridge.as_deref(), network.master.as_deref()];
        let subnets = network.subnets();
        for route in &host.routes {
            let device = route.dev.and_then(|dev| host.link_at(dev)).map(|link| link.name.clone());
            let is_over = device.is_some() && devices.contains(&device.as_deref());
            let is_inside = subnets.iter().any(|subnet| subnet.contains(route.dst.ip()));
            let is_multicast = route.dst.ip().is_multicast();
            if is_multicast || !(is_over && route.dst.prefix() > 0 || is_inside) {
                continue;
            }
            let (dst, gateway) = (route.dst.to_string(), route.gateway.map(|it| it.to_string()));
            items.push(json!({"network": name, "dst": dst, "gateway": gateway, "device": device}));
            rows.push(vec![
                name.clone(),
                dst.clone(),
                gateway.unwrap_or_default(),
                device.unwrap_or_default(),
            ]);
            names.push(dst);
        }
    }
    let columns = &["NETWORK", "DESTINATION", "GATEWAY", "DEVICE"];
    Reply { kind: "Routes", items, names, table: Table { columns, wide: &[], rows } }
}

/// The network of that name; one that is not there is the user's mistake.
pub(super) fn find<'a>(facts: &'a Facts, name: &str) -> Result<&'a Facet, Failure> {
    facts.network(name).ok_or_else(|| {
        let known: Vec<_> = facts.networks.iter().map(|network| network.list.name.as_str()).collect();
        Failure::Usage(format!("no network {name:?}; there are: {}", known.join(", ")))
    })
}

fn list(facts: &Facts) -> Reply {
    let networks = &facts.networks;
    Reply {
        kind: "Networks",
        items: networks.iter().map(|network| brief(facts, network)).collect(),
        names: networks.iter().map(|network| network.list.name.to_string()).collect(),
        table: Table {
            columns: &["NAME", "DRIVER", "SUBNET", "GATEWAY", "MTU", "ATTACHED", "IPAM", "DEVICE"],
            wide: &["PLUGINS", "VERSION", "FILE"],
            rows: networks.iter().map(|network| cells(facts, network)).collect(),
        },
    }
}

fn cells(facts: &Facts, network: &Facet) -> Vec<String> {
    let joined = |texts: Vec<String>| texts.join(",");
    let plugins = network.list.plugins.iter().map(|plugin| plugin.plugin_type.clone());
    let device = network.bridge.clone().or_else(|| network.master.clone());
    vec![
        network.list.name.to_string(),
        network.driver.clone(),
        joined(network.subnets().iter().map(ToString::to_string).collect()),
        joined(network.gateways().iter().map(ToString::to_string).collect()),
        mtu(facts, network).map(|mtu| mtu.to_string()).unwrap_or_default(),
        facts.attached_to(network).count().to_string(),
        addresses(network).unwrap_or_default(),
        device.unwrap_or_default(),
        joined(plugins.collect()),
        network.list.version.to_string(),
        network.list.file.display().to_string(),
    ]
}

/// `2/253` of host-local, else the type.
fn addresses(network: &Facet) -> Option<String> {
    match network.sets().is_empty() {
        true => network.ipam.clone(),
        false => Some(format!("{}/{}", network.leases.len(), capacity(network.sets()))),
    }
}

/// As configured, else as the bridge or the link below has it.
fn mtu(facts: &Facts, network: &Facet) -> Option<u32> {
    let device = network.bridge.as_deref().or(network.master.as_deref());
    network.mtu.or_else(|| facts.host().link(device?).map(|link| link.mtu))
}

fn brief(facts: &Facts, network: &Facet) -> Value {
    let texts = |texts: &[String]| json!(texts);
    let plugins: Vec<_> = network.list.plugins.iter().map(|plugin| plugin.plugin_type.clone()).collect();
    json!({
        "node": facts.node, "name": network.list.name.as_str(), "driver": network.driver,
        "subnets": texts(&network.subnets().iter().map(ToString::to_string).collect::<Vec<_>>()),
        "gateways": texts(&network.gateways().iter().map(ToString::to_string).collect::<Vec<_>>()),
        "mtu": mtu(facts, network), "bridge": network.bridge, "master": network.master,
        "attached": facts.attached_to(network).count(),
        "ipam": {"type": network.ipam, "leased": network.leases.len(), "capacity": capacity(network.sets())},
        "plugins": texts(&plugins), "cniVersion": network.list.version.to_string(),
        "file": network.list.file.display().to_string(),
    })
}

fn detail(facts: &Facts, network: &Facet) -> Value {
    let mut value = brief(facts, network);
    let attachments: Vec<_> =
        facts.attached_to(network).map(|attached| ps::Row::of(facts, attached).json()).collect();
    let bridge = network.bridge.as_deref().and_then(|name| facts.host().link(name)).map(|link| {
        let addresses: Vec<_> = facts.host().addresses_of(link).iter().map(ToString::to_string).collect();
        let ports = facts.host().links.iter().filter(|port| port.master == Some(link.index));
        json!({
            "name": link.name, "up": link.is_up(), "mtu": link.mtu, "mac": link.mac.map(|mac| mac.to_string()),
            "ips": addresses, "ports": ports.map(|port| port.name.clone()).collect::<Vec<_>>(),
        })
    });
    if let Some(object) = value.as_object_mut() {
        object.insert("device".to_owned(), bridge.into());
        object.insert("attachments".to_owned(), attachments.into());
        let config = serde_json::from_slice::<Value>(&network.list.bytes).unwrap_or_default();
        object.insert("config".to_owned(), config);
    }
    value
}
