//! Running cargo on this workspace, and where it puts things.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// The cargo that started us.
pub(super) fn program() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// cargo, as it would be started by hand: without what it told us of our own package. Build scripts that look at it run anew
/// whenever it differs, and all that stands on them is built again.
fn command() -> Command {
    let mut command = Command::new(program());
    let of_ours = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    for name in env::vars_os().map(|(name, _)| name).filter(of_ours) {
        command.env_remove(name);
    }
    command
}

/// Runs cargo in the workspace; fails when it does.
pub(super) fn run(arguments: &[&str]) -> anyhow::Result<()> {
    run_with(arguments, &[])
}

/// The same with variables set.
pub(super) fn run_with(arguments: &[&str], environment: &[(String, String)]) -> anyhow::Result<()> {
    let mut command = command();
    let status = command.args(arguments).envs(environment.iter().cloned()).status().context("start cargo")?;
    ensure!(status.success(), "cargo {}: {status}", arguments.join(" "));
    Ok(())
}

/// A built binary of tests.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TestBinary {
    pub(super) package: String,
    /// The target's name, such as `it`.
    pub(super) name: String,
    /// Of a directory `tests`; the others hold what stands beside the code.
    pub(super) is_integration: bool,
    pub(super) path: PathBuf,
    /// Where cargo would start it.
    pub(super) directory: PathBuf,
}

impl TestBinary {
    pub(super) fn is(&self, package: &str, name: &str) -> bool {
        self.package == package && self.name == name
    }

    /// What the names of its tests begin with where they are skipped.
    pub(super) fn title(&self) -> String {
        format!("{}::{}", self.package, self.name)
    }
}

/// Builds every test of the workspace: one by one they would be built anew, with other features of what they share.
pub(super) fn build_tests() -> anyhow::Result<Vec<TestBinary>> {
    let output = command()
        .args(["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo test")?;
    ensure!(output.status.success(), "cargo test --no-run: {}", output.status);
    let packages = metadata()?;
    let name_of = |id: &Value| {
        let package = packages["packages"].as_array()?.iter().find(|package| package["id"] == *id)?;
        package["name"].as_str().map(String::from)
    };
    let messages = String::from_utf8_lossy(&output.stdout);
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_test = |message: &Value| message["profile"]["test"] == true && message["executable"].is_string();
    messages
        .filter(is_test)
        .map(|message| {
            let text = |value: &Value| value.as_str().map(String::from);
            let manifest = text(&message["manifest_path"]).map(PathBuf::from);
            Some(TestBinary {
                package: name_of(&message["package_id"])?,
                name: text(&message["target"]["name"])?,
                is_integration: message["target"]["kind"] == json!(["test"]),
                path: text(&message["executable"]).map(PathBuf::from)?,
                directory: manifest?.parent()?.to_path_buf(),
            })
        })
        .collect::<Option<_>>()
        .context("cargo test names a binary of a form unknown here")
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
    let output = command()
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", output.status);
    serde_json::from_slice(&output.stdout).context("read cargo metadata")
}
