//! `cargo testenv test`: sets up, runs every test, on another kernel what this one lacks parts for, and counts.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::unistd::geteuid;
use testenv::skip;

use super::{cargo, count::Count, packages, say, vm};

/// How long the guest may take: whole runs are to stay well under half an hour.
const GUEST_LIMIT: Duration = Duration::from_secs(420);
const USAGE: &str = "test: expected [--strict] [--guest-limit SECONDS] [-- FILTER...]";
/// More failures than this are no accident, and are not tried again.
pub(super) const ACCIDENTS: usize = 3;

pub(super) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let (strict, arguments) = match arguments {
        [option, rest @ ..] if option == "--strict" => (true, rest),
        rest => (false, rest),
    };
    let (limit, filter) = match arguments {
        [option, limit, rest @ ..] if option == "--guest-limit" => (vm::seconds(limit)?, rest),
        rest => (GUEST_LIMIT, rest),
    };
    let filter = match filter {
        [] => &[],
        [dashes, filter @ ..] if dashes == "--" => filter,
        [other, ..] => bail!("{USAGE}, and not {other:?}"),
    };
    packages::provide()?;
    cargo::run(&["build", "--workspace", "--bins"])?;
    let binaries = cargo::build_tests()?;
    let skips = cargo::target_directory()?.join("testenv-skips");
    fs::write(&skips, "").with_context(|| format!("write {}", skips.display()))?;
    let filter: Vec<_> = filter.iter().map(String::as_str).collect();
    let (mut count, succeeded) = run_tests(&filter, &skips)?;
    if !succeeded && count.failed == 0 {
        eprintln!("testenv: cargo test failed without naming a test: a binary crashed or did not build");
        count.failed = 1;
    }
    if !strict && (1..=ACCIDENTS).contains(&count.failures.len()) {
        try_again(&mut count, &skips)?;
    }
    let skipped = skip::read(&skips).with_context(|| format!("read {}", skips.display()))?;
    let in_guest = vm::skipped::run(&binaries, skipped, limit, strict);
    count.turn_over(in_guest.failed.len());
    for test in &in_guest.unsteady {
        say(&format!("unsteady {test}: failed in the first guest, see above, and passed in the next"))?;
    }
    for test in &in_guest.failed {
        say(&format!("failed in the guest: {test}"))?;
    }
    for (test, reason) in &in_guest.skipped {
        say(&format!("skipped {test}: {reason}"))?;
    }
    if let Some(summary) = in_guest.summary {
        say(&summary)?;
    }
    let (line, good) = count.verdict(in_guest.skipped.len());
    say(&line)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs once more, each by itself, what failed while others loaded the machine. Whoever reads the output is told what passed only
/// then: it is a defect of the test or of what it tests all the same.
fn try_again(count: &mut Count, skips: &Path) -> anyhow::Result<()> {
    eprintln!("testenv: again, one by one: {}", count.failures.join(", "));
    let mut filter = vec!["--exact", "--test-threads", "1"];
    filter.extend(count.failures.iter().map(String::as_str));
    let (again, _) = run_tests(&filter, skips)?;
    for test in count.settle(&again) {
        say(&format!("unsteady {test}: failed first, see above, and passed by itself"))?;
    }
    Ok(())
}

/// Runs the built tests; their output goes on to ours. An ordinary user's tests run as root of a user namespace.
fn run_tests(filter: &[&str], skips: &Path) -> anyhow::Result<(Count, bool)> {
    let mut command = if geteuid().is_root() {
        Command::new(cargo::program())
    } else {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user"]).arg(cargo::program());
        unshare
    };
    command.args(["test", "--workspace", "--no-fail-fast", "--"]).args(filter);
    command.env(skip::FILE_VARIABLE, skips).stdout(Stdio::piped());
    let mut child = command.spawn().context("start cargo test")?;
    let output = child.stdout.take().context("stdout of cargo test is a pipe")?;
    let mut count = Count::default();
    let mut stdout = io::stdout();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read the output of cargo test")?;
        stdout.write_all(&line)?;
        stdout.write_all(b"\n")?;
        count.add(&String::from_utf8_lossy(&line));
    }
    Ok((count, child.wait().context("wait for cargo test")?.success()))
}
