//! The numbers of the bench as a table and as JSON. Pure.

use serde::Serialize;

use super::Case;
use super::contender::{Turn, Who};
use super::subject::{Against, Budget, SUBJECTS};

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
    let Case { subject, leases, at_once } = case;
    let leases = if leases == 0 { String::new() } else { format!(", {leases} leases") };
    format!("{subject}{leases}, {at_once} at once")
}

/// The contenders' figures for one verb of one case.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) ours: &'a Measured,
    pub(super) floor: Option<&'a Measured>,
    pub(super) peer: Option<&'a Measured>,
}

/// In the order measured.
pub(super) fn rows(measured: &[Measured]) -> Vec<Row<'_>> {
    let ours = measured.iter().filter(|one| one.who == Who::Ours);
    ours.map(|ours| {
        let of = |who| find(measured, who, ours.case, ours.verb);
        Row { ours, floor: of(Who::Floor), peer: of(Who::Peer) }
    })
    .collect()
}

fn find<'a>(measured: &'a [Measured], who: Who, case: Case, verb: &str) -> Option<&'a Measured> {
    measured.iter().find(|one| one.who == who && one.case == case && one.verb == verb)
}

pub(super) fn table(measured: &[Measured]) -> String {
    let mut text = format!(
        "{:<58} {:>9} {:>9} {:>8} {:>9} {:>8}\n",
        "medians, ms for all at once", "ours", "floor", "x floor", "Go", "Go / x"
    );
    for Row { ours, floor, peer } in rows(measured) {
        let name = format!("{} {}", ours.verb, title(ours.case));
        let figure = |figure: Option<f64>, digits| {
            figure.map_or_else(|| "-".to_string(), |figure| format!("{figure:.digits$}"))
        };
        let failed = peer.filter(|peer| peer.failed > 0);
        let failed = failed.map(|peer| format!("  ({} of Go's failed)", peer.failed)).unwrap_or_default();
        text += &format!(
            "{name:<58} {:>9.2} {:>9} {:>8} {:>9} {:>8}{failed}\n",
            ours.median,
            figure(floor.map(|floor| floor.median), 2),
            figure(floor.map(|floor| ours.median / floor.median), 2),
            figure(peer.map(|peer| peer.median), 2),
            figure(peer.map(|peer| peer.median / ours.median), 1),
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
    for (subject, budget) in
        SUBJECTS.iter().flat_map(|one| one.budgets.iter().map(move |budget| (one, budget)))
    {
        let Budget { verb, at_once, against, limit } = budget;
        let Some(figure) = figure(measured, subject.title, budget) else { continue };
        let (held, sign) = match against {
            Against::Peer => (figure >= *limit, ">="),
            Against::Floor | Against::Leases(_) => (figure <= *limit, "<="),
        };
        let against = match against {
            Against::Peer => "Go against ours".to_string(),
            Against::Floor => "against the floor".to_string(),
            Against::Leases(leases) => format!("with {leases} leases against none"),
        };
        let what = format!("{verb} of {}, {at_once} at once: {against}", subject.title);
        let verdict = if held { "held" } else { "MISSED" };
        text += &format!("  {what:<76} {figure:>7.2}x  {sign} {limit}x  {verdict}\n");
    }
    text
}

/// The ratio that a budget limits, if both of its sides were measured.
fn figure(measured: &[Measured], subject: &'static str, budget: &Budget) -> Option<f64> {
    let Budget { verb, at_once, against, limit: _ } = budget;
    let case = |leases| Case { subject, leases, at_once: *at_once };
    let of = |who, leases| Some(find(measured, who, case(leases), verb)?.median);
    Some(match *against {
        Against::Floor => of(Who::Ours, 0)? / of(Who::Floor, 0)?,
        Against::Peer => of(Who::Peer, 0)? / of(Who::Ours, 0)?,
        Against::Leases(leases) => of(Who::Ours, leases)? / of(Who::Ours, 0)?,
    })
}

/// Sizes of the programs in `dir`.
pub(super) fn sizes(dir: &std::path::Path, programs: &[&str]) -> String {
    let of = |name: &&str| {
        let size = std::fs::metadata(dir.join(name)).map(|file| file.len()).unwrap_or_default();
        format!("{name} {}.{:02} MB", size / 1_000_000, size % 1_000_000 / 10_000)
    };
    format!("sizes: {}\n", programs.iter().map(of).collect::<Vec<_>>().join(", "))
}
