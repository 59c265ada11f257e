//! What the machine tells those who ask. Changes nothing.

use std::{collections::BTreeMap, time::Instant};

use serde::{Deserialize, Serialize};

use super::{Counters, Device, Directory, Machine, offload::Checksums};
use crate::{
    desired::Objects,
    diff::{self, Actual, Change},
    names::NodeName,
    peer::Peer,
    plan::Brake,
    state::Standing,
};

/// A network at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub network: String,
    pub node: NodeName,
    #[serde(flatten)]
    pub standing: Standing,
    pub device: String,
    /// The device is as it should be.
    pub device_ready: bool,
    pub device_error: Option<String>,
    pub mtu: Option<u32>,
    pub checksums: Checksums,
    pub underlay: Option<String>,
    pub directory: String,
    /// Why the directory is lost, and since how many seconds.
    pub directory_error: Option<String>,
    pub directory_lost_seconds: Option<u64>,
    pub peers: usize,
    /// By key in the directory: why it is not used.
    pub refused: BTreeMap<String, String>,
    /// Peers that are gone from the directory and are kept until it says so again.
    pub held: usize,
    pub objects: usize,
    /// The kernel is known to hold what it should.
    pub in_sync: bool,
    pub counters: Counters,
}

impl Machine {
    pub fn status(&self, now: Instant) -> Status {
        let (directory, directory_error, since) = match &self.directory {
            Directory::Loading => ("loading", None, None),
            Directory::Following => ("following", None, None),
            Directory::Lost { since, why } => ("lost", Some(why.clone()), Some(*since)),
        };
        let made = match &self.device {
            Device::Made { spec } => Some(spec),
            Device::Unknown => None,
        };
        Status {
            network: self.definition.name.to_string(),
            node: self.node.clone(),
            standing: self.standing.clone(),
            device: self.definition.device(),
            device_ready: made.is_some(),
            device_error: self.told.device_error.clone(),
            mtu: made.map(|spec| spec.mtu.into()),
            checksums: self.checksums,
            underlay: self
                .underlay
                .as_ref()
                .map(|underlay| format!("{} on {}", underlay.address, underlay.name)),
            directory: directory.to_owned(),
            directory_error,
            directory_lost_seconds: since.map(|since| now.saturating_duration_since(since).as_secs()),
            peers: self.peers.len(),
            refused: self.refused.iter().map(|(key, refusal)| (key.clone(), refusal.to_string())).collect(),
            held: match self.brake {
                Brake::Open => 0,
                Brake::Holding { doubted, .. } => doubted,
            },
            objects: self.desired.len(),
            in_sync: made.is_some()
                && !self.asked
                && self.timers.reconcile.is_none()
                && self.actual.is_some(),
            counters: self.counters,
        }
    }

    pub fn peers(&self) -> &BTreeMap<NodeName, Peer> {
        &self.peers
    }

    pub fn desired(&self) -> &Objects {
        &self.desired
    }

    /// What a reconciliation with these tables would change.
    pub fn difference(&self, actual: &Actual) -> Vec<Change> {
        diff::diff(&self.desired, actual)
    }

    /// The name of the network.
    pub fn network(&self) -> &cni::names::NetworkName {
        &self.definition.name
    }

    pub fn definition(&self) -> &crate::definition::Definition {
        &self.definition
    }
}
