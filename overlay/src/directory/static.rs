//! The static directory: a peers file, read anew when it changes. Its word is the person's who wrote it.

use std::{
    fs,
    future::pending,
    net::IpAddr,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnetwork::IpNetwork;
use kernel::{address, netlink::Netlink};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::unix::AsyncFd;

use super::{
    Directory, DirectoryError, Listing, Watched,
    peers_file::{self, PeersFile},
};
use crate::{names::NodeName, peer::Record, readiness, state::Standing};

/// A peers file and a watch on it.
#[derive(Debug)]
pub struct Static {
    file: PathBuf,
    node: NodeName,
    peers: Option<PeersFile>,
    inotify: Inotify,
    readiness: AsyncFd<OwnedFd>,
}

impl Static {
    /// Starts to watch `file`, which need not be there yet; its directory must be. Needs a tokio runtime.
    pub fn open(file: &Path, node: NodeName) -> Result<Self, DirectoryError> {
        let act = || format!("watch {}", file.display());
        let watched = || -> std::io::Result<(Inotify, AsyncFd<OwnedFd>)> {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            // The directory, since a file that is replaced by another is another file.
            let parent =
                file.parent().filter(|parent| *parent != Path::new("")).unwrap_or_else(|| Path::new("."));
            inotify.add_watch(parent, changes())?;
            let readiness = readiness::of(inotify.as_fd())?;
            Ok((inotify, readiness))
        };
        let (inotify, readiness) = watched().map_err(|err| DirectoryError::new(act(), err))?;
        Ok(Self { file: file.to_owned(), node, peers: None, inotify, readiness })
    }

    /// What the file says of this host, if it has been read.
    pub fn own(&self) -> Option<&Record> {
        self.peers.as_ref().and_then(|peers| peers.own(&self.node, &local_addresses()))
    }
}

/// Reads a peers file.
pub fn read(file: &Path) -> Result<PeersFile, DirectoryError> {
    let act = || format!("read {}", file.display());
    let text = fs::read(file).map_err(|err| DirectoryError::new(act(), err))?;
    peers_file::parse(&text).map_err(|err| DirectoryError::new(file.display().to_string(), err))
}

/// The addresses of this host, as far as they can be read.
pub fn local_addresses() -> Vec<IpAddr> {
    let listed = Netlink::open().and_then(|mut nl| address::list_all(&mut nl));
    listed.unwrap_or_default().into_iter().map(|address| address.network.ip()).collect()
}

/// Our standing by the file's word.
pub fn standing(own: Option<&Record>, file: &Path, node: &NodeName) -> Standing {
    match own {
        Some(record) if !record.subnets.is_empty() => Standing::Owner { subnets: record.subnets.clone() },
        Some(_) => Standing::Waiting { why: format!("{} gives {node} no subnet", file.display()) },
        None => Standing::Waiting {
            why: format!("{} names neither {node} nor an address of this host", file.display()),
        },
    }
}

fn changes() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
}

impl Directory for Static {
    fn heartbeat_every(&self) -> Option<Duration> {
        None
    }

    async fn list(&mut self) -> Result<Listing, DirectoryError> {
        let peers = read(&self.file)?;
        let peers = self.peers.insert(peers);
        Ok(Listing {
            candidates: peers.candidates.clone(),
            definition: Some(peers.definition.clone()),
            own: peers.own(&self.node, &local_addresses()).cloned(),
        })
    }

    async fn watch(&mut self) -> Result<Watched, DirectoryError> {
        let act = || format!("watch {}", self.file.display());
        loop {
            let mut ready = self.readiness.readable().await.map_err(|err| DirectoryError::new(act(), err))?;
            let events = match self.inotify.read_events() {
                Err(nix::errno::Errno::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                events => events.map_err(|err| DirectoryError::new(act(), err))?,
            };
            // A mounted ConfigMap changes a link beside the file (`..data`), not the file.
            let name = self.file.file_name();
            let concerns = |other: &std::ffi::OsString| Some(other.as_os_str()) == name || other == "..data";
            if events.iter().any(|event| event.name.as_ref().is_none_or(concerns)) {
                return Ok(Watched::Everything);
            }
        }
    }

    async fn claim(
        &mut self,
        _record: Option<&Record>,
        _owned: &[IpNetwork],
    ) -> Result<Standing, DirectoryError> {
        Ok(standing(self.own(), &self.file, &self.node))
    }

    async fn heartbeat(&mut self) -> Result<(), DirectoryError> {
        pending().await
    }
}
