//! Running a plugin's binary: where it is, one call of it, and what its failure says.
//!
//! Knows neither what the configuration holds nor who calls: a plugin its delegate, or a runtime its chain.

use std::{
    env,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    decode::decode,
    error::{Code, Error},
};

/// A plugin found on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    name: String,
    path: PathBuf,
}

/// Why there is no such plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    #[error("is not the name of a plugin")]
    NotAName,
    #[error("no such plugin in CNI_PATH {path}")]
    NotInPath { path: String },
}

impl Binary {
    /// The first file called `name` in `dirs`, executable or not, as the reference looks.
    pub fn find(name: &str, dirs: &[PathBuf]) -> Result<Self, NotFound> {
        if name.is_empty() || name.contains('/') {
            return Err(NotFound::NotAName);
        }
        let path = dirs.iter().map(|dir| dir.join(name)).find(|path| path.is_file()).ok_or_else(|| {
            let path = env::join_paths(dirs).unwrap_or_default();
            NotFound::NotInPath { path: path.display().to_string() }
        })?;
        Ok(Self { name: name.to_owned(), path })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs the plugin with `variables` over the caller's own environment; its standard error is the caller's. Returns
    /// its standard output, or its own error, code and all.
    pub fn call(&self, variables: &[(&str, &str)], stdin: &[u8]) -> Result<Vec<u8>, Error> {
        let io = |what: &str, err: std::io::Error| {
            Error::new(Code::Io, format!("{what} {}: {err}", self.path.display()))
        };
        let mut process = Command::new(&self.path);
        process.envs(variables.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = spawn(&mut process).map_err(|err| io("run", err))?;
        let output = talk(child, stdin).map_err(|err| io("talk to", err))?;
        if output.status.success() { Ok(output.stdout) } else { Err(failure(&output)) }
    }
}

/// A binary that is being replaced under us is tried again for a while, as the reference does.
fn spawn(process: &mut Command) -> std::io::Result<Child> {
    for _ in 0..BUSY_TRIES {
        match process.spawn() {
            Err(err) if err.kind() == ErrorKind::ExecutableFileBusy => thread::sleep(BUSY_PAUSE),
            spawned => return spawned,
        }
    }
    process.spawn()
}

/// Feeds the configuration and gathers the answer. A plugin that doesn't read its input isn't at fault for that.
fn talk(mut child: Child, stdin: &[u8]) -> std::io::Result<Output> {
    if let Some(mut pipe) = child.stdin.take()
        && let Err(err) = pipe.write_all(stdin)
        && err.kind() != ErrorKind::BrokenPipe
    {
        log::warn!("write the configuration to a plugin: {err}");
    }
    child.wait_with_output()
}

fn failure(output: &Output) -> Error {
    #[derive(Deserialize)]
    struct Failure {
        code: Code,
        #[serde(default)]
        msg: String,
        #[serde(default)]
        details: String,
    }
    let stated = serde_json::from_slice::<Value>(&output.stdout).ok();
    match stated.and_then(|value| decode::<Failure>(&value).ok()) {
        Some(Failure { code, msg, details }) => Error::new(code, msg).with_details(details),
        None => Error::new(
            Code::Internal,
            format!("{}, without an error message on standard output", output.status),
        ),
    }
}

/// What a plugin printed as its result, as JSON.
pub fn parse_answer(stdout: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(stdout).map_err(|err| {
        let shown: String = String::from_utf8_lossy(stdout).chars().take(MAX_OUTPUT_SHOWN).collect();
        Error::new(Code::Decode, format!("its result {shown:?} is no JSON: {err}"))
    })
}

/// Enough to recognise what a plugin printed instead of a result.
const MAX_OUTPUT_SHOWN: usize = 200;
/// Five seconds together, as in the reference.
const BUSY_TRIES: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(100);
