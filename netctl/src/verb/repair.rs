//! `netctl repair`: the rules of all attachments and networks, as the records have them, or libcni's cache where those are lost.

use clap::Args;
use serde_json::json;

use crate::{
    exit::{Exit, Failure},
    output::{Reply, Table},
    repair::{self, Plan},
    verb::Context,
};

/// Puts back what the attachments' records say should be in the suite's nftables tables and in the host's filter, and is not, as
/// after `nft flush ruleset`; where the records are lost, libcni's cache tells, and they are written again. Takes out what belongs
/// to no attachment. Only says what, without --yes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netctl repair          what is missing\n  netctl repair --yes")]
pub struct Repair {
    /// Do it
    #[arg(long)]
    yes: bool,
}

pub fn run(repair: &Repair, context: &Context) -> Result<Exit, Failure> {
    let facts = context.facts()?;
    context.show_commands(|| vec!["nft list ruleset".to_owned()]);
    let plan = if repair.yes { repair::rules(&facts)? } else { Plan::new(&facts) };
    let (restore, remove) = if repair.yes { ("restored", "removed") } else { ("restore", "remove") };
    let Plan { restore: attachments, restore_shared, forget, sweep } = plan;
    let restored = attachments.into_iter().map(|(key, missing)| (restore, key.to_string(), missing));
    // No attachment's name is one of a network: it has slashes.
    let shared = restore_shared.into_iter().map(|(network, missing)| (restore, network.to_string(), missing));
    let forgotten = forget.into_iter().map(|key| (remove, key.to_string(), Vec::new()));
    let swept = sweep.into_iter().map(|owner| (remove, owner, Vec::new()));
    let rows: Vec<_> = restored.chain(shared).chain(forgotten).chain(swept).collect();
    let item = |(action, owner, missing): &(&str, String, Vec<String>)| {
        let of = if owner.contains('/') { "attachment" } else { "network" };
        json!({"action": action, of: owner, "missing": missing})
    };
    let cells = |(action, attachment, missing): &(&str, String, Vec<String>)| {
        vec![(*action).to_owned(), attachment.clone(), missing.len().to_string(), missing.join("; ")]
    };
    let reply = Reply {
        kind: "RepairPlan",
        items: rows.iter().map(item).collect(),
        names: rows.iter().map(|(_, attachment, _)| attachment.clone()).collect(),
        table: Table {
            columns: &["ACTION", "OF", "MISSING"],
            wide: &["ELEMENTS"],
            rows: rows.iter().map(cells).collect(),
        },
    };
    context.write(&reply)?;
    Ok(Exit::Fine)
}
