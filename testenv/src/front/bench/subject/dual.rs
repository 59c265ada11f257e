//! What networks of both families have in common: the addresses of an attachment, and the floor's messages for them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Context;
use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage::{self, NewAddress, NewLink, NewRoute};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{AfSpecInet, AfSpecUnspec, InetDevConf, LinkAttribute};
use netlink_packet_route::route::RouteMessage;
use rtnetlink::{LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use serde_json::{Value, json};

use super::Network;
use crate::front::bench::script::{self, Place};

/// A message, and the flags that it is sent with.
pub(super) type Message = (RouteNetlinkMessage, u16);

pub(super) const EXCLUSIVE: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// The container's link has this index: known beforehand, so that it need not be asked for.
pub(super) const INSIDE: u32 = 20;

/// The addresses of one attachment of the floor.
pub(super) struct Addresses {
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
    pub(super) gateways: (Ipv4Addr, Ipv6Addr),
}

impl Addresses {
    pub(super) fn of(network: &Network<'_>, slot: usize) -> anyhow::Result<Self> {
        let (number, low) = (network.number, u8::try_from(slot + 2)?);
        let v6 = |low: u8| Ipv6Addr::new(0xfd00, number.into(), 0, 0, 0, 0, 0, low.into());
        let v4 = |low: u8| Ipv4Addr::new(10, number, 0, low);
        Ok(Self { v4: v4(low), v6: v6(low), gateways: (v4(1), v6(1)) })
    }

    /// The link `index` up, announcing what it has when it is told to, with both addresses at once usable.
    pub(super) fn bring_up(&self, index: u32) -> Vec<Message> {
        let mut announced = InetDevConf::default();
        announced.arp_notify = 1;
        let announced = AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(announced)]);
        let up = change(index, LinkAttribute::AfSpecUnspec(vec![announced])).up().build();
        vec![
            (NewLink(up), 0),
            (NewAddress(address(index, self.v4.into(), 16)), EXCLUSIVE),
            (NewAddress(address(index, self.v6.into(), 64)), EXCLUSIVE),
        ]
    }

    pub(super) fn default_routes(&self) -> Vec<Message> {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().gateway(self.gateways.0).build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().gateway(self.gateways.1).build();
        [v4, v6].map(|route| (NewRoute(route), EXCLUSIVE)).to_vec()
    }
}

/// A link that is there, with `attribute`.
pub(super) fn change(index: u32, attribute: LinkAttribute) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(index).append_extra_attribute(attribute)
}

/// The container's end keeps its IPv6 addresses when it goes down, and announces them: as the reference has it too, by the files
/// that are the only way to say so.
pub(super) fn prepare_v6() -> Vec<u8> {
    let conf = "net/ipv6/conf/eth0";
    script::sysctls(&[&format!("{conf}/keep_addr_on_down"), &format!("{conf}/ndisc_notify")])
}

/// The kernel announces the addresses of a link whose MAC address is set.
pub(super) fn announce(index: u32, mac: [u8; 6]) -> Vec<u8> {
    let again = change(index, LinkAttribute::Address(mac.to_vec())).build();
    script::part(Place::Container, &[(NewLink(again), 0)])
}

pub(super) fn address(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message.header.family = if ip.is_ipv4() {
        netlink_packet_route::AddressFamily::Inet
    } else {
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        netlink_packet_route::AddressFamily::Inet6
    };
    message
}

/// A route to the network of `to` by the link `index`, through `gateway` if there is one.
pub(super) fn route(index: u32, to: IpAddr, prefix: u8, gateway: Option<IpAddr>) -> RouteMessage {
    let to = IpNetwork::new(to, prefix).expect("a prefix of the family").network();
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(to, prefix)
        .expect("a prefix of the family")
        .output_interface(index);
    if let Some(gateway) = gateway {
        builder = builder.gateway(gateway).expect("a gateway of the family");
    } else if to.is_ipv4() {
        builder = builder.scope(netlink_packet_route::route::RouteScope::Link);
    }
    builder.build()
}

/// The configuration of host-local for both families.
pub(super) fn ipam(network: &Network<'_>) -> Value {
    let number = network.number;
    json!({
        "type": "host-local",
        "ranges": [
            [{ "subnet": format!("10.{number}.0.0/16") }],
            [{ "subnet": format!("fd00:{number:x}::/64") }],
        ],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
    })
}

/// A link of the host with a link at its other end, both up: a wire of the network's own.
pub(super) fn wire(network: &Network<'_>) -> anyhow::Result<()> {
    let Network { lab, name, .. } = network;
    let other_end = lab.netns(&format!("wire-{name}"));
    lab.host().add_veth(name, &other_end, "wire0");
    other_end.set_up("wire0");
    lab.host().set_up(name);
    Ok(())
}

/// The index of the network's link on the host.
pub(super) fn link(network: &Network<'_>) -> anyhow::Result<u32> {
    let file = format!("/sys/class/net/{}/ifindex", network.name);
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    text.trim().parse().with_context(|| format!("read {file}"))
}
