//! IP addresses of links. Knows no link but by its index.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeader, AddressMessage},
};
use nix::errno::Errno;

use crate::{
    error::{Error, Result},
    link::{Dev, LinkIndex},
    netlink::{Netlink, Request},
    route::family,
};

/// Whether the kernel probes for another owner of an IPv6 address before it is used (RFC 4862, section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dad {
    /// As the interface's `accept_dad` says; the address is tentative until the probe is over.
    Probe,
    /// `IFA_F_NODAD`: usable at once. For addresses that an allocator has given out already.
    Skip,
}

/// An address as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link that has it.
    pub link: LinkIndex,
    /// The address and the length of its prefix.
    pub network: IpNetwork,
    /// The other end of a point-to-point address.
    pub peer: Option<IpAddr>,
    /// `RT_SCOPE_*`: 0 universe, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_*` (include/uapi/linux/if_addr.h).
    pub flags: u32,
    /// The IPv4 label, by default the name of the link.
    pub label: Option<String>,
    /// The IPv4 broadcast address.
    pub broadcast: Option<Ipv4Addr>,
}

impl Address {
    /// Duplicate address detection has not ended yet.
    pub fn is_tentative(&self) -> bool {
        self.has(AddressFlags::Tentative) && !self.is_duplicate()
    }

    /// Somebody else on the link has this address.
    pub fn is_duplicate(&self) -> bool {
        self.has(AddressFlags::Dadfailed)
    }

    /// The kernel made it from a router's prefix, or it has a lifetime: not given to be kept.
    pub fn is_dynamic(&self) -> bool {
        !self.has(AddressFlags::Permanent)
    }

    fn has(&self, flag: AddressFlags) -> bool {
        AddressFlags::from_bits_retain(self.flags).contains(flag)
    }
}

/// Adds an address; it is an error if the link has it already.
///
/// An IPv4 address in a prefix of /30 or shorter gets the broadcast address of that prefix, as the Go plugins give it.
pub fn add(dev: &Dev, network: IpNetwork, dad: Dad) -> Request {
    let act = format!("add address {network} to {}", dev.name);
    Request::new(RouteNetlinkMessage::NewAddress(message(dev, network, dad)), NLM_F_CREATE | NLM_F_EXCL, act)
}

/// Adds an address, or renews its flags and broadcast address if the link has it.
pub fn replace(dev: &Dev, network: IpNetwork, dad: Dad) -> Request {
    let act = format!("set address {network} on {}", dev.name);
    Request::new(
        RouteNetlinkMessage::NewAddress(message(dev, network, dad)),
        NLM_F_CREATE | NLM_F_REPLACE,
        act,
    )
}

/// Removes an address, with its prefix route; accepts that the link does not have it.
pub fn remove(dev: &Dev, network: IpNetwork) -> Request {
    let act = format!("remove address {network} from {}", dev.name);
    let mut message = AddressMessage::default();
    message.header = header(dev, network);
    message.attributes = vec![AddressAttribute::Local(network.ip()), AddressAttribute::Address(network.ip())];
    Request::new(RouteNetlinkMessage::DelAddress(message), 0, act).ok_if_missing()
}

fn message(dev: &Dev, network: IpNetwork, dad: Dad) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = header(dev, network);
    message.attributes = vec![AddressAttribute::Local(network.ip()), AddressAttribute::Address(network.ip())];
    match network {
        // A /31 and a /32 have no broadcast address (RFC 3021).
        IpNetwork::V4(v4) if v4.prefix() < 31 => {
            message.attributes.push(AddressAttribute::Broadcast(v4.broadcast()));
        }
        IpNetwork::V6(_) if dad == Dad::Skip => {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        _ => {}
    }
    message
}

fn header(dev: &Dev, network: IpNetwork) -> AddressHeader {
    AddressHeader {
        family: family(network.ip()),
        prefix_len: network.prefix(),
        index: dev.index.into(),
        ..AddressHeader::default()
    }
}

/// The addresses of one link.
pub fn list(nl: &mut Netlink, dev: &Dev) -> Result<Vec<Address>> {
    dump(nl, dev.index.into(), &format!("list addresses of {}", dev.name))
}

/// Every address of the namespace.
pub fn list_all(nl: &mut Netlink) -> Result<Vec<Address>> {
    dump(nl, 0, "list addresses")
}

fn dump(nl: &mut Netlink, index: u32, act: &str) -> Result<Vec<Address>> {
    let mut message = AddressMessage::default();
    message.header.index = index;
    let replies = nl.dump(&RouteNetlinkMessage::GetAddress(message), act)?;
    // Kernels before 5.0 ignore the filter.
    let wanted = |address: &Address| index == 0 || address.link == index.into();
    Ok(replies.into_iter().filter_map(decode).filter(wanted).collect())
}

/// The address that an event is about, come, changed or gone ([`Netlink::event`]).
pub fn of_event(event: RouteNetlinkMessage) -> Option<Address> {
    match event {
        RouteNetlinkMessage::DelAddress(message) => decode(RouteNetlinkMessage::NewAddress(message)),
        event => decode(event),
    }
}

fn decode(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    let mut flags = u32::from(message.header.flags.bits());
    let (mut local, mut address, mut label, mut broadcast) = (None, None, None, None);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(ip),
            AddressAttribute::Address(ip) => address = Some(ip),
            AddressAttribute::Label(text) => label = Some(text),
            AddressAttribute::Broadcast(ip) => broadcast = Some(ip),
            AddressAttribute::Flags(all) => flags = all.bits(),
            _ => {}
        }
    }
    let own = local.or(address)?;
    Some(Address {
        link: LinkIndex::from(message.header.index),
        network: IpNetwork::new(own, message.header.prefix_len).ok()?,
        peer: address.filter(|peer| *peer != own),
        scope: message.header.scope.into(),
        flags,
        label,
        broadcast,
    })
}

/// Waits until no IPv6 address of `dev` is tentative any more. An address that turned out to be somebody else's is an
/// error (`EADDRINUSE`), as is the end of `timeout`. A link without carrier never settles.
pub fn wait_settled(nl: &mut Netlink, dev: &Dev, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    nl.subscribe(RTNLGRP_IPV6_IFADDR)?;
    let settled = settle(nl, dev, deadline);
    nl.unsubscribe(RTNLGRP_IPV6_IFADDR)?;
    settled
}

fn settle(nl: &mut Netlink, dev: &Dev, deadline: Instant) -> Result<()> {
    loop {
        let addresses = match list(nl, dev) {
            Err(err) if err.is_overrun() => continue,
            addresses => addresses?,
        };
        if let Some(taken) = addresses.iter().find(|address| address.is_duplicate()) {
            let act = format!("use address {} on {}", taken.network, dev.name);
            return Err(Error::new(act, Errno::EADDRINUSE));
        }
        let Some(waiting) = addresses.iter().find(|address| address.is_tentative()) else { return Ok(()) };
        if Instant::now() >= deadline {
            let act = format!("wait for duplicate detection of {} on {}", waiting.network, dev.name);
            return Err(Error::new(act, Errno::ETIMEDOUT));
        }
        nl.wait_readable(deadline)?;
    }
}

const RTNLGRP_IPV6_IFADDR: u32 = 9;
