//! What portmap writes down of an attachment, so that DEL needs nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use attach::{
    record::Records,
    ruleset::{
        condition::Condition,
        owner::Owner,
        plan::Plan,
        publish::{Port, Publish, Return},
    },
};
use cni::names::{Attachment, NetworkName};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::config::{Back, Config, Host, Mapping};

/// The record's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Published {
    /// `CNI_NETNS` to the letter: whether the container is still there.
    pub(super) netns: String,
    pub(super) sides: Vec<Side>,
}

/// The ports that lead to one address of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Side {
    /// The container's, with its subnet.
    pub(super) address: IpNetwork,
    /// The host's interface towards it, where there is a way.
    pub(super) oif: Option<String>,
    pub(super) back: Back,
    pub(super) conditions: Vec<Condition>,
    pub(super) ports: Vec<Port>,
}

impl Side {
    /// `None` when no mapping is for this IP version.
    pub(super) fn new(config: &Config, address: IpNetwork, oif: Option<String>) -> Option<Self> {
        let port = |mapping: &Mapping| {
            let host = match mapping.host {
                Host::All if address.is_ipv4() => Ipv4Addr::UNSPECIFIED.into(),
                Host::All => Ipv6Addr::UNSPECIFIED.into(),
                Host::One(host) => host,
            };
            let (container, container_port) = (address.ip(), mapping.container_port);
            let Mapping { index: _, protocol, host: _, host_port, .. } = *mapping;
            let port = Port { protocol, host, host_port, container, container_port };
            (host.is_ipv4() == address.is_ipv4()).then_some(port)
        };
        let mut ports: Vec<_> = config.mappings.iter().filter_map(port).collect();
        ports.sort();
        ports.dedup();
        let conditions = if address.is_ipv4() { &config.conditions_v4 } else { &config.conditions_v6 };
        let side = Self { address, oif, back: config.back, conditions: conditions.clone(), ports };
        (!side.ports.is_empty()).then_some(side)
    }

    /// Whether the host's interface must let packets of 127.0.0.1 out.
    pub(super) fn localhost(&self) -> Option<&str> {
        self.oif.as_deref().filter(|_| self.address.is_ipv4() && self.back != Back::Nobody)
    }

    fn back(&self) -> Return<'_> {
        match (self.back, &self.oif) {
            (Back::Nobody, _) | (_, None) => Return::Direct,
            (Back::Local, Some(oif)) => Return::Local { oif, subnet: self.address },
            (Back::Everybody, Some(oif)) => Return::Always { oif },
        }
    }
}

impl Published {
    /// What the attachment has in the suite's nftables tables.
    pub(super) fn ruleset(&self, attachment: &Attachment) -> Plan {
        let owner = Owner::of(attachment);
        self.sides.iter().fold(Plan::new(), |plan, side| {
            plan.publish(&Publish {
                ports: &side.ports,
                back: side.back(),
                conditions: &side.conditions,
                owner: &owner,
            })
        })
    }

    pub(super) fn ports(&self) -> impl Iterator<Item = &Port> {
        self.sides.iter().flat_map(|side| &side.ports)
    }
}

/// The first address of each IP version, as in the reference.
pub(super) fn first_of_each(addresses: &[IpNetwork]) -> Vec<IpNetwork> {
    let first = |v4| addresses.iter().find(|address| address.is_ipv4() == v4).copied();
    [true, false].into_iter().filter_map(first).collect()
}

/// The records of a network's attachments by this plugin.
pub(super) fn records(network: &NetworkName) -> Records {
    Records::of("portmap", network)
}

/// An address and a port as text.
pub(super) fn describe(host: IpAddr, port: u16) -> String {
    if host.is_unspecified() { format!("{port} of all addresses") } else { format!("{port} of {host}") }
}
