//! What the ptp plugin writes down of an attachment, so that DEL needs nothing else.

use attach::{
    detach::Recorded,
    record::Records,
    ruleset::{masquerade::Masquerade, owner::Owner, plan::Plan},
};
use cni::names::{Attachment, NetworkName};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// The record's data. The host's routes and addresses go with its end of the veth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub host_link: String,
    /// `CNI_NETNS` to the letter.
    pub netns: String,
    /// The container's addresses with their subnets.
    pub addresses: Vec<IpNetwork>,
    pub masquerade: bool,
}

impl Attached {
    /// What the attachment has in the suite's nftables tables.
    pub fn ruleset(&self, attachment: &Attachment) -> Plan {
        if !self.masquerade {
            return Plan::new();
        }
        let addresses: Vec<_> = self.addresses.iter().map(IpNetwork::ip).collect();
        Plan::new().masquerade(&Masquerade {
            iif: &self.host_link,
            addresses: &addresses,
            exempt: &self.addresses,
            owner: &Owner::of(attachment),
        })
    }

    pub(crate) fn recorded(&self, attachment: &Attachment) -> Recorded {
        Recorded { host_link: self.host_link.clone(), ruleset: self.ruleset(attachment) }
    }
}

/// The records of a network's attachments by this plugin.
pub fn records(network: &NetworkName) -> Records {
    Records::of("ptp", network)
}
