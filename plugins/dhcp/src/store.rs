//! The leases on disk, one file each (two for an attachment with both families), for an agent that starts again and for a DEL while there is none. They are of this
//! boot, as the namespaces are: /run goes with both.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cni::names::Attachment;
use kernel::{mac::MacAddr, netns::NetnsId};
use serde::{Deserialize, Serialize};

use crate::{
    client::Client,
    config::{Family, Wishes, client_id, duid},
    exchange::Pace,
    lease::Lease,
    place::{Error as PlaceError, Place},
    v4, v6,
};

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

    pub fn identity_v4(&self, broadcast: bool) -> v4::message::Identity {
        v4::message::Identity {
            mac: MacAddr(self.mac),
            client_id: client_id(&self.attachment),
            wishes: self.wishes.clone(),
            broadcast,
        }
    }

    pub fn identity_v6(&self) -> v6::message::Identity {
        v6::message::Identity {
            mac: MacAddr(self.mac),
            duid: duid(&self.attachment),
            host_name: self.wishes.host_name(),
        }
    }

    /// Gives the lease back to its server. That of a container whose interface is gone stays with the server until it ends.
    pub fn release(&self, xid: u32) -> Result<(), PlaceError> {
        let place = Place { netns: self.netns.clone(), ifname: self.attachment.ifname.to_string() };
        let Some(outgoing) = Client::resume(self, false, Pace::default(), xid).release() else {
            return Ok(());
        };
        match place.open(self.netns_id(), &outgoing) {
            Ok(wire) => Ok(wire.send(&outgoing)?),
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
        let path = self.path(&kept.attachment, kept.lease.family());
        let temporary = path.with_extension("new");
        fs::create_dir_all(&self.dir)?;
        fs::write(&temporary, serde_json::to_vec(kept)?)?;
        fs::rename(temporary, path)
    }

    /// Accepts that there is none.
    pub fn forget(&self, attachment: &Attachment, family: Family) -> io::Result<()> {
        let path = self.path(attachment, family);
        // What an agent left that was killed as it wrote.
        for path in [&path.with_extension("new"), &path] {
            match fs::remove_file(path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
                _ => {}
            }
        }
        Ok(())
    }

    pub fn find(&self, attachment: &Attachment, family: Family) -> Option<Kept> {
        read(&self.path(attachment, family)).filter(|kept| kept.attachment == *attachment)
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

    fn path(&self, attachment: &Attachment, family: Family) -> PathBuf {
        self.dir.join(format!("{}-{family}", attachment.hash(HASH_DIGITS)))
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
