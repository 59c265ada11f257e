//! `cargo testenv vm`: commands and tests on Debian's kernels, in guests of QEMU, for what this host's kernel lacks.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use self::guest::Job;
use self::kernel::Kernel;
use self::test::Choice;
use super::{cargo, packages};

mod apt;
mod cpio;
mod guest;
mod job;
mod kernel;
mod pair;
mod scratch;
pub(super) mod skipped;
mod test;

/// What a kernel is chosen by when none is named: those of Debian 12, as installed and as backported.
const KERNELS: [&str; 2] = ["6.1", "6.12"];
/// A guest is five to twenty times slower than its host, more on a busy one.
const LIMIT: Duration = Duration::from_secs(900);
/// The whole suite takes minutes on a host.
const LIMIT_OF_ALL: Duration = Duration::from_secs(2 * 60 * 60);
const USAGE: &str = "vm: expected run [--kernel VERSION] [--limit SECONDS] -- CMD..., \
                     test [--all [--package NAME]...] [--kernel VERSION]... [--limit SECONDS] [-- FILTER...], \
                     or hosts [--kernel VERSION]... [--limit SECONDS]";

pub(super) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let [verb, rest @ ..] = arguments else { bail!(USAGE) };
    let Options { kernels, limit, all, packages, command } = options(rest)?;
    match (verb.as_str(), kernels.as_slice(), command) {
        ("run", [] | [_], [_, ..]) if !all && packages.is_empty() => {
            let kernel = kernels.first().map_or(KERNELS[1], String::as_str);
            run_command(kernel, command, limit.unwrap_or(LIMIT))
        }
        (verb @ ("test" | "hosts"), kernels, filters) => {
            let defaults = KERNELS.map(String::from);
            let kernels = if kernels.is_empty() { &defaults } else { kernels };
            let (choice, default) = match (verb, all, packages.as_slice(), filters) {
                ("test", false, [], []) => (Choice::Parts, LIMIT),
                ("test", true, packages, filters) => (Choice::All { packages, filters }, LIMIT_OF_ALL),
                ("hosts", false, [], []) => (Choice::TwoHosts, LIMIT),
                _ => bail!(USAGE),
            };
            test::run(kernels, choice, limit.unwrap_or(default))
        }
        _ => bail!(USAGE),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    kernels: Vec<String>,
    /// How long one guest may take.
    limit: Option<Duration>,
    all: bool,
    /// Of which packages the tests are.
    packages: Vec<String>,
    /// What comes after `--`.
    command: &'a [String],
}

fn options(arguments: &[String]) -> anyhow::Result<Options<'_>> {
    let mut options = Options::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--" => {
                options.command = rest.as_slice();
                break;
            }
            "--all" => options.all = true,
            "--package" => options.packages.push(rest.next().context(USAGE)?.clone()),
            "--kernel" => options.kernels.push(rest.next().context(USAGE)?.clone()),
            "--limit" => options.limit = Some(seconds(rest.next().context(USAGE)?)?),
            other => bail!("vm: unexpected argument {other:?}; a command comes after --"),
        }
    }
    Ok(options)
}

/// A time limit as written on a command line.
pub(super) fn seconds(text: &str) -> anyhow::Result<Duration> {
    let seconds = text.parse().with_context(|| format!("{text:?}: expected a number of seconds"))?;
    Ok(Duration::from_secs(seconds))
}

/// Runs one command in a guest, where this directory and the built programs are as here; ends as it does.
fn run_command(series: &str, command: &[String], limit: Duration) -> anyhow::Result<ExitCode> {
    packages::provide_for_guests()?;
    cargo::run(&["build", "--workspace", "--bins"])?;
    let ended = guest::run(&Kernel::provide(series)?, &Job::alone(&job::command(command)?, limit), print)?;
    Ok(ExitCode::from(ended.code?))
}

fn print(line: &[u8]) -> io::Result<()> {
    io::stdout().lock().write_all(&[line, b"\n"].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_come_before_the_command() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let arguments = words("--kernel 6.1 --limit 60 --package ptp --kernel 6.12 -- uname --kernel");
        let expected = Options {
            kernels: words("6.1 6.12"),
            limit: Some(Duration::from_secs(60)),
            all: false,
            packages: words("ptp"),
            command: &words("uname --kernel"),
        };
        assert_eq!(options(&arguments).unwrap(), expected);
        for wrong in ["uname", "--limit soon", "--kernel", "--package"] {
            assert!(options(&words(wrong)).is_err(), "{wrong}");
        }
    }
}
