//! A network's lock on this node, for what its attachments share (such as the exception that keeps its own subnet from
//! being masqueraded): made again by every attachment, removed with the last.
//!
//! Whoever attaches holds it shared, from before the record is written until the shared objects are there; whoever may be
//! the last to leave holds it alone while deciding so and removing them. Attachments don't wait for each other.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use cni::names::NetworkName;
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};
use sha2::{Digest, Sha256};

/// The lock could not be had.
#[derive(Debug, thiserror::Error)]
#[error("lock network {network} in {FILE}")]
pub struct Error {
    network: NetworkName,
    source: io::Error,
}

/// The lock, until it is dropped.
///
/// All networks lock one file, each a byte of its own: a file a network would stay behind when the network goes, or
/// exclude nobody when it is removed. Two networks of one byte wait for each other, no more.
#[derive(Debug)]
pub struct NetworkLock {
    _file: File,
}

impl NetworkLock {
    /// For attaching: with others that attach.
    pub fn shared(network: &NetworkName) -> Result<Self, Error> {
        Self::take(network, libc::F_RDLCK)
    }

    /// For removing what is shared: alone. Waits for those that attach now, which takes them milliseconds.
    pub fn exclusive(network: &NetworkName) -> Result<Self, Error> {
        Self::take(network, libc::F_WRLCK)
    }

    fn take(network: &NetworkName, kind: libc::c_int) -> Result<Self, Error> {
        let file = open().and_then(|file| lock(&file, kind, byte_of(network)).map(|()| file));
        file.map(|file| Self { _file: file }).map_err(|source| Error { network: network.clone(), source })
    }
}

fn open() -> io::Result<File> {
    let create = || File::options().read(true).write(true).create(true).truncate(false).open(FILE);
    create().or_else(|err| match Path::new(FILE).parent() {
        Some(parent) if err.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(parent)?;
            create()
        }
        _ => Err(err),
    })
}

/// An open file description lock (fcntl(2)): it goes with the description, so with the process.
fn lock(file: &File, kind: libc::c_int, byte: i64) -> io::Result<()> {
    let range = libc::flock {
        l_type: i16::try_from(kind).map_err(io::Error::other)?,
        l_whence: i16::try_from(libc::SEEK_SET).map_err(io::Error::other)?,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLKW(&range)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}

/// 62 bits of a hash, which is an offset that every file system takes for a lock.
fn byte_of(network: &NetworkName) -> i64 {
    let hash = Sha256::digest(network.as_str());
    let bytes: [u8; 8] = std::array::from_fn(|i| hash[i]);
    i64::from_be_bytes(bytes) & (i64::MAX >> 1)
}

const FILE: &str = "/run/tenon/lock";
