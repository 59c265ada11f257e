//! What the host plugin writes down of an attachment, so that DEL needs nothing else.

use attach::record::Records;
use cni::names::NetworkName;
use serde::{Deserialize, Serialize};

use crate::device::Before;

/// The record's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// `CNI_NETNS` to the letter.
    pub netns: String,
    /// The device as it was on the host.
    pub device: Before,
}

/// The records of a network's attachments by this plugin, under either of its names.
pub fn records(network: &NetworkName) -> Records {
    Records::of("host", network)
}
