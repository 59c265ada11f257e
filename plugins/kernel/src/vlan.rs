//! Interfaces whose packets carry the tag of a VLAN on another link (IEEE 802.1Q).

use std::fmt;

use netlink_packet_route::link::{InfoData, InfoKind, InfoVlan};

use crate::{
    link::{LinkIndex, create::New},
    netlink::Request,
};

/// The number of a VLAN. 0 is the tag that has a priority and no VLAN; 4095 is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanId(u16);

/// A number that no VLAN has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not within 0..=4094")]
pub struct VlanIdError;

impl TryFrom<u16> for VlanId {
    type Error = VlanIdError;

    fn try_from(id: u16) -> Result<Self, VlanIdError> {
        if id < 4095 { Ok(Self(id)) } else { Err(VlanIdError) }
    }
}

impl From<VlanId> for u16 {
    fn from(id: VlanId) -> Self {
        id.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Makes an interface for the VLAN on `parent`, which is a link of the namespace of the socket, wherever the new one is born.
/// `EEXIST` if the name is taken, or if the parent has an interface for this VLAN already, in whatever namespace.
pub fn add(link: New, parent: LinkIndex, id: VlanId) -> Request {
    link.parent(parent).add_as(InfoKind::Vlan, Some(InfoData::Vlan(vec![InfoVlan::Id(id.into())])))
}
