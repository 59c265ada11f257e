//! What links of every kind can be given at birth. The kind itself comes from the kind's own module.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use super::{LinkIndex, Mtu};
use crate::{mac::MacAddr, netlink::Request, netns::Netns};

/// A link to be made. Only what `rtnl_newlink` takes at creation is here; the alias, for one, it ignores there
/// (net/core/rtnetlink.c, `rtnl_create_link`): give it with [`super::change_named`] in the same batch.
#[derive(Clone, Debug)]
pub struct New {
    name: String,
    message: LinkMessage,
    netns: Option<Netns>,
}

impl New {
    pub(super) fn named(name: &str) -> Self {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        Self { name: name.to_owned(), message, netns: None }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Instead of the driver's default.
    #[must_use]
    pub fn mtu(self, mtu: Mtu) -> Self {
        self.with(LinkAttribute::Mtu(mtu.into()))
    }

    /// Instead of a random address.
    #[must_use]
    pub fn mac(self, mac: MacAddr) -> Self {
        self.with(LinkAttribute::Address(mac.0.to_vec()))
    }

    /// A port of this bridge, bond or VRF from birth.
    #[must_use]
    pub fn master(self, master: LinkIndex) -> Self {
        self.with(LinkAttribute::Controller(master.into()))
    }

    /// Group number.
    #[must_use]
    pub fn group(self, group: u32) -> Self {
        self.with(LinkAttribute::Group(group))
    }

    /// Length of the transmit queue.
    #[must_use]
    pub fn txqlen(self, length: u32) -> Self {
        self.with(LinkAttribute::TxQueueLen(length))
    }

    /// Up at birth. Not for the peer of a veth: `veth_open` wants its other end, which is not there yet.
    #[must_use]
    pub fn up(mut self) -> Self {
        self.message.header.flags |= LinkFlags::Up;
        self.message.header.change_mask |= LinkFlags::Up;
        self
    }

    /// Born in that namespace, under its name, without ever having been elsewhere.
    #[must_use]
    pub fn in_netns(mut self, netns: &Netns) -> Self {
        self.message.attributes.push(LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()));
        self.netns = Some(netns.clone());
        self
    }

    /// On top of this link (macvlan, ipvlan, vlan).
    #[must_use]
    pub(crate) fn parent(self, parent: LinkIndex) -> Self {
        self.with(LinkAttribute::Link(parent.into()))
    }

    fn with(mut self, attribute: LinkAttribute) -> Self {
        self.message.attributes.push(attribute);
        self
    }

    pub(crate) fn into_parts(self) -> (LinkMessage, Option<Netns>) {
        (self.message, self.netns)
    }

    pub(crate) fn add_as(self, kind: InfoKind, data: Option<InfoData>) -> Request {
        let act = format!("add {kind} {}", self.name);
        let mut message = self.message;
        let infos = std::iter::once(LinkInfo::Kind(kind)).chain(data.map(LinkInfo::Data)).collect();
        message.attributes.push(LinkAttribute::LinkInfo(infos));
        Request::new(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL, act)
            .keeping(self.netns)
    }
}
