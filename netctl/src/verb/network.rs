//! `netctl network`: the networks of the directory, and what each has on this node.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ps;
use crate::{
    commands,
    exit::{Exit, Failure},
    facts::{
        Facts,
        attachment::Attached,
        network::{Network as Facet, capacity},
    },
    output::{self, Format, Reply, Table},
    verb::Context,
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
}

pub fn run(network: &Network, context: &Context) -> Result<Exit, Failure> {
    let facts = context.facts()?;
    match &network.verb {
        Verb::Ls => {
            context.show_commands(|| commands::facts::networks(&facts, &facts.networks));
            list(&facts).write(context.format);
        }
        Verb::Inspect { networks } => {
            let mut items = Vec::new();
            for name in networks {
                let network = find(&facts, name)?;
                let wanted = |it: &Attached| it.key.network == network.list.name;
                context.show_commands(|| {
                    let attachments = commands::facts::attachments(&facts, wanted);
                    commands::facts::networks(&facts, [network]).into_iter().chain(attachments).collect()
                });
                items.push(detail(&facts, network));
            }
            let document = output::document("Network", items);
            let text = match context.format {
                Format::Json => format!("{document}\n"),
                Format::Name => networks.iter().map(|name| format!("{name}\n")).collect(),
                Format::Table | Format::Wide | Format::Yaml => output::yaml(&document),
            };
            output::write(&text);
        }
    }
    Ok(Exit::Fine)
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
