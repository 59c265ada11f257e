//! Running cargo on this workspace, and where it puts things.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

/// The cargo that started us.
pub(super) fn program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs cargo in the workspace; fails when it does.
pub(super) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    run_with(arguments, &[])
}

/// The same with variables set.
pub(super) fn run_with(arguments: &[&str], environment: &[(String, String)]) -> anyhow::Result<()> {
    let mut command = Command::new(program());
    command.args(arguments).envs(environment.iter().cloned());
    let status = command.status().context("start cargo")?;
    ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    Ok(())
}

/// The directory that holds `debug`, `release` and `<target triple>/release`.
pub(super) fn target_directory() -> anyhow::Result<PathBuf> {
    let metadata = metadata()?;
    let directory =
        metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(PathBuf::from(directory))
}

/// What `cargo metadata` tells of the workspace, without its dependencies.
pub(super) fn metadata() -> anyhow::Result<Value> {
    let output = Command::new(program())
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", output.status);
    serde_json::from_slice(&output.stdout).context("read cargo metadata")
}
