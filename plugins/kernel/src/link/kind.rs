//! What kinds of link there are, and what the kernel shows of each. Making one is in the module of its kind.

use std::net::IpAddr;

use super::LinkIndex;
use crate::{ipvlan, macvlan, tun, vlan::VlanId};

/// What a link was made as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bridge.
    Bridge {
        /// Ports have VLANs.
        vlan_filtering: bool,
        /// How long a learned address stays, in seconds.
        ageing: u32,
    },
    /// One end of a pair.
    Veth,
    /// A MAC address of its own on another link.
    Macvlan(macvlan::Mode),
    /// The same, with a character device.
    Macvtap(macvlan::Mode),
    /// The MAC address of another link, and IP addresses of its own.
    Ipvlan(ipvlan::Mode),
    /// A VLAN on another link.
    Vlan(VlanId),
    /// A VXLAN end point.
    Vxlan {
        /// Network identifier.
        vni: u32,
        /// UDP port.
        port: u16,
        /// The source address of the outer packet.
        local: Option<IpAddr>,
        /// The link that the outer packets leave by.
        dev: Option<LinkIndex>,
        /// It learns addresses from packets.
        learning: bool,
    },
    /// Ethernet whose other end is a process.
    Tap(tun::Tap),
    /// A domain of routing: its ports have a table of their own.
    Vrf {
        /// The number of that table.
        table: u32,
    },
    /// Any other, by the kernel's name (`tun`, `dummy`).
    Other(String),
}

impl Kind {
    /// The kernel's name of it.
    pub fn name(&self) -> &str {
        match self {
            Self::Bridge { .. } => "bridge",
            Self::Veth => "veth",
            Self::Macvlan(_) => "macvlan",
            Self::Macvtap(_) => "macvtap",
            Self::Ipvlan(_) => "ipvlan",
            Self::Vlan(_) => "vlan",
            Self::Vxlan { .. } => "vxlan",
            Self::Tap(_) => "tun",
            Self::Vrf { .. } => "vrf",
            Self::Other(name) => name,
        }
    }
}

/// A bridge's settings of one port (`IFLA_BRPORT_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgePort {
    /// Packets may leave by the port they came in by.
    pub hairpin: bool,
    /// No packets to other isolated ports.
    pub isolated: bool,
    /// Addresses are learned from packets.
    pub learning: bool,
    /// ARP and neighbour solicitations are answered from the neighbour table.
    pub neigh_suppress: bool,
}
