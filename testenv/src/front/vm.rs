//! `cargo testenv vm`: commands and tests on Debian's kernels, in guests of QEMU, for what this host's kernel lacks.

use std::env;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

use self::kernel::Kernel;
use super::{cargo, packages};

mod cpio;
mod guest;
mod kernel;
mod test;

/// What a kernel is chosen by when none is named: those of Debian 12, as installed and as backported.
const KERNELS: [&str; 2] = ["6.1", "6.12"];
/// A guest is five to twenty times slower than its host, more on a busy one.
const PATIENCE: Duration = Duration::from_secs(900);

pub(super) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let usage = "vm: expected run [--kernel VERSION] -- CMD..., or test [--kernel VERSION]...";
    let [verb, rest @ ..] = arguments else { bail!(usage) };
    let (kernels, command) = options(rest)?;
    match (verb.as_str(), kernels.as_slice(), command) {
        ("run", [] | [_], [_, ..]) => {
            run_command(kernels.first().map_or(KERNELS[1], String::as_str), command)
        }
        ("test", [], []) => test::run(&KERNELS.map(String::from)),
        ("test", kernels, []) => test::run(kernels),
        _ => bail!(usage),
    }
}

/// The kernels named, and the command after `--`.
fn options(arguments: &[String]) -> anyhow::Result<(Vec<String>, &[String])> {
    let mut kernels = Vec::new();
    let mut rest = arguments;
    loop {
        match rest {
            [] => return Ok((kernels, &[])),
            [dashes, command @ ..] if dashes == "--" => return Ok((kernels, command)),
            [option, version, more @ ..] if option == "--kernel" => {
                kernels.push(version.clone());
                rest = more;
            }
            [other, ..] => bail!("vm: unexpected argument {other:?}; a command comes after --"),
        }
    }
}

/// Runs one command in a guest, where this directory and the built programs are as here; ends as it does.
fn run_command(series: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    packages::provide_for_guests()?;
    cargo::run(&["build", "--workspace", "--bins"])?;
    let kernel = Kernel::provide(series)?;
    let words: Vec<_> = command.iter().map(|word| quoted(word)).collect();
    let job = format!("{}{}\n", preamble(&[])?, words.join(" "));
    let ended = guest::run(&kernel, &job, PATIENCE, print)?;
    Ok(ExitCode::from(ended.code))
}

fn print(line: &[u8]) -> io::Result<()> {
    io::stdout().lock().write_all(&[line, b"\n"].concat())
}

/// What every job begins with: this directory, and the built programs behind the installed ones, as `bridge` is iproute2's too.
fn preamble(variables: &[(&str, &str)]) -> anyhow::Result<String> {
    let here = env::current_dir().context("ask for the working directory")?;
    let built = cargo::target_directory()?.join("debug");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(env::split_paths(&path).chain([built]))?;
    let mut lines = String::new();
    let home = env::var_os("HOME").unwrap_or_else(|| OsString::from("/root"));
    let inherited = [("PATH", &path), ("HOME", &home)];
    for (name, value) in inherited.map(|(name, value)| (name, value.to_string_lossy())) {
        let _ = writeln!(lines, "export {name}={}", quoted(&value));
    }
    for (name, value) in variables {
        let _ = writeln!(lines, "export {name}={}", quoted(value));
    }
    let _ = writeln!(lines, "ip link set lo up\ncd {} || exit 125", quoted_path(&here));
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
    use super::*;

    #[test]
    fn kernels_come_before_the_command() {
        let words = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        let arguments = words("--kernel 6.1 --kernel 6.12 -- uname --kernel");
        let (kernels, command) = options(&arguments).unwrap();
        assert_eq!((kernels, command), (words("6.1 6.12"), &words("uname --kernel")[..]));
        assert!(options(&words("uname")).is_err());
    }

    #[test]
    fn a_word_stays_one() {
        let word = "it's $HOME \\ \"two\"";
        let print = format!("printf %s {}", quoted(word));
        let said = std::process::Command::new("sh").args(["-c", &print]).output().unwrap();
        assert_eq!(String::from_utf8(said.stdout).unwrap(), word);
    }
}
