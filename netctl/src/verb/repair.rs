//! `netctl repair`: the rules of all attachments, as their records have them.

use clap::Args;
use serde_json::json;

use crate::{
    exit::{Exit, Failure},
    output::{Reply, Table},
    repair::{self, Plan},
    verb::Context,
};

/// Puts back what the attachments' records say should be in the suite's nftables tables and is not, as after `nft flush
/// ruleset`, and takes out what belongs to no attachment. Only says what, without --yes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netctl repair          what is missing\n  netctl repair --yes")]
pub struct Repair {
    /// Do it
    #[arg(long)]
    yes: bool,
}

pub fn run(repair: &Repair, context: &Context) -> Result<Exit, Failure> {
    let facts = context.facts()?;
    let plan = if repair.yes { repair::rules(&facts)? } else { Plan::new(&facts) };
    let restored = plan.restore.iter().map(|(key, missing)| {
        (if repair.yes { "restored" } else { "restore" }, key.to_string(), missing.clone())
    });
    let swept = plan
        .sweep
        .iter()
        .map(|owner| (if repair.yes { "removed" } else { "remove" }, owner.clone(), Vec::new()));
    let rows: Vec<_> = restored.chain(swept).collect();
    let item = |(action, attachment, missing): &(&str, String, Vec<String>)| json!({"action": action, "attachment": attachment, "missing": missing});
    let cells = |(action, attachment, missing): &(&str, String, Vec<String>)| {
        vec![(*action).to_owned(), attachment.clone(), missing.len().to_string(), missing.join("; ")]
    };
    let reply = Reply {
        kind: "RepairPlan",
        items: rows.iter().map(item).collect(),
        names: rows.iter().map(|(_, attachment, _)| attachment.clone()).collect(),
        table: Table {
            columns: &["ACTION", "ATTACHMENT", "MISSING"],
            wide: &["ELEMENTS"],
            rows: rows.iter().map(cells).collect(),
        },
    };
    reply.write(context.format);
    Ok(Exit::Fine)
}
