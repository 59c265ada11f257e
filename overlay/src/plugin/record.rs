//! What the overlay plugin writes down of an attachment, so that DEL needs neither the agent nor its state.

use std::net::IpAddr;

use ::attach::{
    detach::Recorded,
    record::Records,
    ruleset::{masquerade::Masquerade, owner::Owner, plan::Plan},
};
use cni::names::{Attachment, NetworkName};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// The record's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub bridge: String,
    /// The host's end of the veth pair, the bridge's port.
    pub host_link: String,
    /// `CNI_NETNS` to the letter.
    pub netns: String,
    /// The container's addresses with their subnets.
    pub addresses: Vec<IpNetwork>,
    /// The whole network at the time, if what leaves it is masqueraded.
    pub masquerade_beyond: Option<Vec<IpNetwork>>,
}

impl Attached {
    /// What the attachment has in the suite's nftables tables.
    pub fn ruleset(&self, attachment: &Attachment) -> Plan {
        let Some(pools) = &self.masquerade_beyond else { return Plan::new() };
        let addresses: Vec<IpAddr> = self.addresses.iter().map(IpNetwork::ip).collect();
        Plan::new().masquerade(&Masquerade {
            iif: &self.bridge,
            addresses: &addresses,
            exempt: pools,
            owner: &Owner::of(attachment),
        })
    }

    pub(crate) fn recorded(&self, attachment: &Attachment) -> Recorded {
        Recorded { host_link: self.host_link.clone(), ruleset: self.ruleset(attachment) }
    }
}

/// The records of a network's attachments by this plugin.
pub(crate) fn records(network: &NetworkName) -> Records {
    Records::of("overlay", network)
}
