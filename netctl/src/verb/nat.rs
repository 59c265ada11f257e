//! `netctl nat`: which addresses and ports of this host stand for which of containers.

use clap::Args;
use kernel::conntrack::{Conntrack, Filter, Flow};
use serde_json::json;

use crate::{
    commands,
    exit::Failure,
    facts::{Facts, attachment::Attached},
    output::{Reply, Table},
    verb::Context,
};

/// Lists published ports and masqueraded containers, whether their rules are there, and how many connections use them now.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netctl nat\n  netctl nat -o json")]
pub struct Nat {}

pub fn look(facts: &Facts, context: &Context) -> Result<Reply, Failure> {
    context.show_commands(commands::facts::translations);
    let flows =
        Conntrack::open().and_then(|mut it| it.list(&Filter::default())).map_err(anyhow::Error::new)?;
    let all = facts.attachments.iter();
    let rows: Vec<_> =
        all.flat_map(|it| published(it, &flows).into_iter().chain(masqueraded(facts, it, &flows))).collect();
    let item = |row: &Row| {
        let Row { kind, protocol, from, to, container, network, rules, connections } = row;
        json!({"kind": kind, "protocol": protocol, "from": from, "to": to, "container": container, "network": network,
            "rules": rules, "connections": connections})
    };
    let cells = |row: &Row| {
        let Row { kind, protocol, from, to, container, network, rules, connections } = row.clone();
        vec![
            kind.to_owned(),
            protocol,
            from,
            to,
            container,
            network,
            rules.to_owned(),
            connections.to_string(),
        ]
    };
    let columns = &["KIND", "PROTOCOL", "FROM", "TO", "CONTAINER", "NETWORK", "RULES", "CONNECTIONS"];
    let (items, names) = (rows.iter().map(item).collect(), rows.iter().map(|row| row.from.clone()).collect());
    let table = Table { columns, wide: &[], rows: rows.iter().map(cells).collect() };
    Ok(Reply { kind: "Translations", items, names, table })
}

#[derive(Clone)]
struct Row {
    kind: &'static str,
    protocol: String,
    from: String,
    to: String,
    container: String,
    network: String,
    rules: &'static str,
    connections: usize,
}

/// A port of the host that leads to the container.
fn published(attached: &Attached, flows: &[Flow]) -> Vec<Row> {
    let addresses = attached.addresses();
    let ports = attached.ports().into_iter().filter_map(|port| {
        let host: Option<std::net::IpAddr> = port.host_ip.as_ref().and_then(|host| host.parse().ok());
        let fits =
            |address: &&ipnetwork::IpNetwork| host.is_none_or(|host| host.is_ipv4() == address.is_ipv4());
        let to = addresses.iter().find(fits)?.ip();
        let used = flows.iter().filter(|flow| {
            flow.original.destination_port == port.host
                && (flow.reply.source, flow.reply.source_port) == (to, port.container)
                && flow.original.destination != to
        });
        let from = port.host_ip.clone().unwrap_or_else(|| "*".to_owned());
        Some(Row {
            kind: "published",
            protocol: port.protocol.clone(),
            from: format!("{from}:{}", port.host),
            to: std::net::SocketAddr::new(to, port.container).to_string(),
            container: attached.label().to_owned(),
            network: attached.key.network.to_string(),
            // Those of other plugins are not known here.
            rules: match (attached.chained.is_empty(), attached.unpublished.is_empty()) {
                (true, _) => "foreign",
                (false, true) => "ok",
                (false, false) => "missing",
            },
            connections: used.count(),
        })
    });
    ports.collect()
}

/// Addresses of the container that go out as the host's.
fn masqueraded(facts: &Facts, attached: &Attached, flows: &[Flow]) -> Vec<Row> {
    let configured = facts.network(attached.key.network.as_str()).is_some_and(|network| network.masquerade);
    let rules = match attached.made.as_ref().map(|made| made.masquerade) {
        Some(true) if attached.unruled.is_empty() => "ok",
        Some(true) => "missing",
        None if configured => "foreign",
        _ => return Vec::new(),
    };
    let row = |address: ipnetwork::IpNetwork| {
        let from = address.ip();
        let used = flows.iter().filter(|flow| flow.original.source == from && flow.reply.destination != from);
        Row {
            kind: "masquerade",
            protocol: "any".to_owned(),
            from: from.to_string(),
            to: "the host's address".to_owned(),
            container: attached.label().to_owned(),
            network: attached.key.network.to_string(),
            rules,
            connections: used.count(),
        }
    };
    attached.addresses().into_iter().map(row).collect()
}
