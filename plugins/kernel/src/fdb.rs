//! Forwarding tables: behind which port of a bridge, or which end of a tunnel, an Ethernet address is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage,
        NeighbourState,
    },
};

use crate::{
    error::Result,
    link::LinkIndex,
    mac::MacAddr,
    netlink::{Netlink, Request},
};

/// Whose table an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// The device's own, as a tunnel has one (`bridge fdb ... self`).
    Own,
    /// That of the bridge the device is a port of (`bridge fdb ... master`).
    Master,
}

/// An entry of a forwarding table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The tunnel, or the port of the bridge.
    pub link: LinkIndex,
    /// Who is there. All zero: everyone not otherwise known.
    pub mac: MacAddr,
    /// In which table.
    pub table: Table,
    /// The far end of the tunnel.
    pub remote: Option<IpAddr>,
    /// In which VLAN of the bridge.
    pub vlan: Option<u16>,
    /// Stays until it is removed; learned entries age.
    pub permanent: bool,
}

impl Entry {
    /// An address behind the far end `remote` of a tunnel, until it is removed.
    pub fn behind(link: LinkIndex, mac: MacAddr, remote: IpAddr) -> Self {
        Self { link, mac, table: Table::Own, remote: Some(remote), vlan: None, permanent: true }
    }
}

/// Adds an entry; it is an error if the address has one.
pub fn add(entry: &Entry) -> Request {
    put(entry, NLM_F_CREATE | NLM_F_EXCL, "add")
}

/// Adds an entry or puts it in place of the one of that address.
pub fn replace(entry: &Entry) -> Request {
    put(entry, NLM_F_CREATE | NLM_F_REPLACE, "set")
}

/// Adds a further far end for an address: packets go to all of them.
pub fn append(entry: &Entry) -> Request {
    put(entry, NLM_F_CREATE | NLM_F_APPEND, "append")
}

/// Removes an entry; accepts that there is none.
pub fn remove(entry: &Entry) -> Request {
    let act = format!("remove {} from the forwarding table of link {}", entry.mac, entry.link);
    Request::new(RouteNetlinkMessage::DelNeighbour(encode(entry)), 0, act).ok_if_missing()
}

fn put(entry: &Entry, flags: u16, verb: &str) -> Request {
    let act = format!("{verb} {} in the forwarding table of link {}", entry.mac, entry.link);
    Request::new(RouteNetlinkMessage::NewNeighbour(encode(entry)), flags, act)
}

fn encode(entry: &Entry) -> NeighbourMessage {
    let Entry { link, mac, table, remote, vlan, permanent } = *entry;
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family: AddressFamily::Bridge,
        ifindex: link.into(),
        // A bridge's permanent entry is an address of the bridge itself; one that only does not age has no ARP.
        state: match (permanent, table) {
            (true, Table::Own) => NeighbourState::Permanent,
            (true, Table::Master) => NeighbourState::Noarp,
            (false, _) => NeighbourState::Reachable,
        },
        flags: match table {
            Table::Own => NeighbourFlags::Own,
            Table::Master => NeighbourFlags::Controller,
        },
        ..NeighbourHeader::default()
    };
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message.attributes.extend(remote.map(|remote| NeighbourAttribute::Destination(remote.into())));
    message.attributes.extend(vlan.map(NeighbourAttribute::Vlan));
    message
}

/// The entries of a tunnel or of one port of a bridge.
pub fn list(nl: &mut Netlink, link: LinkIndex) -> Result<Vec<Entry>> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.attributes.push(NeighbourAttribute::IfIndex(link.into()));
    let replies = nl.dump(&RouteNetlinkMessage::GetNeighbour(message), "list forwarding table")?;
    // Kernels before 5.0 ignore the filter.
    Ok(replies.into_iter().filter_map(decode).filter(|entry| entry.link == link).collect())
}

/// The entries of all tunnels and bridges.
pub fn list_all(nl: &mut Netlink) -> Result<Vec<Entry>> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    let replies = nl.dump(&RouteNetlinkMessage::GetNeighbour(message), "list forwarding tables")?;
    Ok(replies.into_iter().filter_map(decode).collect())
}

/// The entry that an event is about, come, changed or gone ([`Netlink::event`]).
pub fn of_event(event: RouteNetlinkMessage) -> Option<Entry> {
    match event {
        RouteNetlinkMessage::DelNeighbour(message) => decode(RouteNetlinkMessage::NewNeighbour(message)),
        event => decode(event),
    }
}

fn decode(message: RouteNetlinkMessage) -> Option<Entry> {
    let RouteNetlinkMessage::NewNeighbour(message) = message else { return None };
    let header = message.header;
    if header.family != AddressFamily::Bridge {
        return None;
    }
    let (mut mac, mut remote, mut vlan) = (None, None, None);
    for attribute in message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = MacAddr::try_from(bytes.as_slice()).ok(),
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => remote = ip(&bytes),
            NeighbourAttribute::Vlan(id) => vlan = Some(id),
            _ => {}
        }
    }
    Some(Entry {
        link: header.ifindex.into(),
        mac: mac?,
        table: if header.flags.contains(NeighbourFlags::Own) { Table::Own } else { Table::Master },
        remote,
        vlan,
        permanent: matches!(header.state, NeighbourState::Permanent | NeighbourState::Noarp),
    })
}

/// The family of the message says "bridge", so the length has to say which IP this is.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into())).ok()
}
