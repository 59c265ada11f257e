//! What the macvlan plugin writes down of an attachment, so that DEL needs nothing else.

use std::net::IpAddr;

use attach::{addresses::of_attachment, record::Records};
use cni::{
    error::Error,
    names::{Attachment, NetworkName},
    request::Request,
};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{config::Config, shim};

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

impl Attached {
    /// What an ADD with this configuration and this `prevResult` would have written down, but for the namespace's path. For who
    /// writes it again.
    pub fn supposed(request: &Request, attachment: &Attachment, master: &str) -> Result<Self, Error> {
        let (_, addresses) = of_attachment(&request.prev_result()?.unwrap_or_default(), attachment);
        Ok(Self {
            master: master.to_owned(),
            netns: String::new(),
            addresses: addresses.iter().map(IpNetwork::ip).collect(),
            shim: Config::new(request)?.host_access.then(|| shim::name(&attachment.network)),
        })
    }
}

/// The records of a network's attachments by this plugin.
pub fn records(network: &NetworkName) -> Records {
    Records::of("macvlan", network)
}
