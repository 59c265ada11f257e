//! What firewall writes down of an attachment, so that DEL needs nothing else.

use std::net::IpAddr;

use anyhow::Context;
use attach::{
    lock::NetworkLock,
    record::Records,
    ruleset::{
        guard::{self, Guard},
        host_forward::Accepts,
        owner::Owner,
        plan::Plan,
    },
};
use cni::names::{Attachment, NetworkName};
use ipnetwork::IpNetwork;
use kernel::nft::Nft;
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

    /// What its network needs for it.
    pub(super) fn shared(&self, network: &NetworkName) -> Shared {
        Shared {
            network: network.clone(),
            subnets: self.subnets(),
            internal: self.internal().map(str::to_owned),
            admin_chain: self.admin_chain.clone(),
        }
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

/// What attachments of a network have in common: its accepts in the host's own tables, and that it is internal. Made again by
/// each of them, removed with the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    network: NetworkName,
    subnets: Vec<IpNetwork>,
    /// The host's interface of an internal network.
    internal: Option<String>,
    admin_chain: String,
}

impl Shared {
    /// Whose it is.
    pub fn network(&self) -> &NetworkName {
        &self.network
    }

    /// Puts it back while the network has attachments. What is there already is fine.
    pub fn restore(&self, nft: &mut Nft) -> anyhow::Result<()> {
        let _shared = NetworkLock::shared(&self.network)?;
        if records(&self.network).is_empty() { Ok(()) } else { self.ensure(nft) }
    }

    /// Under the network's lock.
    pub(super) fn ensure(&self, nft: &mut Nft) -> anyhow::Result<()> {
        if let Some(interface) = &self.internal {
            guard::ensure_internal(nft, interface)?;
        }
        self.accepts().ensure(nft).context("let the network through FORWARD")
    }

    /// What is not there.
    pub fn missing(&self, nft: &mut Nft) -> kernel::error::Result<Vec<String>> {
        let mut missing = Vec::new();
        if let Some(interface) = &self.internal
            && !guard::is_internal(nft, interface)?
        {
            missing.push(format!("{interface} in set inet tenon internal"));
        }
        missing.extend(self.accepts().missing(nft)?);
        Ok(missing)
    }

    /// With the network's last attachment, under the network's lock.
    pub(super) fn remove(&self, nft: &mut Nft) -> anyhow::Result<()> {
        if let Some(interface) = &self.internal
            && !another_network_has(interface)?
        {
            guard::remove_internal(nft, interface)?;
        }
        Ok(self.accepts().remove(nft)?)
    }

    fn accepts(&self) -> Accepts<'_> {
        Accepts { network: &self.network, subnets: &self.subnets, admin_chain: &self.admin_chain }
    }
}

fn another_network_has(internal: &str) -> anyhow::Result<bool> {
    for records in Records::of_every_network(NAME)? {
        if records.all::<Guarded>()?.iter().any(|record| record.data.internal() == Some(internal)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The records of a network's attachments by this plugin.
pub(super) fn records(network: &NetworkName) -> Records {
    Records::of(NAME, network)
}

pub(super) const NAME: &str = "firewall";
