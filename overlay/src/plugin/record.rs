//! What the overlay plugin writes down of an attachment, so that DEL needs neither the agent nor its state.

use std::net::IpAddr;

use ::attach::{
    addresses::of_attachment,
    detach::Recorded,
    record::Records,
    ruleset::{masquerade::Masquerade, owner::Owner, plan::Plan},
};
use cni::{
    error::Code,
    names::{Attachment, NetworkName},
    request::Request,
};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::config::Config;

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
    /// What an ADD with this configuration and this `prevResult` would write down now, but for the namespace's path. For who writes it
    /// again. Fails where the agent does not serve the network.
    pub fn supposed(request: &Request, attachment: &Attachment) -> anyhow::Result<Self> {
        let config = Config::new(request)?;
        let state = config.owner_state(Code::TryAgainLater)?;
        let (_, addresses) = of_attachment(&request.prev_result()?.unwrap_or_default(), attachment);
        Ok(Self {
            bridge: config.bridge(&state)?.to_string(),
            host_link: attachment.host_veth(),
            netns: String::new(),
            addresses,
            masquerade_beyond: config.masquerade.then_some(state.pools),
        })
    }

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
