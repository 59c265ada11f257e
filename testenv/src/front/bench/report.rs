//! The numbers of the bench as a table and as JSON. Pure.

use serde::Serialize;

use super::contender::{Turn, Who};
use super::{Case, MANY, MANY_LEASES};

/// One contender's figures for one verb of one case, in milliseconds for all attachments of a turn.
#[derive(Clone, Debug, Serialize)]
pub(in crate::front) struct Measured {
    #[serde(flatten)]
    pub(super) case: Case,
    pub(super) verb: &'static str,
    pub(super) who: Who,
    pub(super) turns: usize,
    pub(super) median: f64,
    pub(super) p10: f64,
    pub(super) p90: f64,
    pub(super) per_second: f64,
    pub(super) failed: usize,
}

impl Measured {
    /// ADD and DEL of `turns`, which are not empty.
    pub(super) fn of(case: Case, who: Who, turns: &[Turn]) -> [Self; 2] {
        let failed = turns.iter().map(|turn| turn.failed).sum();
        let of = |verb, times: Vec<f64>| {
            let mut times = times;
            times.sort_unstable_by(f64::total_cmp);
            let at = |percent: usize| times[(times.len() - 1) * percent / 100];
            let (median, p10, p90) = (at(50), at(10), at(90));
            #[expect(clippy::cast_precision_loss, reason = "a handful of attachments")]
            let per_second = case.at_once as f64 * 1000.0 / median;
            Self { case, verb, who, turns: times.len(), median, p10, p90, per_second, failed }
        };
        let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
        [
            of("ADD", turns.iter().map(|turn| milliseconds(turn.add)).collect()),
            of("DEL", turns.iter().map(|turn| milliseconds(turn.del)).collect()),
        ]
    }
}

/// Such as `bridge + ipMasq, 10000 leases, 64 at once`.
pub(super) fn title(case: Case) -> String {
    let Case { masquerade, leases, at_once } = case;
    let network = if masquerade { "bridge + ipMasq" } else { "bridge" };
    format!("{network}, {leases} leases, {at_once} at once")
}

/// The three contenders' figures for each verb of each case, in the order measured.
pub(super) fn rows(measured: &[Measured]) -> Vec<[&Measured; 3]> {
    let mut rows = Vec::new();
    for ours in measured.iter().filter(|one| one.who == Who::Ours) {
        let same = |who| {
            measured.iter().find(|one| one.who == who && one.case == ours.case && one.verb == ours.verb)
        };
        if let (Some(floor), Some(peer)) = (same(Who::Floor), same(Who::Peer)) {
            rows.push([ours, floor, peer]);
        }
    }
    rows
}

pub(super) fn table(measured: &[Measured]) -> String {
    let mut text = format!(
        "{:<46} {:>10} {:>10} {:>8} {:>10} {:>8}\n",
        "medians, ms for all at once", "ours", "floor", "x floor", "Go", "Go / x"
    );
    for [ours, floor, peer] in rows(measured) {
        let name = format!("{} {}", ours.verb, title(ours.case));
        let failed =
            if peer.failed > 0 { format!("  ({} of Go's failed)", peer.failed) } else { String::new() };
        text += &format!(
            "{name:<46} {:>10.2} {:>10.2} {:>8.2} {:>10.2} {:>8.1}{failed}\n",
            ours.median,
            floor.median,
            ours.median / floor.median,
            peer.median,
            peer.median / ours.median,
        );
    }
    text
}

pub(super) fn json(measured: &[Measured]) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(measured)? + "\n")
}

/// What the project promises, and what was measured of it.
pub(super) fn budgets(measured: &[Measured]) -> String {
    let mut text = "budgets\n".to_string();
    let mut line = |what: &str, figure: Option<f64>, limit: f64, at_least: bool| {
        let Some(figure) = figure else { return };
        let held = if at_least { figure >= limit } else { figure <= limit };
        let (sign, verdict) = (if at_least { ">=" } else { "<=" }, if held { "held" } else { "MISSED" });
        text += &format!("  {what:<52} {figure:>7.2}x  {sign} {limit}x  {verdict}\n");
    };
    let plain = Case { masquerade: false, leases: 0, at_once: 1 };
    let masquerade = Case { masquerade: true, ..plain };
    let many = Case { at_once: MANY, ..masquerade };
    let full = |case| Case { leases: MANY_LEASES, ..case };
    let ratio = |verb, (case, who), (other_case, other)| {
        let of = |case: Case, who| {
            measured
                .iter()
                .find(|one| one.verb == verb && one.case == case && one.who == who)
                .map(|one| one.median)
        };
        Some(of(case, who)? / of(other_case, other)?)
    };
    // A plain DEL is the kernel's time for everyone: Go's is no measure of it.
    let go = ratio("ADD", (plain, Who::Peer), (plain, Who::Ours));
    line("ADD of bridge: Go against ours", go, 3.0, true);
    for (verb, least) in [("ADD", 8.0), ("DEL", 3.0)] {
        let floor = ratio(verb, (plain, Who::Ours), (plain, Who::Floor));
        line(&format!("{verb} of bridge against the floor"), floor, 1.5, false);
        let go = ratio(verb, (masquerade, Who::Peer), (masquerade, Who::Ours));
        line(&format!("{verb} of bridge + ipMasq: Go against ours"), go, least, true);
        let go = ratio(verb, (many, Who::Peer), (many, Who::Ours));
        line(&format!("{verb} of {MANY} at once with ipMasq: Go against ours"), go, 5.0, true);
        let leases = ratio(verb, (full(plain), Who::Ours), (plain, Who::Ours));
        line(&format!("{verb} with {MANY_LEASES} leases against an empty host"), leases, 1.2, false);
    }
    text
}

/// Sizes of the programs in `dir`.
pub(super) fn sizes(dir: &std::path::Path, programs: &[&str]) -> String {
    let of = |name: &&str| {
        let size = std::fs::metadata(dir.join(name)).map(|file| file.len()).unwrap_or_default();
        format!("{name} {}.{:02} MB", size / 1_000_000, size % 1_000_000 / 10_000)
    };
    format!("sizes: {}\n", programs.iter().map(of).collect::<Vec<_>>().join(", "))
}
