//! Interfaces that share the MAC address of another link and are told apart by their IP addresses.

use netlink_packet_route::link::{InfoData, InfoIpVlan, InfoKind, IpVlanMode};

use crate::{
    link::{LinkIndex, create::New},
    netlink::Request,
};

/// What the interfaces leave to the stack of the namespace that their parent is in
/// (Documentation/networking/ipvlan.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: they do ARP and broadcast themselves.
    L2,
    /// Routing: there is neither ARP nor broadcast.
    L3,
    /// Routing, and its netfilter and conntrack.
    L3s,
}

impl Mode {
    /// A mode that this crate does not know is `None`.
    pub(crate) fn from_kernel(mode: IpVlanMode) -> Option<Self> {
        match mode {
            IpVlanMode::L2 => Some(Self::L2),
            IpVlanMode::L3 => Some(Self::L3),
            IpVlanMode::L3S => Some(Self::L3s),
            _ => None,
        }
    }
}

impl From<Mode> for IpVlanMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::L2 => Self::L2,
            Mode::L3 => Self::L3,
            Mode::L3s => Self::L3S,
        }
    }
}

/// Makes an ipvlan on `parent`, which is a link of the namespace of the socket, wherever the new one is born. The mode is the
/// parent's: every other ipvlan on it changes to that too (`ipvlan_link_new`, drivers/net/ipvlan/ipvlan_main.c).
pub fn add(link: New, parent: LinkIndex, mode: Mode) -> Request {
    let infos = vec![InfoIpVlan::Mode(mode.into())];
    link.parent(parent).add_as(InfoKind::IpVlan, Some(InfoData::IpVlan(infos)))
}
