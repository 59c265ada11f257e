//! What does not get through because of a finding, so that what only follows from it is no finding of its own. Judges nothing.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::facts::{Facts, attachment::Attached};

/// How far from a container, by who has to carry its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distance {
    /// A neighbour on its bridge.
    Segment,
    /// The host, by the address that is the container's gateway.
    Gateway,
    /// The host by another address.
    Host,
    /// Whom the host has to forward to.
    World,
}

/// What of a container's packets is lost.
#[derive(Debug, Clone)]
pub enum Lost {
    /// All that goes so far, or farther.
    From(Distance),
    /// The same, of IPv4 or of IPv6 alone.
    Of { is_ipv4: bool, from: Distance },
    /// What goes to these addresses.
    To(IpNetwork),
}

impl Lost {
    /// Whether a packet from the container to `address` is among them.
    pub fn has(&self, facts: &Facts, attached: &Attached, address: IpAddr) -> bool {
        let is_beyond = |from: Distance| from <= Distance::to(facts, attached, address);
        match *self {
            Self::From(from) => is_beyond(from),
            Self::Of { is_ipv4, from } => address.is_ipv4() == is_ipv4 && is_beyond(from),
            Self::To(network) => network.contains(address),
        }
    }
}

impl Distance {
    fn to(facts: &Facts, attached: &Attached, address: IpAddr) -> Self {
        let is_near = attached.addresses().iter().any(|own| own.contains(address));
        let is_host = facts.host().addresses.iter().any(|it| it.network.ip() == address);
        match (is_near, is_host) {
            (true, false) => Self::Segment,
            (true, true) => Self::Gateway,
            (false, true) => Self::Host,
            (false, false) => Self::World,
        }
    }
}
