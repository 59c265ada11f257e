//! What a link loses when it goes to another namespace, kept word for word: addresses and routes as the kernel described
//! them, to be given back later. Knows no meaning of what it keeps, so that an attribute this crate has no word for comes
//! back too.

use netlink_packet_core::{
    NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NetlinkSerializable, ParseableParametrized,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage},
    route::{RouteAttribute, RouteFlags, RouteMessage, RouteProtocol},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    link::{Dev, LinkIndex},
    netlink::{Netlink, Request},
};

/// One address or route of one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    kind: u16,
    /// The index that the link had.
    link: u32,
    message: Vec<u8>,
}

/// The addresses of a link, in the kernel's order. Temporary ones (RFC 8981) are left out: the kernel makes new ones.
pub fn addresses(nl: &mut Netlink, dev: &Dev) -> Result<Vec<Saved>> {
    let mut message = AddressMessage::default();
    message.header.index = dev.index.into();
    let all =
        nl.dump(&RouteNetlinkMessage::GetAddress(message), &format!("list addresses of {}", dev.name))?;
    let own = all.into_iter().filter(|message| match message {
        RouteNetlinkMessage::NewAddress(address) => {
            let temporary = address
                .attributes
                .iter()
                .any(|a| matches!(a, AddressAttribute::Flags(f) if f.contains(AddressFlags::Secondary)))
                && address.header.family == AddressFamily::Inet6;
            address.header.index == u32::from(dev.index) && !temporary
        }
        _ => false,
    });
    Ok(own.map(|message| save(&message, dev)).collect())
}

/// The routes through a link, in every table, but for those that the kernel makes by itself with an address.
pub fn routes(nl: &mut Netlink, dev: &Dev) -> Result<Vec<Saved>> {
    let mut saved = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.attributes.push(RouteAttribute::Oif(dev.index.into()));
        let all =
            nl.dump(&RouteNetlinkMessage::GetRoute(message), &format!("list routes of {}", dev.name))?;
        for message in all {
            let RouteNetlinkMessage::NewRoute(mut route) = message else { continue };
            if !is_through(&route, dev.index) || route.header.protocol == RouteProtocol::Kernel {
                continue;
            }
            // What the kernel tells of the way's state now, and does not take (`fib_create_info`).
            route.header.flags &= RouteFlags::Onlink | RouteFlags::Pervasive;
            route.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::CacheInfo(_)));
            saved.push(save(&RouteNetlinkMessage::NewRoute(route), dev));
        }
    }
    // A gateway must be on a link: routes without one come first.
    saved.sort_by_key(|saved| decode(saved).is_ok_and(|message| has_gateway(&message)));
    Ok(saved)
}

fn is_through(route: &RouteMessage, index: LinkIndex) -> bool {
    route.attributes.iter().any(|attribute| match attribute {
        RouteAttribute::Oif(oif) => *oif == u32::from(index),
        RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == u32::from(index)),
        _ => false,
    })
}

fn has_gateway(message: &RouteNetlinkMessage) -> bool {
    let RouteNetlinkMessage::NewRoute(route) = message else { return false };
    route.attributes.iter().any(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_)
        )
    })
}

fn save(message: &RouteNetlinkMessage, dev: &Dev) -> Saved {
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    Saved { kind: message.message_type(), link: dev.index.into(), message: bytes }
}

fn decode(saved: &Saved) -> Result<RouteNetlinkMessage> {
    RouteNetlinkMessage::parse_with_param(saved.message.as_slice(), saved.kind)
        .map_err(|err| Error::malformed("read what was saved of a link", err))
}

/// Gives it back to the link, whose index may be another now; accepts that it has it.
pub fn restore(saved: &Saved, dev: &Dev) -> Result<Request> {
    let (old, new) = (saved.link, u32::from(dev.index));
    let mut message = decode(saved)?;
    match &mut message {
        RouteNetlinkMessage::NewAddress(address) => {
            address.header.index = new;
            let act = format!("give {} its address back", dev.name);
            Ok(Request::new(message, NLM_F_CREATE | NLM_F_EXCL, act).ok_if_exists())
        }
        RouteNetlinkMessage::NewRoute(route) => {
            route.attributes.iter_mut().for_each(|attribute| point_to(attribute, old, new));
            let is_v6 = route.header.address_family == AddressFamily::Inet6;
            let act = format!("give {} its route back", dev.name);
            // IPv6 takes a second route to a destination for another way of the first (`fib6_add_rt2node`).
            let flags = if is_v6 { NLM_F_EXCL } else { NLM_F_APPEND };
            Ok(Request::new(message, NLM_F_CREATE | flags, act).ok_if_exists())
        }
        _ => Err(Error::malformed("read what was saved of a link", "neither address nor route")),
    }
}

fn point_to(attribute: &mut RouteAttribute, old: u32, new: u32) {
    match attribute {
        RouteAttribute::Oif(oif) if *oif == old => *oif = new,
        RouteAttribute::MultiPath(hops) => {
            for hop in hops.iter_mut().filter(|hop| hop.interface_index == old) {
                hop.interface_index = new;
            }
        }
        _ => {}
    }
}
