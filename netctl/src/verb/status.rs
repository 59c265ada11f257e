//! `netctl status`: a node on one screen.

use clap::Args;
use serde_json::json;

use crate::{
    commands,
    doctor::{Severity, examine},
    exit::Exit,
    facts::{Facts, network::capacity},
    output::{Reply, Table},
    verb::{Context, look::Sight},
};

/// Shows each network of this node with its attachments and addresses, and how many findings the doctor has.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netctl status")]
pub struct Status {}

pub fn look(facts: &Facts, context: &Context) -> Sight {
    context.show_commands(|| commands::facts::networks(facts, &facts.networks));
    let findings = examine(facts);
    let count = |severity| findings.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let live = |network| facts.attached_to(network).filter(|it| facts.interface(it).is_some()).count();
    let of_networks = facts.networks.iter().map(|network| {
        let attached = facts.attached_to(network).count();
        let leases = match network.sets() {
            [] => String::new(),
            sets => format!(", {} of {} addresses", network.leases.len(), capacity(sets)),
        };
        let text = format!("{} of {attached} attachments live{leases}", live(network));
        let is_ok = live(network) == attached;
        ("network", network.list.name.to_string(), is_ok, text)
    });
    let orphans = facts.orphans().len();
    let rows: Vec<_> = of_networks
        .chain([
            ("orphans", String::new(), orphans == 0, format!("{orphans} ports without an attachment")),
            (
                "doctor",
                String::new(),
                errors + warnings == 0,
                format!("{errors} errors, {warnings} warnings"),
            ),
        ])
        .collect();
    let word = |is_ok: bool| if is_ok { "ok" } else { "attention" };
    let item = |(what, name, is_ok, text): &(&str, String, bool, String)| json!({"node": facts.node, "what": what, "name": name, "state": word(*is_ok), "text": text});
    let cells = |(what, name, is_ok, text): &(&str, String, bool, String)| {
        vec![facts.node.clone(), (*what).to_owned(), name.clone(), word(*is_ok).to_owned(), text.clone()]
    };
    let reply = Reply {
        kind: "Status",
        items: rows.iter().map(item).collect(),
        names: rows
            .iter()
            .map(|(what, name, ..)| if name.is_empty() { (*what).to_owned() } else { name.clone() })
            .collect(),
        table: Table {
            columns: &["NODE", "WHAT", "NAME", "STATE", "DETAILS"],
            wide: &[],
            rows: rows.iter().map(cells).collect(),
        },
    };
    let exit = if errors + warnings == 0 { Exit::Fine } else { Exit::Finding };
    Sight { exit, ..Sight::from(reply) }
}
