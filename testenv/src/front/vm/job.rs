//! The shell script that a guest runs, and what it reports of test binaries. Knows no machine.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use testenv::skip;

use super::guest::REPORT;
use crate::front::cargo::{self, TestBinary};

/// One start of a test binary.
#[derive(Clone)]
pub(super) struct Task<'a> {
    /// Told again in the [`Report`].
    pub(super) name: String,
    pub(super) binary: &'a TestBinary,
    pub(super) arguments: Vec<String>,
}

/// What came out of the tasks that were reached.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Exit statuses by the tasks' names.
    pub(super) ended: BTreeMap<String, u8>,
    /// Reasons by the tests' names.
    pub(super) skipped: BTreeMap<String, String>,
}

/// The exit status that timeout(1) gives a task that took too long.
pub(super) const TOO_LONG: u8 = 124;

/// This directory, and the built programs behind the installed ones, as `bridge` is iproute2's too; then one command.
pub(super) fn command(words: &[String]) -> anyhow::Result<String> {
    let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    Ok(format!("{}{}\n", preamble()?, words.join(" ")))
}

/// Runs one task after another, each for so long at most, whatever became of those before.
pub(super) fn tests(tasks: &[Task<'_>], each: Duration) -> anyhow::Result<String> {
    let mut script = preamble()?;
    let _ = write!(
        script,
        "export {skips}={REPORT}\n\
         task() {{\n    name=$1; export {package}=\"$2\"; cd \"$3\" || exit 125; shift 3\n    \
         timeout --kill-after 5 {seconds} \"$@\" --color never\n    \
         echo \"ended $? $name\" >{REPORT}\n}}\n",
        skips = skip::FILE_VARIABLE,
        package = skip::PACKAGE_VARIABLE,
        seconds = each.as_secs(),
    );
    for Task { name, binary, arguments } in tasks {
        let [directory, path] = [&binary.directory, &binary.path].map(|path| path.to_string_lossy());
        let head = [name.as_str(), &binary.package, &directory, &path];
        let words: Vec<_> =
            head.into_iter().chain(arguments.iter().map(String::as_str)).map(quoted).collect();
        let _ = writeln!(script, "task {}", words.join(" "));
    }
    Ok(script)
}

/// Reads what [`tests`] wrote, as far as it came.
pub(super) fn report(text: &str) -> Report {
    let ended = text.lines().filter_map(|line| {
        let (code, name) = line.strip_prefix("ended ")?.trim_end().split_once(' ')?;
        Some((name.to_string(), code.parse().ok()?))
    });
    Report { ended: ended.collect(), skipped: skip::parse(text) }
}

/// What every script begins with: where it is, and where programs are.
pub(super) fn preamble() -> anyhow::Result<String> {
    let here = env::current_dir().context("ask for the working directory")?;
    let built = cargo::target_directory()?.join("debug");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(env::split_paths(&path).chain([built]))?;
    let home = env::var_os("HOME").unwrap_or_else(|| OsString::from("/root"));
    let mut lines = String::new();
    for (name, value) in [("PATH", &path), ("HOME", &home)] {
        let _ = writeln!(lines, "export {name}={}", quoted(&value.to_string_lossy()));
    }
    let _ = writeln!(lines, "cd {} || exit 125", quoted_path(&here));
    Ok(lines)
}

/// One word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_word_stays_one() {
        let word = "it's $HOME \\ \"two\"";
        let print = format!("printf %s {}", quoted(word));
        let said = Command::new("sh").args(["-c", &print]).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), word);
    }

    /// The script itself, by this host's shell, with a file for the serial line and shells for the test binaries.
    #[test]
    fn tasks_end_each_by_itself() {
        let binary = TestBinary {
            package: "a package".into(),
            name: "it".into(),
            is_integration: true,
            path: "/bin/sh".into(),
            directory: "/tmp".into(),
        };
        let task = |name: &str, script: &str| Task {
            name: name.into(),
            binary: &binary,
            arguments: ["-c", script].map(String::from).to_vec(),
        };
        let tasks = [
            task("good", "pwd; printf 'skipped\\tit is %s\\n' \"$CARGO_PKG_NAME\" >$TENON_SKIPS"),
            task("it's bad", "exit 101"),
            task("slow", "exec sleep 60"),
            task("good again", "exit 0"),
        ];
        let script = tests(&tasks, Duration::from_secs(1)).unwrap();
        let said = Command::new("sh").args(["-c", &script.replace(REPORT, "/dev/stderr")]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "/tmp\n");
        let found = report(&String::from_utf8_lossy(&said.stderr));
        let ended = [("good", 0), ("good again", 0), ("it's bad", 101), ("slow", TOO_LONG)];
        assert_eq!(found.ended, BTreeMap::from(ended.map(|(name, code)| (name.into(), code))));
        assert_eq!(found.skipped, BTreeMap::from([("skipped".into(), "it is a package".into())]));
    }
}
