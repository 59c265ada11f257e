//! VXLAN end points (RFC 7348). Who is on the other side is in [`crate::fdb`].

use std::net::IpAddr;

use netlink_packet_route::link::{InfoData, InfoKind, InfoVxlan};

use crate::{
    link::{LinkIndex, create::New},
    netlink::Request,
};

/// A VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Network identifier, 24 bits.
    pub vni: u32,
    /// UDP port; 4789 is the registered one.
    pub port: u16,
    /// Source address of the outer packets. Its family is that of the tunnel.
    pub local: Option<IpAddr>,
    /// The link that outer packets leave by. Its MTU bounds that of the device, and the device goes when it goes.
    pub dev: Option<LinkIndex>,
    /// Learn who is where from packets. Off where an agent knows.
    pub learning: bool,
}

/// Makes a VXLAN device. `EEXIST` if the name is taken, or if the namespace has a device with this network identifier
/// on this port already.
pub fn add(link: New, options: &Options) -> Request {
    let Options { vni, port, local, dev, learning } = *options;
    let mut infos = vec![InfoVxlan::Id(vni), InfoVxlan::Port(port), InfoVxlan::Learning(learning)];
    infos.extend(local.map(|local| match local {
        IpAddr::V4(v4) => InfoVxlan::Local(v4),
        IpAddr::V6(v6) => InfoVxlan::Local6(v6),
    }));
    infos.extend(dev.map(|dev| InfoVxlan::Link(dev.into())));
    link.add_as(InfoKind::Vxlan, Some(InfoData::Vxlan(infos)))
}
