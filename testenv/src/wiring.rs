//! Links, addresses and routes of the calling thread's network namespace, by rtnetlink: a scene needs no `ip(8)`.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage::{DelLink, GetLink, NewAddress, NewLink, NewRoute, SetLink};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::rtnl::Rtnl;
use crate::wait;

/// A veth pair from `name` here to `peer` in the namespace `other`, both down. `mtu` in bytes, of both ends.
pub(crate) fn add_veth(name: &str, other: &File, peer: &str, mtu: u32) -> io::Result<()> {
    let mut end = LinkMessageBuilder::<LinkUnspec>::new().name(peer.to_string()).mtu(mtu).build();
    end.attributes.push(LinkAttribute::NetNsFd(other.as_raw_fd()));
    let pair = LinkVeth::new(name, peer).set_info_data(InfoData::Veth(InfoVeth::Peer(end))).mtu(mtu);
    create(NewLink(pair.build()))
}

/// A bridge, up: rtnetlink's builder makes it so.
pub(crate) fn add_bridge(name: &str) -> io::Result<()> {
    create(NewLink(LinkBridge::new(name).build()))
}

pub(crate) fn set_up(link: &str) -> io::Result<()> {
    change(link, LinkMessageBuilder::up)
}

/// Waits until `link`, which is up, has carrier. Routes over it and neighbours behind it are dead until then, which is
/// up to a second: the kernel looks after carriers in its own time, or when somebody asks for the link.
pub(crate) fn wait_running(link: &str) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index(link)?;
    let running = || match Rtnl::open().and_then(|mut rtnl| rtnl.ask(GetLink(message.clone()))) {
        Ok(parts) => is_running(&parts).then_some(Ok(())),
        Err(err) => Some(Err(err)),
    };
    wait::poll(Duration::from_secs(5), running)
        .unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, format!("{link} gets no carrier"))))
}

fn is_running(parts: &[RouteNetlinkMessage]) -> bool {
    parts.iter().any(|part| match part {
        NewLink(link) => link.header.flags.contains(LinkFlags::Running | LinkFlags::LowerUp),
        _ => false,
    })
}

pub(crate) fn set_down(link: &str) -> io::Result<()> {
    change(link, LinkMessageBuilder::down)
}

pub(crate) fn set_mtu(link: &str, mtu: u32) -> io::Result<()> {
    change(link, |message| message.mtu(mtu))
}

/// Makes `link` a port of `bridge`.
pub(crate) fn set_master(link: &str, bridge: &str) -> io::Result<()> {
    let index = index(bridge)?;
    change(link, |message| message.controller(index))
}

pub(crate) fn remove_link(link: &str) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index(link)?;
    Rtnl::open()?.execute(DelLink(message), 0)
}

/// Adds an address such as `10.0.0.1/24`, without duplicate address detection: usable at once.
pub(crate) fn add_address(link: &str, address: &str) -> io::Result<()> {
    let network: IpNetwork = address.parse().map_err(io::Error::other)?;
    let mut message = AddressMessage::default();
    message.header.index = index(link)?;
    message.header.prefix_len = network.prefix();
    message.header.family = family(network.ip());
    message.attributes.push(AddressAttribute::Address(network.ip()));
    match network.ip() {
        IpAddr::V4(_) => message.attributes.push(AddressAttribute::Local(network.ip())),
        IpAddr::V6(_) => message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad)),
    }
    create(NewAddress(message))
}

/// Adds a route to `destination` (`0.0.0.0/0` is the default route) by `gateway`.
pub(crate) fn add_route(destination: &str, gateway: IpAddr) -> io::Result<()> {
    let network: IpNetwork = destination.parse().map_err(io::Error::other)?;
    let route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(network.ip(), network.prefix())
        .and_then(|builder| builder.gateway(gateway))
        .map_err(io::Error::other)?;
    create(NewRoute(route.build()))
}

/// Adds a route to `destination` straight out of `link`.
pub(crate) fn add_device_route(destination: &str, link: &str) -> io::Result<()> {
    let network: IpNetwork = destination.parse().map_err(io::Error::other)?;
    let route = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(network.ip(), network.prefix())
        .map_err(io::Error::other)?;
    create(NewRoute(route.output_interface(index(link)?).build()))
}

fn create(message: RouteNetlinkMessage) -> io::Result<()> {
    Rtnl::open()?.execute(message, NLM_F_CREATE | NLM_F_EXCL)
}

fn change(
    link: &str,
    how: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
) -> io::Result<()> {
    let message = how(LinkUnspec::new_with_index(index(link)?)).build();
    Rtnl::open()?.execute(SetLink(message), 0)
}

fn index(link: &str) -> io::Result<u32> {
    Ok(if_nametoindex(link)?)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
