//! What the kernel tells about links, addresses, neighbours and routes, as news for a network. Knows no state.

use kernel::{
    address,
    error::Result,
    fdb,
    link::{self, LinkIndex},
    neighbour,
    netlink::{Entries, Netlink},
    route,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::socket::{setsockopt, sockopt};

use super::{Links, tables};
use crate::{definition::Definition, machine::Notice};

/// A socket that hears of every change in its namespace.
#[derive(Debug)]
pub struct Events {
    nl: Netlink,
    /// Its port.
    writer: u32,
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// Something happened that may concern a network's tables: see [`notice`].
    Tables(Box<RouteNetlinkMessage>),
    /// A link came, changed or went; `gone` says that it did the latter.
    Link { name: String, index: u32, gone: bool },
    /// An address came or went on a link.
    Address { index: u32 },
    /// The kernel dropped events for want of room.
    Overrun,
}

impl Events {
    /// Starts to listen in the calling thread's namespace, to all but what `writer` itself causes: what that has written it
    /// knows, and at 60,000 peers its echo would cost as much as the writing.
    pub fn open(writer: &Netlink) -> Result<Self> {
        let mut nl = Netlink::open()?;
        nl.ignore(writer.port(), Entries::Heard)?;
        // Several batches' worth: each change of ours comes back as an event of about 1 KiB with its bookkeeping.
        let _ = setsockopt(&nl, sockopt::RcvBufForce, &RECEIVE_QUEUE);
        for group in GROUPS {
            nl.subscribe(group)?;
        }
        Ok(Self { nl, writer: writer.port() })
    }

    /// Whether new forwarding entries are news. They are not while we write many: the kernel does not say whose they are.
    pub fn hear_entries(&self, entries: Entries) -> Result<()> {
        self.nl.ignore(self.writer, entries)
    }

    /// The news of the next datagram, of which there may be none; `None` when there is no datagram. Does not wait.
    pub fn read(&mut self) -> Result<Option<Vec<News>>> {
        match self.nl.event_now() {
            Ok(messages) => Ok(messages.map(|messages| messages.into_iter().filter_map(news).collect())),
            // What can't be read is as good as lost.
            Err(err) if err.is_overrun() || err.kind() == std::io::ErrorKind::InvalidData => {
                Ok(Some(vec![News::Overrun]))
            }
            Err(err) => Err(err),
        }
    }
}

impl std::os::fd::AsFd for Events {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.nl.as_fd()
    }
}

impl std::os::fd::AsRawFd for Events {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}

fn news(message: RouteNetlinkMessage) -> Option<News> {
    let gone = matches!(message, RouteNetlinkMessage::DelLink(_));
    match message {
        RouteNetlinkMessage::NewLink(_) | RouteNetlinkMessage::DelLink(_) => {
            let link = link::of_event(message)?;
            Some(News::Link { name: link.name, index: link.index.into(), gone })
        }
        RouteNetlinkMessage::NewAddress(_) | RouteNetlinkMessage::DelAddress(_) => {
            Some(News::Address { index: address::of_event(message)?.link.into() })
        }
        RouteNetlinkMessage::NewNeighbour(_)
        | RouteNetlinkMessage::DelNeighbour(_)
        | RouteNetlinkMessage::NewRoute(_)
        | RouteNetlinkMessage::DelRoute(_) => Some(News::Tables(Box::new(message))),
        _ => None,
    }
}

/// What `message` says of a network, if it is about one of its objects.
pub fn notice(message: &RouteNetlinkMessage, definition: &Definition, links: Links) -> Option<Notice> {
    let there = matches!(message, RouteNetlinkMessage::NewNeighbour(_) | RouteNetlinkMessage::NewRoute(_));
    if let Some(entry) = fdb::of_event(message.clone()) {
        let (mac, dst) = tables::ours_fdb(&entry, links)?;
        return Some(Notice::Fdb { mac, dst, there });
    }
    if let Some(entry) = neighbour::of_event(message.clone()) {
        let (ip, mac) = tables::ours_neighbour(&entry, links)?;
        return Some(Notice::Neighbour { ip, entry: there.then_some(mac) });
    }
    let route = route::of_event(message.clone())?;
    let (prefix, metric, found) = tables::ours_route(&route, definition, links)?;
    Some(Notice::Route { prefix, metric, route: there.then_some(found) })
}

/// Whether `message` is a route through the underlay that is not ours: what is on the link may have changed.
pub fn is_foreign_route(message: &RouteNetlinkMessage, underlay: LinkIndex) -> bool {
    route::of_event(message.clone()).is_some_and(|route| {
        route.protocol != crate::desired::PROTOCOL
            && route.table == route::TABLE_MAIN
            && route.dev == Some(underlay)
    })
}

/// RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE (include/uapi/linux/rtnetlink.h).
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
const RECEIVE_QUEUE: usize = 16 * 1024 * 1024;
