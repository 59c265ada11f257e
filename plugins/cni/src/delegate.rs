//! Calling another plugin by name (CNI 1.1.0, section 4): the same environment, the complete configuration on its
//! standard input, its standard error passed through.

use std::path::Path;

use crate::{
    error::Error,
    exec::{self, Binary},
    request::{Command, Request},
    result::AddResult,
};

/// A plugin found in `CNI_PATH`, called on behalf of another.
#[derive(Debug, Clone)]
pub struct Delegate {
    binary: Binary,
}

impl Delegate {
    /// The first executable called `name` in the request's `CNI_PATH`. `field` is the configuration's key that named it,
    /// for the error (code 7).
    pub fn find(request: &Request, field: &str, name: &str) -> Result<Self, Error> {
        let binary = Binary::find(name, &request.path)
            .map_err(|why| Error::invalid_config(field, format!("{name:?}"), why))?;
        Ok(Self { binary })
    }

    pub fn binary(&self) -> &Path {
        self.binary.path()
    }

    /// The delegate's result. When it fails its DEL has run, as the specification asks, before this returns.
    pub fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let added = self.call(Command::Add, request).and_then(|stdout| {
            exec::parse_answer(&stdout)
                .and_then(|value| AddResult::decode(&value, request.version))
                .map_err(|err| self.named(err))
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
        let variables = [("CNI_COMMAND", command.as_str())];
        self.binary.call(&variables, &request.stdin).map_err(|err| self.named(err))
    }

    fn named(&self, err: Error) -> Error {
        let Error { code, msg, details } = err;
        Error::new(code, format!("plugin {}: {msg}", self.binary.name())).with_details(details)
    }
}
