//! The leases on disk, one file each, for an agent that starts again and for a DEL while there is none. They are of this
//! boot, as the namespaces are: /run goes with both.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cni::names::Attachment;
use kernel::netns::NetnsId;
use serde::{Deserialize, Serialize};

use crate::{
    client,
    config::{Wishes, client_id},
    lease::Lease,
    message::Identity,
    wire::{Error as WireError, Place},
};
use kernel::mac::MacAddr;

/// All that an agent needs to go on with a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub attachment: Attachment,
    /// `CNI_NETNS` to the letter.
    pub netns: String,
    /// Device and inode of that namespace: the path may name another later.
    pub netns_dev: u64,
    pub netns_ino: u64,
    pub mac: [u8; 6],
    pub wishes: Wishes,
    pub priority: Option<u32>,
    pub lease: Lease,
}

impl Kept {
    pub fn netns_id(&self) -> NetnsId {
        NetnsId { dev: self.netns_dev, ino: self.netns_ino }
    }

    pub fn identity(&self, broadcast: bool) -> Identity {
        Identity {
            mac: MacAddr(self.mac),
            client_id: client_id(&self.attachment),
            wishes: self.wishes.clone(),
            broadcast,
        }
    }

    /// Gives the lease back to its server. That of a container whose interface is gone stays with the server until it ends.
    pub fn release(&self, prefix: &str, xid: u32) -> Result<(), WireError> {
        let place =
            Place { netns: format!("{prefix}{}", self.netns), ifname: self.attachment.ifname.to_string() };
        match place.open(self.netns_id()) {
            Ok(wire) => Ok(wire.send(&client::release(&self.identity(false), &self.lease, xid))?),
            Err(err) if err.is_gone() => {
                log::info!("{}: not released, since its interface is gone: {err}", self.attachment);
                Ok(())
            }
            Err(err) => Err(err),
        }
    }
}

/// The directory of leases.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// `prefix` is where the host's root is mounted; empty on the host.
    pub fn below(prefix: &str) -> Self {
        Self { dir: PathBuf::from(format!("{prefix}{DIRECTORY}")) }
    }

    /// Writes or replaces a lease's file, whole.
    pub fn keep(&self, kept: &Kept) -> io::Result<()> {
        let path = self.path(&kept.attachment);
        let temporary = path.with_extension("new");
        fs::create_dir_all(&self.dir)?;
        fs::write(&temporary, serde_json::to_vec(kept)?)?;
        fs::rename(temporary, path)
    }

    /// Accepts that there is none.
    pub fn forget(&self, attachment: &Attachment) -> io::Result<()> {
        match fs::remove_file(self.path(attachment)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }

    pub fn find(&self, attachment: &Attachment) -> Option<Kept> {
        read(&self.path(attachment)).filter(|kept| kept.attachment == *attachment)
    }

    /// Every lease that can be read.
    pub fn all(&self) -> Vec<Kept> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_none())
            .filter_map(|path| read(&path))
            .collect()
    }

    fn path(&self, attachment: &Attachment) -> PathBuf {
        self.dir.join(attachment.hash(HASH_DIGITS))
    }
}

fn read(path: &Path) -> Option<Kept> {
    let text = fs::read(path).ok()?;
    serde_json::from_slice(&text)
        .inspect_err(|err| log::warn!("lease {}: {err}; going on without it", path.display()))
        .ok()
}

const DIRECTORY: &str = "/run/tenon/dhcp";
const HASH_DIGITS: usize = 32;
