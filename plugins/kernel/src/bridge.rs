//! Bridges and what they hold of each port. Knows no VLAN and no forwarding entry.

use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
    LinkAttribute, LinkInfo,
};

use crate::{
    link::{self, Dev, create::New},
    netlink::Request,
};

/// Settings of a bridge; what is `None` stays as it is, or as the kernel makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Ports have VLANs. Needs a kernel with `CONFIG_BRIDGE_VLAN_FILTERING`.
    pub vlan_filtering: Option<bool>,
    /// The VLAN that ports get when they join; 0 for none.
    pub default_pvid: Option<u16>,
    /// How long a learned address stays, in seconds.
    pub ageing: Option<u32>,
    /// Spanning tree.
    pub stp: Option<bool>,
    /// IGMP and MLD snooping.
    pub multicast_snooping: Option<bool>,
    /// Which link-local groups are forwarded, by the last digit of the address.
    pub group_forward_mask: Option<u16>,
}

/// Makes a bridge. `EEXIST` if the name is taken, by a bridge or otherwise.
pub fn add(link: New, options: &Options) -> Request {
    link.add_as(InfoKind::Bridge, Some(InfoData::Bridge(infos(options))))
}

/// Changes settings of a bridge.
pub fn set(dev: &Dev, options: &Options) -> Request {
    let infos = vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(infos(options)))];
    link::change(dev).with(LinkAttribute::LinkInfo(infos), "bridge options").request()
}

fn infos(options: &Options) -> Vec<InfoBridge> {
    let Options { vlan_filtering, default_pvid, ageing, stp, multicast_snooping, group_forward_mask } =
        *options;
    // `br_changelink` refuses a default VLAN above the current range only, and reads the filter first.
    [
        vlan_filtering.map(InfoBridge::VlanFiltering),
        default_pvid.map(InfoBridge::VlanDefaultPvid),
        // In hundredths of a second (USER_HZ).
        ageing.map(|seconds| InfoBridge::AgeingTime(seconds.saturating_mul(100))),
        stp.map(|on| {
            InfoBridge::StpState(if on { BridgeStpState::KernelStp } else { BridgeStpState::Disabled })
        }),
        multicast_snooping.map(InfoBridge::MulticastSnooping),
        group_forward_mask.map(InfoBridge::GroupFwdMask),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Settings of a bridge's port; what is `None` stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortOptions {
    /// Packets may leave by the port they came in by.
    pub hairpin: Option<bool>,
    /// No packets to other isolated ports.
    pub isolated: Option<bool>,
    /// Addresses are learned from packets.
    pub learning: Option<bool>,
    /// ARP and neighbour solicitations are answered from the neighbour table (Linux 4.15).
    pub neigh_suppress: Option<bool>,
    /// Packets for unknown unicast addresses go out here.
    pub unicast_flood: Option<bool>,
    /// Packets for unknown groups go out here.
    pub multicast_flood: Option<bool>,
}

/// Changes settings of a port. The link must have its bridge already, or get it earlier in the same batch.
pub fn set_port(port: &Dev, options: &PortOptions) -> Request {
    port_request(link::change(port), options)
}

/// As [`set_port`], of the link that has that name when the kernel reads the request.
pub fn set_port_named(port: &str, options: &PortOptions) -> Request {
    port_request(link::change_named(port), options)
}

fn port_request(change: link::change::Change, options: &PortOptions) -> Request {
    let PortOptions { hairpin, isolated, learning, neigh_suppress, unicast_flood, multicast_flood } =
        *options;
    let settings = [
        hairpin.map(InfoBridgePort::HairpinMode),
        isolated.map(InfoBridgePort::Isolated),
        learning.map(InfoBridgePort::Learning),
        neigh_suppress.map(InfoBridgePort::NeighSupress),
        unicast_flood.map(InfoBridgePort::UnicastFlood),
        multicast_flood.map(InfoBridgePort::MulticastFlood),
    ];
    let data = InfoPortData::BridgePort(settings.into_iter().flatten().collect());
    let infos = vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(data)];
    change.with(LinkAttribute::LinkInfo(infos), "bridge port options").request()
}
