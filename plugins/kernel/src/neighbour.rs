//! Neighbours: which Ethernet address an IP address has on a link (ARP, neighbour discovery). Bridges' and tunnels'
//! tables of Ethernet addresses are in [`crate::fdb`].

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage},
};

use crate::{
    error::Result,
    link::{Dev, LinkIndex},
    mac::MacAddr,
    netlink::{Netlink, Request},
    route::family,
};

/// An entry of a neighbour table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The link it is on.
    pub link: LinkIndex,
    /// Its IP address.
    pub address: IpAddr,
    /// Its Ethernet address, unless it is not known (any more).
    pub mac: Option<MacAddr>,
    /// `NUD_*` (include/uapi/linux/neighbour.h).
    pub state: u16,
    /// Who made it (`RTPROT_*`), 0 for the kernel (Linux 5.0).
    pub protocol: u8,
}

/// `NUD_PERMANENT`: never probed, never dropped.
pub const PERMANENT: u16 = 0x80;
/// `NUD_FAILED`: did not answer.
pub const FAILED: u16 = 0x20;

impl Neighbour {
    /// An entry that stays until it is removed.
    pub fn permanent(link: LinkIndex, address: IpAddr, mac: MacAddr, protocol: u8) -> Self {
        Self { link, address, mac: Some(mac), state: PERMANENT, protocol }
    }
}

/// Adds an entry; it is an error if the link has one for that IP address.
pub fn add(neighbour: &Neighbour) -> Request {
    put(neighbour, NLM_F_CREATE | NLM_F_EXCL, "add")
}

/// Adds an entry or puts it in place of the one there is.
pub fn replace(neighbour: &Neighbour) -> Request {
    put(neighbour, NLM_F_CREATE | NLM_F_REPLACE, "set")
}

/// Removes the entry of an IP address; accepts that there is none.
pub fn remove(link: LinkIndex, address: IpAddr) -> Request {
    let act = format!("remove neighbour {address} from link {link}");
    Request::new(RouteNetlinkMessage::DelNeighbour(message(link, address)), 0, act).ok_if_missing()
}

/// Answers for `address` on a link though it is elsewhere (proxy ARP, proxy neighbour discovery).
pub fn add_proxy(dev: &Dev, address: IpAddr) -> Request {
    let act = format!("add proxy for {address} to {}", dev.name);
    Request::new(RouteNetlinkMessage::NewNeighbour(proxy(dev, address)), NLM_F_CREATE | NLM_F_REPLACE, act)
}

/// Ends [`add_proxy`]; accepts that there is none.
pub fn remove_proxy(dev: &Dev, address: IpAddr) -> Request {
    let act = format!("remove proxy for {address} from {}", dev.name);
    Request::new(RouteNetlinkMessage::DelNeighbour(proxy(dev, address)), 0, act).ok_if_missing()
}

fn put(neighbour: &Neighbour, flags: u16, verb: &str) -> Request {
    let Neighbour { link, address, mac, state, protocol } = *neighbour;
    let mut message = message(link, address);
    message.header.state = state.into();
    message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())));
    if protocol != 0 {
        message.attributes.push(NeighbourAttribute::Protocol(protocol.into()));
    }
    let act = format!("{verb} neighbour {address} on link {link}");
    Request::new(RouteNetlinkMessage::NewNeighbour(message), flags, act)
}

fn message(link: LinkIndex, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header =
        NeighbourHeader { family: family(address), ifindex: link.into(), ..NeighbourHeader::default() };
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

fn proxy(dev: &Dev, address: IpAddr) -> NeighbourMessage {
    let mut message = message(dev.index, address);
    message.header.flags = NeighbourFlags::Proxy;
    message
}

/// The neighbours of one link, or of all. Entries for multicast and broadcast, which the kernel makes up, are left out.
pub fn list(nl: &mut Netlink, link: Option<LinkIndex>) -> Result<Vec<Neighbour>> {
    let mut message = NeighbourMessage::default();
    message.attributes.extend(link.map(|link| NeighbourAttribute::IfIndex(link.into())));
    let replies = nl.dump(&RouteNetlinkMessage::GetNeighbour(message), "list neighbours")?;
    // Kernels before 5.0 ignore the filter.
    let wanted = |entry: &Neighbour| entry.state != NOARP && link.is_none_or(|link| entry.link == link);
    Ok(replies.into_iter().filter_map(decode).filter(wanted).collect())
}

/// The neighbour that an event is about, come, changed or gone ([`Netlink::event`]).
pub fn of_event(event: RouteNetlinkMessage) -> Option<Neighbour> {
    match event {
        RouteNetlinkMessage::DelNeighbour(message) => decode(RouteNetlinkMessage::NewNeighbour(message)),
        event => decode(event),
    }
}

fn decode(message: RouteNetlinkMessage) -> Option<Neighbour> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let (mut address, mut mac, mut protocol) = (None, None, 0);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(v4.into()),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(v6.into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = MacAddr::try_from(bytes.as_slice()).ok(),
            NeighbourAttribute::Protocol(origin) => protocol = origin.into(),
            _ => {}
        }
    }
    let (link, state) = (message.header.ifindex.into(), message.header.state.into());
    Some(Neighbour { link, address: address?, mac, state, protocol })
}

const NOARP: u16 = 0x40;
