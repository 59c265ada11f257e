//! `netctl explain`: what a code of the doctor means.

use clap::Args;
use serde_json::json;

use crate::{
    doctor::{Rule, rules},
    exit::{Exit, Failure},
    output::{Format, Reply, Table, write},
    verb::Context,
};

/// Explains a code: what is wrong, where it comes from, why it matters. Without a code, lists them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netctl explain\n  netctl explain rp-filter")]
pub struct Explain {
    #[arg(value_name = "CODE")]
    code: Option<String>,
}

pub fn run(explain: &Explain, context: &Context) -> Result<Exit, Failure> {
    let rules: Vec<&Rule> = match &explain.code {
        None => rules::ALL.iter().collect(),
        Some(code) => vec![
            rules::find(code)
                .ok_or_else(|| Failure::Usage(format!("no code {code:?}; `netctl explain` lists them")))?,
        ],
    };
    if let (Some(_), [rule], Format::Table | Format::Wide) =
        (&explain.code, &rules[..], context.layout.format)
    {
        let (who, what) = rule.remedy.words();
        write(&format!("{}: {}\n\n{}\n\nmended by {who}: {what}\n", rule.code, rule.summary, rule.text));
        return Ok(Exit::Fine);
    }
    let item = |rule: &&Rule| {
        let (who, what) = rule.remedy.words();
        json!({"code": rule.code, "summary": rule.summary, "text": rule.text, "mendedBy": who, "remedy": what})
    };
    let reply = Reply {
        kind: "Rules",
        items: rules.iter().map(item).collect(),
        names: rules.iter().map(|rule| rule.code.to_owned()).collect(),
        table: Table {
            columns: &["CODE", "WHAT IS WRONG"],
            wide: &[],
            rows: rules.iter().map(|rule| vec![rule.code.to_owned(), rule.summary.to_owned()]).collect(),
        },
    };
    context.write(&reply)?;
    Ok(Exit::Fine)
}
