//! `netctl doctor`: what is wrong on this node.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{Write, stderr},
};

use clap::Args;

use crate::{
    agent::{
        peers::Asked,
        protocol::{Examined, Reply, Request},
    },
    doctor::{self, Finding, Severity, Spot, examine, rules},
    exit::{Exit, Failure},
    facts::{Facts, tunnel::Report},
    output::{self, Format},
    verb::Context,
};

/// Compares what the configurations, libcni's cache and the plugins' records say with what the kernel has, and says what is
/// wrong, where, why, and which command mends it.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Doctor {
    /// Mend what can be mended without a decision; only says what, without --yes
    #[arg(long)]
    fix: bool,
    /// With --fix, do it
    #[arg(long, requires = "fix")]
    yes: bool,
    /// Only these codes
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    only: Vec<String>,
    /// Send nothing: leaves out what only shows when it is tried (tunnels, name servers, packets of full size)
    #[arg(long)]
    passive: bool,
}

pub fn run(doctor: &Doctor, context: &Context) -> Result<Exit, Failure> {
    if let Some(unknown) = doctor.only.iter().find(|code| rules::find(code).is_none()) {
        return Err(Failure::Usage(format!("no rule {unknown:?}; see `netctl explain`")));
    }
    let wanted = |found: &Finding| doctor.only.is_empty() || doctor.only.iter().any(|it| it == found.code);
    let look = || -> Result<(Facts, Vec<Finding>), Failure> {
        let (facts, mut findings) = examine_all(doctor, context)?;
        findings.retain(wanted);
        Ok((facts, findings))
    };
    let (mut facts, mut findings) = look()?;
    let mut tried = BTreeSet::new();
    // What follows from a finding shows only when that is mended.
    while doctor.fix && mend(&facts, &findings, &mut tried, doctor.yes, context) && tried.len() < ENOUGH {
        (facts, findings) = look()?;
    }
    show(&facts, &findings, context);
    let bad = findings.iter().any(|found| found.severity != Severity::Info);
    Ok(match (bad, facts.blind.is_empty()) {
        (true, _) => Exit::Finding,
        (false, false) => Exit::Partial,
        (false, true) => Exit::Fine,
    })
}

/// This node and its peers.
fn examine_all(doctor: &Doctor, context: &Context) -> Result<(Facts, Vec<Finding>), Failure> {
    let asked = Asked::new(&context.peers, &Request::Examine);
    let mut facts = Facts::gather(context.node.as_deref(), &context.paths)?;
    if !doctor.passive {
        facts.try_out();
    }
    let (replies, failed) = asked.replies();
    facts.blind.extend(failed);
    let mut theirs = Vec::new();
    for (node, reply) in replies {
        let Reply::Examined(examined) = reply else { continue };
        let Examined { report, findings, blind } = *examined;
        facts.reports.push(Report { node: node.clone(), ..report });
        facts.blind.extend(blind.into_iter().map(|what| format!("{node}: {what}")));
        theirs.extend(findings.into_iter().filter_map(|wire| Finding::of_peer(&node, wire)));
    }
    context.warn(&facts.blind);
    let mut findings = examine(&facts);
    findings.append(&mut theirs);
    doctor::sort(&mut findings);
    Ok((facts, findings))
}

/// Mends the findings, or without `yes` says how; whether anything was done. What was `tried` is not tried again.
fn mend(
    facts: &Facts,
    findings: &[Finding],
    tried: &mut BTreeSet<String>,
    yes: bool,
    context: &Context,
) -> bool {
    let mut done = false;
    for (found, mend) in findings.iter().filter_map(|found| Some((found, found.mend.as_ref()?))) {
        let node = found.node.as_ref().filter(|node| **node != facts.node);
        let command = mend.command();
        let place = node.map(|node| format!(", on {node}")).unwrap_or_default();
        if !tried.insert(format!("{command}{place}")) {
            continue;
        }
        // An agent changes nothing.
        let is_ours = mend.is_safe() && node.is_none();
        let line = match (is_ours, yes) {
            (false, _) => format!("{} left to you{place}: {command}", context.style.warning()),
            (true, false) => format!("would do: {command}"),
            (true, true) => match mend.apply(facts, &context.paths) {
                Ok(()) => format!("{} {command}", context.style.good()),
                Err(err) => format!("{} {command}: {err:#}", context.style.bad()),
            },
        };
        done |= is_ours && yes;
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(stderr(), "{line}");
    }
    done
}

/// As lists for spreadsheets have it.
fn csv(facts: &Facts, findings: &[Finding]) -> String {
    let head = ["code", "severity", "node", "netns", "device", "file", "message", "cause", "fix"];
    let row = |found: &Finding| {
        let json = found.json(&facts.node);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let of_place = |key: &&str| ["node", "netns", "device", "file"].contains(key);
        head.iter().map(|key| text(if of_place(key) { &json["where"][key] } else { &json[key] })).collect()
    };
    let head = head.map(|key| key.to_uppercase()).to_vec();
    output::csv(&[head].into_iter().chain(findings.iter().map(row)).collect::<Vec<_>>())
}

pub(super) fn show(facts: &Facts, findings: &[Finding], context: &Context) {
    let document =
        || output::document("Findings", findings.iter().map(|found| found.json(&facts.node)).collect());
    output::write(&match context.layout.format {
        Format::Json => format!("{}\n", document()),
        Format::Yaml => output::yaml(&document()),
        Format::Csv => csv(facts, findings),
        Format::Name => findings.iter().map(|found| format!("{}\n", found.code)).collect(),
        Format::Table | Format::Wide => text(facts, findings),
    });
}

fn text(facts: &Facts, findings: &[Finding]) -> String {
    let count = |severity: Severity, word: &str| {
        let count = findings.iter().filter(|found| found.severity == severity).count();
        format!("{count} {word}{}", if count == 1 { "" } else { "s" })
    };
    let mut text = format!(
        "checked {} rules on {}: {}, {}\n",
        rules::ALL.len(),
        facts.reports.iter().map(|report| report.node.as_str()).collect::<Vec<_>>().join(", "),
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning")
    );
    for found in findings {
        let place = place(&found.spot);
        let _ = writeln!(
            text,
            "{}[{}] {}{place}: {}",
            found.severity.word(),
            found.code,
            found.node.as_ref().unwrap_or(&facts.node),
            found.message
        );
        let _ = writeln!(text, "   cause: {}", found.cause);
        for evidence in &found.evidence {
            let _ = writeln!(text, "   seen:  {evidence}");
        }
        if let Some(mend) = &found.mend {
            let _ = writeln!(text, "   fix:   {}", mend.command());
        }
    }
    text
}

fn place(spot: &Spot) -> String {
    let Spot { netns, device, file, rule: _ } = spot;
    let parts = [netns, device, file].into_iter().flatten();
    parts.map(|part| format!(" {part}")).collect()
}

/// Where new findings go on coming, somebody else makes them.
const ENOUGH: usize = 10_000;
const AFTER_HELP: &str = "\
Examples:
  netctl doctor
  netctl doctor --fix          what it would do
  netctl doctor --fix --yes
  netctl doctor --peer n2='ssh root@n2 netctl agent --stdio'
  netctl doctor --only ipam-leak,stale-attachment -o json

Exit status: 0 nothing is wrong, 1 something is, 2 usage, 3 could not look, 4 nothing found, but not everything could be looked at";
