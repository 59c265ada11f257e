//! Building the scene of a test inside a namespace: links, addresses, routes. None of it counts as a leak.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage::{DelLink, NewAddress, NewLink, NewRoute, SetLink};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::net::if_::if_nametoindex;
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::ns::Ns;
use crate::rtnl::Rtnl;

impl Ns {
    /// A veth pair from `name` here to `peer` in `other`, both down.
    #[track_caller]
    pub fn add_veth(&self, name: &str, other: &Self, peer: &str) {
        let there = other.snapshot();
        let mut end = LinkMessageBuilder::<LinkUnspec>::new().name(peer.to_string()).build();
        end.attributes.push(LinkAttribute::NetNsFd(other.file().as_raw_fd()));
        let pair = LinkVeth::new(name, peer).set_info_data(InfoData::Veth(InfoVeth::Peer(end))).build();
        self.build(&format!("add veth {name}"), || create(NewLink(pair)));
        other.accept(&there);
    }

    /// A bridge, down. Stands in for a physical uplink too, where the kernel has no dummy device.
    #[track_caller]
    pub fn add_bridge(&self, name: &str) {
        self.build(&format!("add bridge {name}"), || create(NewLink(LinkBridge::new(name).build())));
    }

    #[track_caller]
    pub fn set_up(&self, link: &str) {
        self.build(&format!("set {link} up"), || change(link, LinkMessageBuilder::up));
    }

    #[track_caller]
    pub fn set_down(&self, link: &str) {
        self.build(&format!("set {link} down"), || change(link, LinkMessageBuilder::down));
    }

    #[track_caller]
    pub fn set_mtu(&self, link: &str, mtu: u32) {
        self.build(&format!("set mtu {mtu} on {link}"), || change(link, |message| message.mtu(mtu)));
    }

    /// Makes `link` a port of `bridge`.
    #[track_caller]
    pub fn set_master(&self, link: &str, bridge: &str) {
        self.build(&format!("set master {bridge} on {link}"), || {
            let index = index(bridge)?;
            change(link, |message| message.controller(index))
        });
    }

    /// A veth's other end goes too: call `rebase` where that one is in another namespace.
    #[track_caller]
    pub fn remove_link(&self, link: &str) {
        self.build(&format!("remove {link}"), || {
            let mut message = LinkMessage::default();
            message.header.index = index(link)?;
            Rtnl::open()?.execute(DelLink(message), 0)
        });
    }

    /// Adds an address such as `10.0.0.1/24`, without duplicate address detection: usable at once.
    #[track_caller]
    pub fn add_address(&self, link: &str, address: &str) {
        self.build(&format!("add address {address} to {link}"), || {
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
        });
    }

    /// Adds a route to `destination` (`0.0.0.0/0` is the default route) by `gateway`.
    #[track_caller]
    pub fn add_route(&self, destination: &str, gateway: IpAddr) {
        self.build(&format!("add route {destination} via {gateway}"), || {
            let network: IpNetwork = destination.parse().map_err(io::Error::other)?;
            let route = RouteMessageBuilder::<IpAddr>::new()
                .destination_prefix(network.ip(), network.prefix())
                .and_then(|builder| builder.gateway(gateway))
                .map_err(io::Error::other)?;
            create(NewRoute(route.build()))
        });
    }

    /// Adds a route to `destination` straight out of `link`.
    #[track_caller]
    pub fn add_device_route(&self, destination: &str, link: &str) {
        self.build(&format!("add route {destination} dev {link}"), || {
            let network: IpNetwork = destination.parse().map_err(io::Error::other)?;
            let route = RouteMessageBuilder::<IpAddr>::new()
                .destination_prefix(network.ip(), network.prefix())
                .map_err(io::Error::other)?;
            create(NewRoute(route.output_interface(index(link)?).build()))
        });
    }
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
