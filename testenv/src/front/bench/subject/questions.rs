//! What a mode asks the kernel in an ADD, as the floor asks it: whether the name is free, where packets go by default, what the
//! link of the host is like. The answers are not needed, and cost the kernel the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::RouteNetlinkMessage::{GetAddress, GetLink, GetRoute};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};

use crate::front::bench::script::{self, Place};

pub(super) fn link_named(place: Place, name: &str) -> Vec<u8> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    script::question(place, GetLink(without_statistics(message)))
}

pub(super) fn link(place: Place, index: u32) -> Vec<u8> {
    script::question(place, GetLink(by_index(index)))
}

/// To follow what is to be seen in the same call.
pub(super) fn by_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    without_statistics(message)
}

fn without_statistics(mut message: LinkMessage) -> LinkMessage {
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

/// Where the packets of either family leave the host.
pub(super) fn ways_out() -> Vec<u8> {
    let (v4, v6) =
        (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into());
    [way_to(v4, 32), way_to(v6, 128)].concat()
}

fn way_to(address: IpAddr, prefix: u8) -> Vec<u8> {
    let mut message = RouteMessage::default();
    message.attributes.push(RouteAttribute::Destination(address.into()));
    message.header.destination_prefix_length = prefix;
    message.header.address_family = if address.is_ipv4() {
        netlink_packet_route::AddressFamily::Inet
    } else {
        netlink_packet_route::AddressFamily::Inet6
    };
    script::question(Place::Host, GetRoute(message))
}

pub(super) fn addresses_of(index: u32) -> Vec<u8> {
    let mut message = AddressMessage::default();
    message.header.index = index;
    script::dump(Place::Host, GetAddress(message))
}
