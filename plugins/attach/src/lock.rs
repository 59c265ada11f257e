//! A network's lock on this node, for what its attachments share (such as the exception that keeps its own subnet from
//! being masqueraded): made again by every attachment, removed with the last.
//!
//! Whoever attaches holds it shared, from before the record is written until the shared objects are there; whoever may be
//! the last to leave holds it alone while deciding so and removing them. Attachments don't wait for each other.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
};

use cni::names::NetworkName;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// The lock could not be had.
#[derive(Debug, thiserror::Error)]
#[error("lock network {network} by {}", path.display())]
pub struct Error {
    network: NetworkName,
    path: PathBuf,
    source: io::Error,
}

/// The lock, until it is dropped.
#[derive(Debug)]
pub struct NetworkLock {
    _file: Flock<File>,
}

impl NetworkLock {
    /// For attaching: with others that attach.
    pub fn shared(network: &NetworkName) -> Result<Self, Error> {
        Self::take(network, FlockArg::LockShared)
    }

    /// For removing what is shared: alone. Waits for those that attach now, which takes them milliseconds.
    pub fn exclusive(network: &NetworkName) -> Result<Self, Error> {
        Self::take(network, FlockArg::LockExclusive)
    }

    fn take(network: &NetworkName, how: FlockArg) -> Result<Self, Error> {
        let path = PathBuf::from(DIRECTORY).join(network.as_str());
        let opened = open(&path).and_then(|file| lock(file, how));
        opened.map(|file| Self { _file: file }).map_err(|source| Error {
            network: network.clone(),
            path,
            source,
        })
    }
}

/// The file stays when the network goes: a lock on a name that others may open anew excludes nobody.
fn open(path: &PathBuf) -> io::Result<File> {
    let create = || File::options().write(true).create(true).truncate(false).open(path);
    create().or_else(|err| {
        if err.kind() != io::ErrorKind::NotFound {
            return Err(err);
        }
        fs::create_dir_all(DIRECTORY)?;
        create()
    })
}

fn lock(mut file: File, how: FlockArg) -> io::Result<Flock<File>> {
    loop {
        match Flock::lock(file, how) {
            Ok(locked) => return Ok(locked),
            Err((back, Errno::EINTR)) => file = back,
            Err((_, err)) => return Err(err.into()),
        }
    }
}

const DIRECTORY: &str = "/run/tenon/lock";
