//! The part of `cargo testenv test` in a guest: tests that skipped themselves because this host's kernel lacks something. A guest
//! that can't be had or is slow leaves them skipped; only a test that fails in one is a failure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use super::job::{self, Report, TOO_LONG, Task};
use super::kernel::Kernel;
use super::{print, test};
use crate::front::{cargo::TestBinary, packages, test::ACCIDENTS};

/// What became of tests that the host skipped.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How many passed in the guest.
    pub(crate) passed: usize,
    /// The names of those that failed in it.
    pub(crate) failed: Vec<String>,
    /// The names of those that failed first, and passed in the next guest.
    pub(crate) unsteady: Vec<String>,
    /// Reasons by the names of those that ran nowhere.
    pub(crate) skipped: BTreeMap<String, String>,
    /// A line for the end of the run, where a guest was tried.
    pub(crate) summary: Option<String>,
}

/// The default kernel of Debian 12, the oldest that all works on, and the one that boots faster.
const KERNEL: &str = "6.1";
/// The longest test takes 40 s on a busy host, but not one of these.
const EACH: Duration = Duration::from_secs(100);

/// Runs in one guest what was `skipped` and is known to be of the kernel's making; for as long as `limit` in all.
///
/// Unless `strict`, a few that fail are tried again in a guest of their own.
pub(crate) fn run(
    binaries: &[TestBinary],
    skipped: BTreeMap<String, String>,
    limit: Duration,
    strict: bool,
) -> Outcome {
    let tasks: Vec<_> = skipped.keys().filter_map(|name| test::only(name, binaries)).collect();
    if tasks.is_empty() || limit.is_zero() {
        return Outcome { skipped, ..Outcome::default() };
    }
    let started = Instant::now();
    match boot(&tasks, limit) {
        Ok((release, report, trouble)) => {
            let mut outcome = judge(&tasks, skipped, &report, &trouble);
            if !strict && (1..=ACCIDENTS).contains(&outcome.failed.len()) {
                try_again(&tasks, limit.saturating_sub(started.elapsed()).max(EACH), &mut outcome);
            }
            outcome.summary = Some(format!(
                "{} passed only in a guest, on Linux {release}; the guest took {} s",
                outcome.passed,
                started.elapsed().as_secs()
            ));
            outcome
        }
        Err(cause) => Outcome {
            skipped,
            summary: Some(format!("{} tests were for a guest, and there is none: {cause:#}", tasks.len())),
            ..Outcome::default()
        },
    }
}

/// What passes now was unsteady, and is said to be.
fn try_again(tasks: &[Task<'_>], limit: Duration, outcome: &mut Outcome) {
    let again: Vec<_> = tasks.iter().filter(|task| outcome.failed.contains(&task.name)).cloned().collect();
    let Ok((_, report, _)) = boot(&again, limit) else { return };
    let (unsteady, failed) = std::mem::take(&mut outcome.failed)
        .into_iter()
        .partition(|name| report.ended.get(name) == Some(&0) && !report.skipped.contains_key(name));
    outcome.failed = failed;
    outcome.unsteady = unsteady;
    outcome.passed += outcome.unsteady.len();
}

/// The kernel, what it reported, and why that may be less than all.
fn boot(tasks: &[Task<'_>], limit: Duration) -> anyhow::Result<(String, Report, String)> {
    anyhow::ensure!(geteuid().is_root(), "it needs root");
    packages::provide_for_guests()?;
    let kernel = Kernel::provide(KERNEL)?;
    let ended = test::boot(&kernel, tasks, (EACH, limit), print)?;
    let trouble = ended.code.err().map(|cause| format!("{cause:#}")).unwrap_or_default();
    Ok((kernel.release, job::report(&ended.report), trouble))
}

/// A task is one test, whose process ends as it does.
fn judge(
    tasks: &[Task<'_>],
    mut skipped: BTreeMap<String, String>,
    report: &Report,
    trouble: &str,
) -> Outcome {
    let (mut passed, mut failed) = (0, Vec::new());
    for Task { name, .. } in tasks {
        let mut stays = |reason: String| skipped.insert(name.clone(), reason);
        match (report.ended.get(name), report.skipped.get(name)) {
            (Some(0), Some(reason)) => drop(stays(format!("in a guest too: {reason}"))),
            (Some(0), None) => {
                skipped.remove(name);
                passed += 1;
            }
            (Some(&TOO_LONG), _) => drop(stays(format!("not done in a guest after {} s", EACH.as_secs()))),
            (None, _) => drop(stays(format!("its guest did not come to an end: {trouble}"))),
            (Some(_), _) => {
                skipped.remove(name);
                failed.push(name.clone());
            }
        }
    }
    Outcome { passed, failed, skipped, ..Outcome::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_failed_in_the_guest_is_a_failure() {
        let binary = TestBinary {
            package: "bridge".into(),
            name: "it".into(),
            is_integration: true,
            path: "it".into(),
            directory: "/".into(),
        };
        let names =
            ["failed", "lost", "passed", "skipped", "slow"].map(|name| format!("bridge::it::vlan::{name}"));
        let elsewhere = "bridge::it::other".to_string();
        let tests = names.iter().chain([&elsewhere]).map(|name| (name.clone(), "no VLANs".to_string()));
        let tests: BTreeMap<_, _> = tests.collect();
        let binaries = [binary];
        let tasks: Vec<_> = tests.keys().filter_map(|name| test::only(name, &binaries)).collect();
        assert_eq!(tasks.iter().map(|task| &task.name).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
        assert_eq!(tasks[0].arguments, ["--exact", "vlan::failed"]);

        let [bad, lost, good, kept, slow] = names;
        let ended = [(bad.clone(), 101), (good, 0), (kept.clone(), 0), (slow.clone(), TOO_LONG)];
        let report = Report {
            ended: BTreeMap::from(ended),
            skipped: BTreeMap::from([(kept.clone(), "no QEMU".to_string())]),
        };
        let outcome = judge(&tasks, tests, &report, "silence");
        assert_eq!((outcome.passed, outcome.failed), (1, vec![bad]));
        let reasons = [
            (lost, "its guest did not come to an end: silence"),
            (kept, "in a guest too: no QEMU"),
            (slow, "not done in a guest after 100 s"),
            (elsewhere, "no VLANs"),
        ];
        assert_eq!(outcome.skipped, BTreeMap::from(reasons.map(|(name, reason)| (name, reason.to_string()))));
    }
}
