//! The address plugin that a configuration names in `ipam.type`: run in this process when it is ours, else called.

use std::{env, ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use cni::{
    decode::field,
    delegate::Delegate,
    error::Error,
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};
use rustix::param::linux_execfn;
use serde_json::Value;

use crate::{host_local::HostLocal, static_::Static, store::lease::LeaseError};

/// An address plugin, ready to serve each verb.
#[derive(Debug, Clone)]
pub enum Ipam {
    HostLocal,
    Static,
    /// Another program.
    External(Delegate),
}

impl Ipam {
    /// What `ipam.type` names; `None` without it: a network that gives no addresses. Fails (code 7) where `CNI_PATH`
    /// has no such plugin.
    ///
    /// Our own code stands in for the binary only where it is the one that would be run: `CNI_PATH` leads to the
    /// directory of the running program.
    pub fn resolve(request: &Request) -> Result<Option<Self>, Error> {
        let Some(name) = type_name(request)? else { return Ok(None) };
        let delegate = Delegate::find(request, "ipam.type", name)?;
        let built_in = match name {
            HostLocal::NAME => Self::HostLocal,
            Static::NAME => Self::Static,
            _ => return Ok(Some(Self::External(delegate))),
        };
        let ours = is_beside_us(delegate.binary());
        Ok(Some(if ours { built_in } else { Self::External(delegate) }))
    }

    /// The plugin may work through the container's interface: that must be up before its ADD and be there still at its DEL.
    /// Ours do not; any other may rely on it, since the reference has it so (`dhcp` does).
    pub fn needs_link(&self) -> bool {
        match self {
            Self::HostLocal | Self::Static => false,
            Self::External(_) => true,
        }
    }

    /// The result has no interfaces, and perhaps no addresses. When it fails, nothing is left of it.
    ///
    /// For an interface that the caller has seen not to be there: a lease in its very name is what a killed ADD left.
    pub fn add(&self, request: &Request, at: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        match self {
            Self::HostLocal => match HostLocal::add(request, at, netns) {
                Err(err) if is_left_over(&err) => {
                    log::warn!("{at}: {err:#}; releasing it");
                    HostLocal::del(request, at, Some(netns))?;
                    HostLocal::add(request, at, netns)
                }
                added => added,
            },
            Self::Static => Static::add(request, at, netns),
            Self::External(delegate) => Ok(delegate.add(request)?),
        }
    }

    pub fn del(&self, request: &Request, at: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
        match self {
            Self::HostLocal => HostLocal::del(request, at, netns),
            Self::Static => Static::del(request, at, netns),
            Self::External(delegate) => Ok(delegate.del(request)?),
        }
    }

    pub fn check(&self, request: &Request, at: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        match self {
            Self::HostLocal => HostLocal::check(request, at, netns),
            Self::Static => Static::check(request, at, netns),
            Self::External(delegate) => Ok(delegate.check(request)?),
        }
    }

    pub fn gc(&self, request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        match self {
            Self::HostLocal => HostLocal::gc(request, valid),
            Self::Static => Static::gc(request, valid),
            Self::External(delegate) => Ok(delegate.gc(request)?),
        }
    }

    pub fn status(&self, request: &Request) -> anyhow::Result<()> {
        match self {
            Self::HostLocal => HostLocal::status(request),
            Self::Static => Static::status(request),
            Self::External(delegate) => Ok(delegate.status(request)?),
        }
    }
}

fn is_left_over(err: &anyhow::Error) -> bool {
    matches!(err.downcast_ref(), Some(LeaseError::Duplicate { by_name: true, .. }))
}

fn type_name(request: &Request) -> Result<Option<&str>, Error> {
    let ipam = match field(&request.config, "ipam") {
        None => return Ok(None),
        Some(Value::Object(ipam)) => ipam,
        Some(other) => return Err(Error::invalid_config("ipam", other, "is not an object")),
    };
    match field(ipam, "type") {
        None => Ok(None),
        Some(Value::String(name)) => Ok(Some(name.as_str()).filter(|name| !name.is_empty())),
        Some(other) => Err(Error::invalid_config("ipam.type", other, "is not a string")),
    }
}

/// Whether `binary` is in the directory of the running program.
fn is_beside_us(binary: &Path) -> bool {
    // The usual case, a runtime that calls us by the path that it gives us: a third of what a look into /proc costs.
    let started_as = Path::new(OsStr::from_bytes(linux_execfn().to_bytes()));
    started_as.is_absolute() && are_plain_neighbours(binary, started_as)
        || env::current_exe().is_ok_and(|program| are_neighbours(binary, &program))
}

/// Whether two programs are in one directory. `program` has no symbolic link in it, as /proc/self/exe.
fn are_neighbours(binary: &Path, program: &Path) -> bool {
    // The usual case costs one look, not one at every directory on the way.
    binary.parent() == program.parent() && !is_link(binary)
        || binary.canonicalize().is_ok_and(|binary| binary.parent() == program.parent())
}

/// Whether two programs are, as their paths stand, files of one directory.
fn are_plain_neighbours(binary: &Path, program: &Path) -> bool {
    binary.parent() == program.parent() && !is_link(binary) && !is_link(program)
}

fn is_link(path: &Path) -> bool {
    path.symlink_metadata().map_or(true, |metadata| metadata.is_symlink())
}

#[cfg(test)]
mod tests;
