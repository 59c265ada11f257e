//! What the macvlan plugin writes down of an attachment, so that DEL needs nothing else.

use std::net::IpAddr;

use attach::record::Records;
use cni::names::NetworkName;
use serde::{Deserialize, Serialize};

/// The record's data. The interface goes with its namespace, so that only names of what is outside of it matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The link of the host, or of the container, that the interface is on.
    pub master: String,
    /// `CNI_NETNS` to the letter.
    pub netns: String,
    pub addresses: Vec<IpAddr>,
    /// The host's own interface on the network, through which it reaches the addresses.
    pub shim: Option<String>,
}

/// The records of a network's attachments by this plugin.
pub fn records(network: &NetworkName) -> Records {
    Records::of("macvlan", network)
}
