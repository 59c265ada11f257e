//! A peers file applied once, with no agent at all: for a lab of a few hosts, and for whoever distrusts daemons.
//! `netctl overlay apply FILE` is this.

use std::{path::Path, time::Instant};

use cni::names::NetworkName;
use kernel::{
    link::{self, Kind},
    netlink::Netlink,
};

use crate::{
    directory::{DirectoryError, r#static},
    host::{
        guard::{Guard, Policy},
        underlay::Wanted,
    },
    keeper::{Dirs, Errand, Keeper},
    machine::{Event, Update, report::Status},
    names::NodeName,
    state::{self, LocalState, Saved},
};

/// Whether more than half of the known peers may go at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MassRemoval {
    /// They stay, and the report says so.
    Hold,
    /// The person is sure.
    Allow,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    pub status: Status,
    /// What the machine had to say, worst news among it.
    pub log: Vec<(log::Level, String)>,
}

/// Why it came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("{file} names neither {node} nor an address of this host")]
    NotNamed { file: String, node: NodeName },
    #[error(transparent)]
    Kernel(#[from] kernel::error::Error),
}

/// Brings the calling thread's namespace to what `file` says of the host `node`. Settles at once: there is nothing to wait
/// for, so the machine's clock is turned by hand.
pub fn apply(file: &Path, node: &NodeName, dirs: Dirs, mass: MassRemoval) -> Result<Report, ApplyError> {
    let peers = r#static::read(file)?;
    let own = peers.own(node, &r#static::local_addresses());
    let Some(own) = own else {
        return Err(ApplyError::NotNamed { file: file.display().to_string(), node: node.clone() });
    };
    let wanted = Wanted { address: own.underlay.of(peers.definition.underlay), ..Wanted::default() };
    let standing = r#static::standing(Some(own), file, node);
    let mut now = Instant::now();
    let definition = peers.definition.clone();
    let mut keeper = Keeper::open(definition, own.node.clone(), wanted, dirs.clone(), now)?;
    keeper.start(now);
    keeper.handle(Event::Standing(standing), now);
    keeper.handle(Event::Directory(Update::Snapshot(peers.candidates.clone())), now);
    now = settle(&mut keeper, now);
    if mass == MassRemoval::Allow {
        keeper.handle(Event::Confirm, now);
        keeper.handle(Event::Directory(Update::Snapshot(peers.candidates.clone())), now);
        now = settle(&mut keeper, now);
    }
    finish(&mut keeper, &dirs, now)
}

/// Lets time pass until everything near is done; what is further away is for an agent.
fn settle(keeper: &mut Keeper, mut now: Instant) -> Instant {
    let end = now + PATIENCE;
    while let Some(deadline) = keeper.machine().deadline().filter(|deadline| *deadline <= end) {
        now = now.max(deadline);
        keeper.handle(Event::Wake, now);
    }
    now
}

fn finish(keeper: &mut Keeper, dirs: &Dirs, now: Instant) -> Result<Report, ApplyError> {
    let mut log = Vec::new();
    let definition = keeper.machine().definition().clone();
    let port = definition.port.into();
    for errand in keeper.errands() {
        match errand {
            Errand::Guard(peers) => {
                let mut policy = others(&definition.name, dirs)?;
                policy.ports.insert(port);
                policy.peers.extend(peers.into_iter().map(|peer| (peer, port)));
                policy.pools.extend(definition.pools.iter().map(|pool| pool.network));
                Guard::open()?.enforce(&policy)?;
            }
            Errand::Log(level, text) => log.push((level, text)),
            // A probe takes peers that are there already, and time.
            Errand::List | Errand::Publish(_) | Errand::Probe(_) => {}
        }
    }
    Ok(Report { status: keeper.machine().status(now), log })
}

/// What the guard must go on doing for networks that were applied before: it is one table for all, written whole. They are
/// known by their state files and devices; a file that can't be read guards nothing.
fn others(network: &NetworkName, dirs: &Dirs) -> Result<Policy, ApplyError> {
    let mut policy = Policy::default();
    let mut nl = Netlink::open()?;
    for entry in std::fs::read_dir(&dirs.run).into_iter().flatten().flatten() {
        let Ok(Some(local)) = state::read::<LocalState>(&entry.path()) else { continue };
        let device = link::find(&mut nl, &local.device)?;
        let Some(Kind::Vxlan { port, .. }) = device.and_then(|device| device.kind) else { continue };
        if local.network == *network {
            continue;
        }
        let saved = state::read::<Saved>(&state::file(&dirs.lib, &local.network)).ok().flatten();
        let records = saved.into_iter().flat_map(|saved| saved.peers);
        let addresses = records.flat_map(|record| [record.underlay.v4, record.underlay.v6]).flatten();
        policy.peers.extend(addresses.map(|address| (address, port)));
        policy.ports.insert(port);
        policy.pools.extend(local.pools);
    }
    Ok(policy)
}

/// Of the machine's clock, not the person's.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
