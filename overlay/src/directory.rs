//! Directories: who says which hosts are in a network. One trait; a file and etcd serve it. Knows no kernel.

pub mod etcd;
pub mod peers_file;
pub mod r#static;

use std::{future::Future, time::Duration};

use ipnetwork::IpNetwork;

use crate::{
    definition::Definition,
    peer::{Candidate, Candidates, Record},
    state::Standing,
};

/// All that a directory holds of a network, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    pub candidates: Candidates,
    /// The definition, where the directory is what defines the network.
    pub definition: Option<Definition>,
    /// What it says of this host, where a person wrote that down.
    pub own: Option<Record>,
}

/// What a watch brought.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    Changes(Vec<(String, Option<Candidate>)>),
    /// Only a new [`Directory::list`] can tell what changed.
    Everything,
}

/// A directory that can't be read or written now.
#[derive(Debug, thiserror::Error)]
#[error("{act}: {why}")]
pub struct DirectoryError {
    pub act: String,
    pub why: String,
}

impl DirectoryError {
    pub fn new(act: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { act: act.into(), why: why.to_string() }
    }
}

/// Where a network's hosts are written down.
///
/// The calls come in this order: `list`, `claim`, then `watch` again and again, with `claim` after whatever may touch our own
/// entries and `heartbeat` every [`Directory::HEARTBEAT`]. After an error everything starts anew with `list`.
pub trait Directory {
    /// How often to say that we are alive, if at all.
    fn heartbeat_every(&self) -> Option<Duration>;

    /// Reads everything, in as few requests as there can be.
    fn list(&mut self) -> impl Future<Output = Result<Listing, DirectoryError>>;

    /// Waits for changes after the last [`Self::list`] or [`Self::watch`]. May be dropped while it waits, and called again.
    fn watch(&mut self) -> impl Future<Output = Result<Watched, DirectoryError>>;

    /// Sees to it that the directory holds `record` (if there is one yet) and our subnets, which are `owned` if we had some
    /// in an earlier life. Never takes what is another's.
    fn claim(
        &mut self,
        record: Option<&Record>,
        owned: &[IpNetwork],
    ) -> impl Future<Output = Result<Standing, DirectoryError>>;

    /// Says that we are alive. Nothing is lost by silence but that word.
    fn heartbeat(&mut self) -> impl Future<Output = Result<(), DirectoryError>>;
}
