//! `netctl report`: all that is known of nodes, without their secrets, to attach to a ticket.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::{
    agent::{
        peers::Asked,
        protocol::{Reply, Request},
    },
    commands,
    exit::{Exit, Failure},
    output::{self, Format},
    report::{
        archive::{self, Packing},
        redact::redact,
        whole,
    },
    verb::Context,
};

/// Gathers what a ticket needs of this node and its peers: attachments, networks, findings, namespaces, the firewall and the kernel's tables,
/// as one JSON document or, with --write, as an archive with a directory a node. What looks like a secret is left out.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Report {
    /// Write an archive to this file (.tar, .tar.gz or .tgz), - for standard output
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
}

pub fn run(report: &Report, context: &Context) -> Result<Exit, Failure> {
    let packing = |file: &PathBuf| {
        let why = || Failure::Usage(format!("--write {}: no .tar, .tar.gz or .tgz", file.display()));
        Packing::of(file).ok_or_else(why)
    };
    let packing = report.write.as_ref().map(packing).transpose()?;
    let asked = Asked::new(&context.peers, &Request::Report);
    let mut facts = context.facts()?;
    context.show_commands(|| {
        let networks = commands::facts::networks(&facts, &facts.networks);
        let spaces = ["ip -d addr", "ip route"].map(|it| commands::facts::everywhere(&facts, it)).concat();
        [networks, commands::facts::attachments(&facts, |_| true), spaces, commands::facts::translations()]
            .concat()
    });
    facts.try_out();
    let mut reports = vec![redact(whole(&facts))];
    let (replies, failed) = asked.replies();
    context.warn(&failed);
    for (node, answer) in replies {
        let Reply::Report(theirs) = answer else { continue };
        let mut theirs = redact(*theirs);
        theirs["node"] = node.into();
        reports.push(theirs);
    }
    match (&report.write, packing) {
        (Some(file), Some(packing)) => archive::save(&reports, file, packing)
            .with_context(|| format!("write the report to {}", file.display()))?,
        _ => {
            let document = output::document("Report", reports);
            output::write(&match context.layout.format {
                Format::Yaml => output::yaml(&document),
                Format::Csv => return Err(Failure::Usage("-o csv: this is no table".to_owned())),
                _ => format!("{document}\n"),
            });
        }
    }
    Ok(if failed.is_empty() { Exit::Fine } else { Exit::Partial })
}

const AFTER_HELP: &str = "\
Examples:
  netctl report > report.json
  netctl report -w report.tar.gz --peer n2='ssh root@n2 netctl agent --stdio'";
