//! What `--explain` found, in the table and the JSON of a probe's report: a line an answer in place of a line a sighting.

use serde_json::{Value, json};

use super::{
    explain::{Explained, Step},
    show,
};
use crate::{output, term::Style};

/// As [`show::document`], with `simulated` set; the hops' `event` also is `route`, `neighbour`, `fdb` or `nft`.
pub fn document(explained: &Explained) -> Value {
    let Explained { steps, report } = explained;
    let hop = |step: &Step| {
        json!({
            "node": report.evidence.nodes[step.node],
            "netns": step.netns,
            "device": step.answer.device,
            "event": step.answer.event,
            "packet": step.packet,
            "direction": show::direction(step.direction),
            "wrapped": step.answer.wrapped,
            "note": step.answer.text,
        })
    };
    let mut document = show::document(report);
    document["hops"] = steps.iter().map(hop).collect();
    document["simulated"] = true.into();
    document
}

/// The table: what would be sent, a line an answer, the verdict.
pub fn table(explained: &Explained, style: Style) -> String {
    let report = &explained.report;
    let source = report.source_address.map_or_else(|| "?".to_owned(), |address| address.to_string());
    let arrow = if style.ascii { "->" } else { "→" };
    let head = format!(
        "{source} {arrow} {} {}  (simulated, nothing sent)\n",
        report.evidence.target, report.protocol
    );
    head + &show::lines(&rows(explained)) + &show::conclusion(report, style)
}

pub fn csv(explained: &Explained) -> String {
    output::csv(&rows(explained))
}

/// Under a header.
fn rows(explained: &Explained) -> Vec<Vec<String>> {
    let mut rows = vec![["#", "node", "where", "event", "what"].map(ToOwned::to_owned).to_vec()];
    for (index, step) in explained.steps.iter().enumerate() {
        let answer = &step.answer;
        let device = if answer.device.is_empty() { "-" } else { &answer.device };
        let turned = index == 0 || explained.steps[index - 1].direction != step.direction;
        let what =
            [turned.then(|| step.packet.clone()), (!answer.text.is_empty()).then(|| answer.text.clone())];
        rows.push(vec![
            (index + 1).to_string(),
            explained.report.evidence.nodes[step.node].clone(),
            format!("{}/{device}", step.netns),
            if answer.event == "drop" { "DROP".to_owned() } else { answer.event.clone() },
            what.into_iter().flatten().collect::<Vec<_>>().join(", "),
        ]);
    }
    rows
}
