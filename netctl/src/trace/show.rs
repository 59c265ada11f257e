//! A report as a table for people and as JSON for scripts.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{
    finding::findings,
    path::Hop,
    probe::Direction,
    run::Report,
    verdict::{Drop, Verdict},
};
use crate::{agent::protocol::At, drops::hint::hint, output, term::Style};

/// `{"apiVersion":"netctl/v1","kind":"Trace",…}`
pub fn document(report: &Report) -> Value {
    let Report { evidence, outcome, .. } = report;
    let start = outcome.hops.first().map_or(0, |hop| hop.sighting.time_ns);
    let hops: Vec<Value> = outcome.hops.iter().map(|hop| hop_value(report, hop, start)).collect();
    json!({
        "apiVersion": "netctl/v1",
        "kind": "Trace",
        "verdict": outcome.verdict.word(),
        "detail": outcome.detail,
        "hops": hops,
        "drop": outcome.drop.as_ref().map(drop_value),
        "between": outcome.between,
        "findings": findings(evidence, outcome),
        "sent": evidence.sent.len(),
        "answered": answered(report),
        "counters": report.grown.iter().map(|(place, counters)| (place.clone(), json!(counters))).collect::<serde_json::Map<_, _>>(),
        "limits": evidence.limits,
    })
}

fn hop_value(report: &Report, hop: &Hop, start: i64) -> Value {
    let seen = &hop.sighting.seen;
    json!({
        "node": report.evidence.nodes[hop.sighting.node],
        "netns": seen.netns,
        "device": seen.device,
        "event": event(seen.at),
        "packet": hop.sighting.packet.to_string(),
        "ttl": hop.sighting.packet.inner().map(|ip| ip.ttl),
        "direction": direction(hop.sighting.direction),
        "note": hop.note,
        "time_us": (hop.sighting.time_ns - start) / 1000,
    })
}

fn drop_value(drop: &Drop) -> Value {
    let Drop { node, netns, device, reason, function, rule, reply, .. } = drop;
    let direction = direction(if *reply { Direction::Reply } else { Direction::Request });
    json!({
        "node": node, "netns": netns, "device": device, "reason": reason, "function": function, "rule": rule,
        "direction": direction,
    })
}

fn event(at: At) -> &'static str {
    match at {
        At::Rx => "rx",
        At::Tx => "tx",
        At::Drop => "drop",
        At::End => "end",
    }
}

/// The word that scripts read.
pub fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Request => "request",
        Direction::Reply => "reply",
        Direction::Error => "error",
        Direction::Cleanup => "cleanup",
    }
}

fn answered(report: &Report) -> usize {
    let answers = &report.evidence.answers;
    report.evidence.sent.iter().filter(|sent| answers.iter().any(|it| it.number == sent.number)).count()
}

/// The table: what was sent, a line a hop, the verdict.
pub fn table(report: &Report, style: Style) -> String {
    let Report { evidence, source_address, protocol, .. } = report;
    let source = source_address.map_or_else(|| "?".to_owned(), |address| address.to_string());
    let (sent, answered) = (evidence.sent.len(), answered(report));
    let arrow = if style.ascii { "->" } else { "→" };
    let head = format!(
        "probe  {source} {arrow} {} {protocol}  ({sent} sent, {answered} answered)\n",
        evidence.target
    );
    head + &lines(&rows(report)) + &conclusion(report, style)
}

/// Columns, all but the last as wide as their widest cell.
pub fn lines(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    let last = rows.first().map_or(0, |row| row.len().saturating_sub(1));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..last).map(width).collect();
    for row in rows {
        let mut line = String::from(" ");
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, " {cell:<width$} ");
        }
        let _ = writeln!(text, "{}", format!("{line} {}", row[last]).trim_end());
    }
    text
}

/// The verdict, and what it comes from.
pub fn conclusion(report: &Report, style: Style) -> String {
    let Report { evidence, outcome, .. } = report;
    let mut text = String::new();
    let mark = if outcome.verdict == Verdict::Delivered { style.good() } else { style.bad() };
    let _ = writeln!(text, "{mark} {}: {}", outcome.verdict.word(), outcome.detail);
    if let Some(drop) = &outcome.drop {
        text.push_str(&explained(drop));
    }
    for (place, counters) in report.grown.iter().filter(|_| outcome.verdict != Verdict::Delivered) {
        let counters: Vec<_> = counters.iter().map(|(name, more)| format!("{name} +{more}")).collect();
        let _ = writeln!(text, "  = counted on {place}: {}", counters.join(", "));
    }
    for finding in findings(evidence, outcome) {
        let word = |key: &str| finding[key].as_str().map(ToOwned::to_owned);
        let _ = writeln!(text, "  = code  : {}", word("code").unwrap_or_default());
        if let Some(fix) = word("fix") {
            let _ = writeln!(text, "  = fix   : {fix}");
        }
    }
    text
}

const HEAD: [&str; 6] = ["#", "node", "where", "event", "µs", "what"];

/// A line a hop under a header, which is there even where nothing was seen.
pub fn csv(report: &Report) -> String {
    let rows = rows(report);
    let head = [HEAD.map(ToOwned::to_owned).to_vec()];
    output::csv(if rows.is_empty() { &head } else { &rows })
}

/// A line a hop, under a header; nothing where nothing was seen.
pub fn rows(report: &Report) -> Vec<Vec<String>> {
    let outcome = &report.outcome;
    if outcome.hops.is_empty() {
        return Vec::new();
    }
    let start = outcome.hops.first().map_or(0, |hop| hop.sighting.time_ns);
    let mut rows = vec![HEAD.map(ToOwned::to_owned).to_vec()];
    let mut shown = String::new();
    let mut way = Direction::Request;
    for (index, Hop { sighting, note }) in outcome.hops.iter().enumerate() {
        let seen = &sighting.seen;
        let packet = sighting.packet.to_string();
        let mut what = Vec::new();
        if sighting.direction != way || index == 0 || (packet != shown && note.is_empty()) {
            what.push(packet.clone());
        }
        (shown, way) = (packet, sighting.direction);
        what.extend((!note.is_empty()).then(|| note.clone()));
        if index == 0 || note.contains("forwarded") {
            what.extend(sighting.packet.inner().map(|ip| format!("ttl {}", ip.ttl)));
        }
        what.extend(seen.reason.clone());
        what.extend(seen.function.clone().filter(|_| matches!(seen.at, At::Drop | At::End)));
        let device = if seen.device.is_empty() { "-" } else { &seen.device };
        rows.push(vec![
            (index + 1).to_string(),
            report.evidence.nodes[sighting.node].clone(),
            format!("{}/{device}", seen.netns),
            if seen.at == At::Drop { "DROP".to_owned() } else { event(seen.at).to_owned() },
            ((sighting.time_ns - start) / 1000).to_string(),
            what.join(", "),
        ]);
    }
    rows
}

fn explained(drop: &Drop) -> String {
    let Drop { node, netns, device, reason, function, rule, .. } = drop;
    let mut text = format!("  = where : {node}, namespace {netns}");
    if !device.is_empty() {
        let _ = write!(text, ", device {device}");
    }
    let _ = write!(text, "\n  = reason: {reason}");
    if let Some(function) = function {
        let _ = write!(text, " in {function}");
    }
    text.push('\n');
    if let Some(hint) = hint(reason, function.as_deref().unwrap_or_default()) {
        let _ = writeln!(text, "  = means : {}", hint.text);
    }
    if let Some(rule) = rule {
        let _ = writeln!(text, "  = rule  : {rule}");
    }
    text
}
