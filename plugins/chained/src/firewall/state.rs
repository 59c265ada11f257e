//! What firewall writes down of an attachment, so that DEL needs nothing else.

use std::net::IpAddr;

use attach::{
    record::Records,
    ruleset::{guard::Guard, host_forward::Accepts, owner::Owner, plan::Plan},
};
use cni::names::{Attachment, NetworkName};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::config::IngressPolicy;

/// The record's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Guarded {
    /// The container's, with their subnets.
    pub(super) addresses: Vec<IpNetwork>,
    /// The host's interface towards it: the bridge, or its end of the veth.
    pub(super) interface: Option<String>,
    /// Its port of the bridge, where ports are to be kept apart.
    pub(super) port: Option<String>,
    pub(super) policy: IngressPolicy,
    pub(super) from: Vec<String>,
    pub(super) internal: bool,
    pub(super) admin_chain: String,
}

impl Guarded {
    /// What the attachment has in the suite's nftables tables.
    pub(super) fn ruleset(&self, attachment: &Attachment) -> Plan {
        let Some(oif) = self.interface.as_deref().filter(|_| self.policy != IngressPolicy::Open) else {
            return Plan::new();
        };
        let addresses: Vec<IpAddr> = self.addresses.iter().map(IpNetwork::ip).collect();
        let mut from = self.from.clone();
        if self.policy == IngressPolicy::SameBridge && !from.iter().any(|name| name == oif) {
            from.push(oif.to_owned());
        }
        let (port, owner) = (self.port.as_deref(), &Owner::of(attachment));
        Plan::new().guard(&Guard { oif, addresses: &addresses, from: &from, port, owner })
    }

    /// The host's interface, if nothing may be forwarded to it or from it.
    pub(super) fn internal(&self) -> Option<&str> {
        self.interface.as_deref().filter(|_| self.internal)
    }

    /// What the network has in the host's own tables.
    pub(super) fn accepts<'a>(&'a self, network: &'a NetworkName, subnets: &'a [IpNetwork]) -> Accepts<'a> {
        Accepts { network, subnets, admin_chain: &self.admin_chain }
    }

    pub(super) fn subnets(&self) -> Vec<IpNetwork> {
        let subnet = |address: &IpNetwork| {
            IpNetwork::new(address.network(), address.prefix()).expect("its own prefix fits an address")
        };
        let mut subnets: Vec<_> = self.addresses.iter().map(subnet).collect();
        subnets.sort();
        subnets.dedup();
        subnets
    }
}

/// The records of a network's attachments by this plugin.
pub(super) fn records(network: &NetworkName) -> Records {
    Records::of(NAME, network)
}

pub(super) const NAME: &str = "firewall";
