//! Where a network's leases are, and where we keep what we know about them.

use std::path::{Path, PathBuf};

use cni::names::{NetworkName, hex};
use sha2::{Digest, Sha256};

/// The files of one network in one data directory.
///
/// Only `leases` holds anything that can't be made again; its layout is the reference's, shared with it and with
/// tools that take every file in there for a lease, so everything else is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `<dataDir>/<network>`: a file a lease, `last_reserved_ip.<set>`, `lock`.
    pub(crate) leases: PathBuf,
    /// A lease before it has an address, on the file system of `leases` and under no name of a network.
    pub(crate) draft: PathBuf,
    /// `/run/tenon/ipam/<network>-<hash>`: see [`index`](crate::index).
    pub(crate) index: PathBuf,
    /// `/var/lib/tenon/ipam/<network>-<hash>`: see [`origin`](crate::origin).
    pub(crate) marks: PathBuf,
}

impl Place {
    /// `data_dir` is host-local's `dataDir`, [`DATA_DIR`] when the configuration names none.
    pub fn new(data_dir: &Path, network: &NetworkName) -> Self {
        Self::under(Path::new(RUN), Path::new(STATE), data_dir, network)
    }

    /// The directory of the lease files.
    pub fn leases(&self) -> &Path {
        &self.leases
    }

    pub(crate) fn under(run: &Path, state: &Path, data_dir: &Path, network: &NetworkName) -> Self {
        // Components drop what does not matter: `/a//b/` is `/a/b`.
        let data_dir: PathBuf = data_dir.components().collect();
        let leases = data_dir.join(network.as_str());
        let hash = short_hash(leases.as_os_str().as_encoded_bytes());
        // Names of networks may be as long as names of files: cut, the hash tells them apart.
        let start: String = network.as_str().chars().take(100).collect();
        let name = format!("{start}-{hash}");
        Self {
            leases,
            draft: data_dir.join(format!(".{name}.new")),
            index: run.join(&name),
            marks: state.join(&name),
        }
    }
}

/// The first 16 bytes of SHA-256, in hex.
pub(crate) fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes), 32)
}

/// As [`hash`], of 6 bytes: to tell apart the few data directories of a host.
pub(crate) fn short_hash(bytes: &[u8]) -> String {
    let mut hash = hash(bytes);
    hash.truncate(12);
    hash
}

/// Where the reference keeps its leases.
pub const DATA_DIR: &str = "/var/lib/cni/networks";
const RUN: &str = "/run/tenon/ipam";
const STATE: &str = "/var/lib/tenon/ipam";
