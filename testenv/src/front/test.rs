//! `cargo testenv test`: sets up, runs every test, and counts so that none passes by not running.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use nix::unistd::geteuid;
use testenv::skip;

use super::{cargo, packages, say};

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: usize,
    failed: usize,
    ignored: usize,
}

pub(super) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let filter = match arguments {
        [] => &[],
        [dashes, filter @ ..] if dashes == "--" => filter,
        [other, ..] => bail!("test: unexpected argument {other:?}; filters come after --"),
    };
    packages::provide()?;
    cargo::run(&["build", "--workspace", "--bins"])?;
    cargo::run(&["test", "--workspace", "--no-run"])?;
    let skips = cargo::target_directory()?.join("testenv-skips");
    fs::write(&skips, "").with_context(|| format!("write {}", skips.display()))?;
    let (mut count, succeeded) = run_tests(filter, &skips)?;
    if !succeeded && count.failed == 0 {
        eprintln!("testenv: cargo test failed without naming a test: a binary crashed or did not build");
        count.failed = 1;
    }
    let skipped = skip::read(&skips).with_context(|| format!("read {}", skips.display()))?;
    for (test, reason) in &skipped {
        say(&format!("skipped {test}: {reason}"))?;
    }
    let (line, good) = verdict(&count, skipped.len());
    say(&line)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The closing line, and whether all is well. A skipped test ended as a passed one for the harness.
fn verdict(count: &Count, skipped: usize) -> (String, bool) {
    let passed = count.passed.saturating_sub(skipped);
    let skipped = skipped + count.ignored;
    let line = format!("{passed} passed, {} failed, {skipped} skipped", count.failed);
    (line, count.failed == 0 && passed > 0)
}

/// Runs the built tests; their output goes on to ours. An ordinary user's tests run as root of a user namespace.
fn run_tests(filter: &[String], skips: &Path) -> anyhow::Result<(Count, bool)> {
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
        add_result(&mut count, &String::from_utf8_lossy(&line));
    }
    Ok((count, child.wait().context("wait for cargo test")?.success()))
}

/// Takes in libtest's closing line, such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn add_result(count: &mut Count, line: &str) {
    let Some(result) = line.strip_prefix("test result: ") else { return };
    for part in result.split(['.', ';']) {
        match part.trim().split_once(' ') {
            Some((number, "passed")) => count.passed += number.parse().unwrap_or(0),
            Some((number, "failed")) => count.failed += number.parse().unwrap_or(0),
            Some((number, "ignored")) => count.ignored += number.parse().unwrap_or(0),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_add_up() {
        let mut count = Count::default();
        let output = [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.00s",
            "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
            "said: test result: ok. 7 passed; 7 failed",
        ];
        for line in output {
            add_result(&mut count, line);
        }
        assert_eq!(count, Count { passed: 13, failed: 2, ignored: 1 });
    }

    #[test]
    fn only_a_test_that_ran_makes_a_success() {
        let check = |passed, failed, ignored, skipped, line: &str, good| {
            let said = verdict(&Count { passed, failed, ignored }, skipped);
            assert_eq!(said, (line.to_string(), good));
        };
        check(5, 0, 0, 0, "5 passed, 0 failed, 0 skipped", true);
        check(5, 0, 1, 2, "3 passed, 0 failed, 3 skipped", true);
        check(5, 1, 0, 0, "5 passed, 1 failed, 0 skipped", false);
        check(2, 0, 0, 2, "0 passed, 0 failed, 2 skipped", false);
        check(0, 0, 0, 0, "0 passed, 0 failed, 0 skipped", false);
    }
}
