//! What the ptp plugin writes down of an attachment, so that DEL needs nothing else.

use attach::{
    addresses::of_attachment,
    detach::Recorded,
    record::Records,
    ruleset::{masquerade::Masquerade, owner::Owner, plan::Plan},
};
use cni::{
    error::Error,
    names::{Attachment, NetworkName},
    request::Request,
    result::AddResult,
};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::config::NetConf;

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
    /// What an ADD with this configuration and this result would have written down, but for the namespace's path. For a DEL
    /// whose record is lost, and for who writes it again.
    pub fn supposed(request: &Request, attachment: &Attachment, result: &AddResult) -> Result<Self, Error> {
        let NetConf { ip_masq, .. } = request.decode()?;
        let (_, addresses) = of_attachment(result, attachment);
        let host_link = attachment.host_veth();
        Ok(Self { host_link, netns: String::new(), addresses, masquerade: ip_masq })
    }

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
