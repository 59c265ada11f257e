//! Calling another plugin by name (CNI 1.1.0, section 4): the same environment, the complete configuration on its
//! standard input, its standard error passed through.

use std::{
    env,
    io::Write,
    path::PathBuf,
    process::{Child, Command as Process, Stdio},
};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    decode::decode,
    error::{Code, Error},
    request::{Command, Request},
    result::AddResult,
};

/// A plugin found in `CNI_PATH`, called on behalf of another.
#[derive(Debug, Clone)]
pub struct Delegate {
    name: String,
    binary: PathBuf,
}

impl Delegate {
    /// The first executable called `name` in the request's `CNI_PATH`. `field` is the configuration's key that named it,
    /// for the error (code 7).
    pub fn find(request: &Request, field: &str, name: &str) -> Result<Self, Error> {
        if name.is_empty() || name.contains('/') {
            return Err(Error::invalid_config(field, format!("{name:?}"), "is not the name of a plugin"));
        }
        let binary = request.path.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
        let binary = binary.ok_or_else(|| {
            let path = env::join_paths(&request.path).unwrap_or_default();
            Error::invalid_config(
                field,
                format!("{name:?}"),
                format_args!("no such plugin in CNI_PATH {}", path.display()),
            )
        })?;
        Ok(Self { name: name.to_owned(), binary })
    }

    pub fn binary(&self) -> &PathBuf {
        &self.binary
    }

    /// The delegate's result. When it fails its DEL has run, as the specification asks, before this returns.
    pub fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let added = self.call(Command::Add, request).and_then(|stdout| {
            let value =
                serde_json::from_slice::<Value>(&stdout).map_err(|err| self.undecodable(&err, &stdout))?;
            AddResult::decode(&value, request.version)
                .map_err(|err| Error::new(err.code, format!("plugin {}: {}", self.name, err.msg)))
        });
        if added.is_err()
            && let Err(err) = self.del(request)
        {
            log::error!("after its failed ADD: {err}");
        }
        added
    }

    pub fn del(&self, request: &Request) -> Result<(), Error> {
        self.call(Command::Del, request).map(drop)
    }

    pub fn check(&self, request: &Request) -> Result<(), Error> {
        self.call(Command::Check, request).map(drop)
    }

    pub fn gc(&self, request: &Request) -> Result<(), Error> {
        self.call(Command::Gc, request).map(drop)
    }

    pub fn status(&self, request: &Request) -> Result<(), Error> {
        self.call(Command::Status, request).map(drop)
    }

    /// Runs the plugin; its standard output on success, its own error, code and all, otherwise.
    fn call(&self, command: Command, request: &Request) -> Result<Vec<u8>, Error> {
        let io = |what: &str, err: std::io::Error| {
            Error::new(Code::Io, format!("{what} plugin {}: {err}", self.binary.display()))
        };
        let child = Process::new(&self.binary)
            .env("CNI_COMMAND", command.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|err| io("run", err))?;
        let output = talk(child, &request.stdin).map_err(|err| io("talk to", err))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(self.failure(&output))
    }

    fn failure(&self, output: &std::process::Output) -> Error {
        #[derive(Deserialize)]
        struct Failure {
            code: Code,
            #[serde(default)]
            msg: String,
            #[serde(default)]
            details: String,
        }
        let stated =
            serde_json::from_slice(&output.stdout).ok().and_then(|value| decode::<Failure>(&value).ok());
        match stated {
            Some(Failure { code, msg, details }) => {
                Error::new(code, format!("plugin {}: {msg}", self.name)).with_details(details)
            }
            None => Error::new(
                Code::Internal,
                format!(
                    "plugin {}: {}, without an error message on standard output",
                    self.name, output.status
                ),
            ),
        }
    }

    fn undecodable(&self, err: &serde_json::Error, stdout: &[u8]) -> Error {
        let shown: String = String::from_utf8_lossy(stdout).chars().take(MAX_OUTPUT_SHOWN).collect();
        Error::new(Code::Decode, format!("plugin {}: its result {shown:?} is no JSON: {err}", self.name))
    }
}

/// Feeds the configuration and gathers the answer. A plugin that doesn't read its input isn't at fault for that.
fn talk(mut child: Child, stdin: &[u8]) -> std::io::Result<std::process::Output> {
    if let Some(mut pipe) = child.stdin.take()
        && let Err(err) = pipe.write_all(stdin)
        && err.kind() != std::io::ErrorKind::BrokenPipe
    {
        log::warn!("write the configuration to a delegate: {err}");
    }
    child.wait_with_output()
}

/// Enough to recognise what a plugin printed instead of a result.
const MAX_OUTPUT_SHOWN: usize = 200;
