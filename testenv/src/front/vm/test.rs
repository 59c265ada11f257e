//! `cargo testenv vm test`: the tests that need what this host's kernel may lack, in a guest for each kernel, counted.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::Value;
use testenv::skip;

use super::guest::{self, REPORT};
use super::kernel::Kernel;
use super::{PATIENCE, preamble, print, quoted, quoted_path};
use crate::front::{cargo, count::Count, packages, say};

/// Tests of one binary, by a part of their names.
struct Part {
    package: &'static str,
    binary: &'static str,
    filter: &'static str,
}

/// What needs CONFIG_BRIDGE_VLAN_FILTERING; and taps, which kernels differ in.
const PARTS: [Part; 3] = [
    Part { package: "kernel", binary: "it", filter: "bridges::keeps_vlans" },
    Part { package: "bridge", binary: "it", filter: "vlan::" },
    Part { package: "tap", binary: "it", filter: "" },
];

pub(super) fn run(kernels: &[String]) -> anyhow::Result<ExitCode> {
    packages::provide_for_guests()?;
    packages::provide()?;
    cargo::run(&["build", "--workspace", "--bins"])?;
    let mut commands = String::new();
    for part in &PARTS {
        let command = format!("{} --color never {}", quoted_path(&built(part)?), quoted(part.filter));
        let _ = writeln!(commands, "{command} || failed=1");
    }
    let job = format!("{}{commands}exit ${{failed:-0}}\n", preamble(&[(skip::FILE_VARIABLE, REPORT)])?);
    let (mut count, mut skipped) = (Count::default(), 0);
    for series in kernels {
        let kernel = Kernel::provide(series)?;
        say(&format!("on Linux {}", kernel.release))?;
        let (started, before) = (Instant::now(), count.failed);
        let ended = guest::run(&kernel, &job, PATIENCE, |line| {
            count.add_result(&String::from_utf8_lossy(line));
            print(line)
        });
        let code = match ended {
            Ok(ended) => {
                for (test, reason) in skip::parse(&ended.report) {
                    say(&format!("skipped {test}: {reason}"))?;
                    skipped += 1;
                }
                ended.code
            }
            Err(cause) => {
                eprintln!("testenv: Linux {}: {cause:#}", kernel.release);
                1
            }
        };
        if code != 0 && count.failed == before {
            eprintln!("testenv: a binary failed on Linux {} without naming a test", kernel.release);
            count.failed += 1;
        }
        eprintln!("testenv: Linux {} took {} s", kernel.release, started.elapsed().as_secs());
    }
    let (line, good) = count.verdict(skipped);
    say(&line)?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds a test binary: where it is.
fn built(part: &Part) -> anyhow::Result<PathBuf> {
    let Part { package, binary, filter: _ } = part;
    let output = Command::new(cargo::program())
        .args(["test", "--package", package, "--test", binary, "--no-run", "--message-format", "json"])
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo test")?;
    ensure!(output.status.success(), "build the tests of {package}: {}", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_ours = |message: &Value| {
        message["target"]["name"] == *binary && message["target"]["kind"] == serde_json::json!(["test"])
    };
    let executable =
        messages.filter(is_ours).find_map(|message| message["executable"].as_str().map(PathBuf::from));
    let executable = executable.with_context(|| format!("cargo names no test binary of {package}"))?;
    fs::canonicalize(&executable).with_context(|| format!("find {}", executable.display()))
}
