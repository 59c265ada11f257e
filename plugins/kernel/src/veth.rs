//! Pairs of virtual Ethernet interfaces.

use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth};

use crate::{link::create::New, netlink::Request};

/// Makes a pair. Each end is born in its own namespace under its own name: nothing is moved or renamed afterwards.
///
/// `near` may be up and have a master at birth. `peer` may have neither: it is registered before it is tied to its
/// other end, and the kernel reads a master only of the message's own link (`veth_newlink`, drivers/net/veth.c).
///
/// Fails with `EEXIST` if either name is taken, and leaves nothing.
pub fn add(near: New, peer: New) -> Request {
    let (message, netns) = peer.into_parts();
    near.add_as(InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(message)))).keeping(netns)
}
