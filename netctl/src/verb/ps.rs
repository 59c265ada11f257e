//! `netctl ps`: which container is behind which veth, with which address.

use clap::Args;
use ipnetwork::IpNetwork;
use kernel::link::Link;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    commands,
    facts::{
        Facts,
        attachment::{Attached, Port},
        space::Space,
    },
    output::{Reply, Table},
    verb::Context,
};

/// Lists every attachment of this node: container, addresses, MAC address, the host's end of its veth and the bridge, published
/// ports, and whether it is as it was made. Ends of veths that no attachment knows are listed as orphans.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Ps {
    /// Only of these networks
    #[arg(value_name = "NETWORK")]
    networks: Vec<String>,
}

pub fn look(ps: &Ps, facts: &Facts, context: &Context) -> Reply {
    let wanted = |network: Option<&str>| {
        ps.networks.is_empty() || network.is_some_and(|it| ps.networks.iter().any(|name| name == it))
    };
    context.show_commands(|| {
        commands::facts::attachments(facts, |attached| wanted(Some(attached.key.network.as_str())))
    });
    let mut rows = rows(facts);
    rows.retain(|row| wanted(row.network.as_deref()));
    reply(&rows)
}

/// Of one node: its attachments, then what belongs to none.
pub fn rows(facts: &Facts) -> Vec<Row> {
    let attached = facts.attachments.iter().map(|attached| Row::of(facts, attached));
    let orphans = facts.orphans().into_iter().map(|(link, inside)| Row::orphan(facts, link, inside));
    attached.chain(orphans).collect()
}

pub(super) fn reply(rows: &[Row]) -> Reply {
    Reply {
        kind: "Attachments",
        items: rows.iter().map(Row::json).collect(),
        names: rows.iter().map(Row::name).collect(),
        table: Table {
            columns: &[
                "NODE",
                "CONTAINER",
                "NETWORK",
                "IF",
                "IP",
                "MAC",
                "HOST-IF",
                "BRIDGE",
                "PORTS",
                "STATE",
            ],
            wide: &["ID", "NETNS", "MTU", "PLUGIN"],
            rows: rows.iter().map(Row::cells).collect(),
        },
    }
}

/// A line of `ps`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    node: String,
    container: Option<String>,
    id: Option<String>,
    pub(super) network: Option<String>,
    ifname: String,
    #[serde(rename = "ips")]
    addresses: Vec<IpNetwork>,
    mac: Option<String>,
    mtu: Option<u32>,
    #[serde(rename = "hostInterface")]
    host_link: Option<String>,
    bridge: Option<String>,
    ports: Vec<Port>,
    netns: Option<String>,
    plugin: Option<String>,
    state: String,
}

impl Row {
    pub(super) fn of(facts: &Facts, attached: &Attached) -> Self {
        let (inside, host_link) = (facts.interface(attached), facts.host_link(attached));
        let live = inside.zip(facts.space(attached)).map(|(link, space)| space.addresses_of(link));
        let noted = attached.result.as_ref().and_then(|result| {
            let named = |it: &&cni::result::Interface| {
                !it.sandbox.is_empty() && it.name == attached.key.ifname.as_str()
            };
            result.interfaces.iter().find(named).map(|it| it.mac.clone())
        });
        let network = facts.network(attached.key.network.as_str());
        Self {
            node: facts.node.clone(),
            container: Some(attached.label().to_owned()),
            id: Some(attached.key.container.to_string()),
            network: Some(attached.key.network.to_string()),
            ifname: attached.key.ifname.to_string(),
            addresses: live.filter(|it| !it.is_empty()).unwrap_or_else(|| attached.addresses()),
            mac: inside.and_then(|link| link.mac).map(|mac| mac.to_string()).or(noted),
            mtu: inside.map(|link| link.mtu),
            host_link: host_link.map(|link| link.name.clone()),
            bridge: host_link.and_then(|link| bridge_of(facts, link)),
            ports: attached.ports(),
            netns: attached.netns.clone(),
            plugin: network.map(|network| network.driver.clone()),
            state: state(facts, attached).to_owned(),
        }
    }

    fn orphan(facts: &Facts, link: &Link, inside: Option<(&Space, &Link)>) -> Self {
        Self {
            node: facts.node.clone(),
            container: None,
            id: None,
            network: None,
            ifname: inside.map_or_else(String::new, |(_, inside)| inside.name.clone()),
            addresses: inside.map(|(space, inside)| space.addresses_of(inside)).unwrap_or_default(),
            mac: inside.and_then(|(_, inside)| inside.mac).map(|mac| mac.to_string()),
            mtu: Some(link.mtu),
            host_link: Some(link.name.clone()),
            bridge: bridge_of(facts, link),
            ports: Vec::new(),
            netns: inside.map(|(space, _)| space.place.path.display().to_string()),
            plugin: None,
            state: "orphan".to_owned(),
        }
    }

    fn name(&self) -> String {
        match (&self.network, &self.id) {
            (Some(network), Some(id)) => format!("{network}/{id}/{}", self.ifname),
            _ => self.host_link.clone().unwrap_or_default(),
        }
    }

    pub fn json(&self) -> Value {
        json!(self)
    }

    /// The bridge, or the link below a macvlan, if it is on one.
    pub fn hangs_on(&self, facts: &Facts) -> Option<String> {
        let master = || facts.network(self.network.as_deref()?)?.master.clone();
        self.bridge.clone().or_else(master)
    }

    pub fn host_link(&self) -> Option<&str> {
        self.host_link.as_deref()
    }

    pub fn netns(&self) -> Option<&str> {
        self.netns.as_deref()
    }

    pub fn first_ip(&self) -> Option<std::net::IpAddr> {
        self.addresses.first().map(IpNetwork::ip)
    }

    pub fn ifname(&self) -> &str {
        &self.ifname
    }

    /// As `ip netns` names it; empty if it is not known.
    pub fn netns_name(&self) -> &str {
        self.netns.as_deref().map(|path| path.rsplit('/').next().unwrap_or(path)).unwrap_or_default()
    }

    /// The container, or whatever else there is to call it.
    pub fn label(&self) -> &str {
        self.container.as_deref().or_else(|| self.host_link()).unwrap_or("?")
    }

    pub fn first_address(&self) -> String {
        self.addresses.first().map(ToString::to_string).unwrap_or_default()
    }

    pub fn is_well(&self) -> bool {
        self.state == "ok"
    }

    /// All of it, a fact a line.
    pub fn describe(&self) -> String {
        let names = [
            "node",
            "container",
            "network",
            "if",
            "address",
            "mac",
            "veth",
            "bridge",
            "ports",
            "state",
            "id",
            "netns",
            "mtu",
            "plugin",
        ];
        let facts = names.into_iter().zip(self.cells()).filter(|(_, text)| !text.is_empty());
        let lines: Vec<_> = facts.skip(1).map(|(name, text)| format!("{name} {text}")).collect();
        lines.join("\n")
    }

    fn cells(&self) -> Vec<String> {
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        let joined = |texts: Vec<String>| texts.join(" ");
        let ports = self.ports.iter().map(|port| {
            let ip = port.host_ip.as_ref().map(|ip| format!("{ip}:")).unwrap_or_default();
            format!("{ip}{}→{}/{}", port.host, port.container, port.protocol)
        });
        vec![
            self.node.clone(),
            or_empty(&self.container),
            self.network.clone().unwrap_or_else(|| "?".to_owned()),
            self.ifname.clone(),
            joined(self.addresses.iter().map(ToString::to_string).collect()),
            or_empty(&self.mac),
            or_empty(&self.host_link),
            or_empty(&self.bridge),
            joined(ports.collect()),
            self.state.clone(),
            or_empty(&self.id),
            or_empty(&self.netns),
            self.mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
            or_empty(&self.plugin),
        ]
    }
}

fn bridge_of(facts: &Facts, link: &Link) -> Option<String> {
    facts.host().link_at(link.master?).filter(|master| master.is_bridge()).map(|master| master.name.clone())
}

/// `ok`, or the first thing that is not as it was made.
fn state(facts: &Facts, attached: &Attached) -> &'static str {
    if attached.gone.is_some() {
        return "netns-gone";
    }
    let Some(space) = facts.space(attached) else { return "unknown" };
    match space.link(attached.key.ifname.as_str()) {
        None => "no-interface",
        Some(link) if !link.is_up() => "down",
        Some(link) => {
            let live = space.addresses_of(link);
            let all = attached.addresses().iter().all(|given| live.iter().any(|it| it.ip() == given.ip()));
            if all { "ok" } else { "no-address" }
        }
    }
}

const AFTER_HELP: &str = "\
Examples:
  netctl ps
  netctl ps mynet -o wide
  netctl ps -o json
  netctl ps --peer n2='ssh root@n2 netctl agent --stdio'

STATE: ok, netns-gone, no-interface, down, no-address, orphan (a port without an attachment), unknown";
