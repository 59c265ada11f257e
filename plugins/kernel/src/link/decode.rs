//! From the kernel's description of a link to ours. Unknown attributes are passed over.

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        InfoBridge, InfoBridgePort, InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoMacVtap, InfoPortData,
        InfoVlan, InfoVrf, InfoVxlan, LinkAttribute, LinkInfo, Prop, State,
    },
};

use super::{BridgePort, Kind, Link, OperState};
use crate::{ipvlan, mac::MacAddr, macvlan, tun, vlan::VlanId};

/// A message that is not about a link is `None`.
pub(super) fn link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else { return None };
    let mut link = Link {
        index: message.header.index.into(),
        name: String::new(),
        alias: None,
        altnames: Vec::new(),
        mac: None,
        permanent_mac: None,
        mtu: 0,
        flags: message.header.flags.bits(),
        operstate: OperState::Unknown,
        kind: None,
        master: None,
        parent: None,
        peer_netnsid: None,
        group: 0,
        txqlen: 0,
        promiscuity: 0,
        parent_device: None,
        port: None,
    };
    for attribute in message.attributes {
        take(&mut link, attribute);
    }
    Some(link)
}

fn take(link: &mut Link, attribute: LinkAttribute) {
    match attribute {
        LinkAttribute::IfName(name) => link.name = name,
        LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
        LinkAttribute::Address(bytes) => link.mac = mac(&bytes),
        LinkAttribute::PermAddress(bytes) => link.permanent_mac = mac(&bytes),
        LinkAttribute::Mtu(mtu) => link.mtu = mtu,
        LinkAttribute::OperState(state) => link.operstate = operstate(state),
        LinkAttribute::Controller(index) => link.master = Some(index.into()),
        // 0 for a tunnel that is bound to no link.
        LinkAttribute::Link(index) => link.parent = (index != 0).then(|| index.into()),
        LinkAttribute::LinkNetNsId(id) => link.peer_netnsid = Some(id),
        LinkAttribute::Group(group) => link.group = group,
        LinkAttribute::TxQueueLen(length) => link.txqlen = length,
        LinkAttribute::Promiscuity(count) => link.promiscuity = count,
        LinkAttribute::ParentDevName(name) => link.parent_device = Some(name),
        LinkAttribute::PropList(props) => link.altnames = props.into_iter().filter_map(altname).collect(),
        LinkAttribute::LinkInfo(infos) => take_infos(link, &infos),
        _ => {}
    }
}

fn take_infos(link: &mut Link, infos: &[LinkInfo]) {
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => link.kind = Some(plain_kind(kind)),
            LinkInfo::Data(data) => link.kind = detailed_kind(data).or_else(|| link.kind.take()),
            LinkInfo::PortData(InfoPortData::BridgePort(settings)) => link.port = Some(port(settings)),
            _ => {}
        }
    }
}

/// The kind before its details are known; it stands when the kernel gives none.
fn plain_kind(kind: &InfoKind) -> Kind {
    match kind {
        InfoKind::Veth => Kind::Veth,
        other => Kind::Other(other.to_string()),
    }
}

fn detailed_kind(data: &InfoData) -> Option<Kind> {
    match data {
        InfoData::Bridge(infos) => Some(bridge(infos)),
        InfoData::Vxlan(infos) => Some(vxlan(infos)),
        InfoData::Tun(infos) => tun::decode(infos).map(Kind::Tap),
        InfoData::Vrf(infos) => infos.iter().find_map(|info| match info {
            InfoVrf::TableId(table) => Some(Kind::Vrf { table: *table }),
            _ => None,
        }),
        InfoData::MacVlan(infos) => infos.iter().find_map(|info| match info {
            InfoMacVlan::Mode(mode) => Some(Kind::Macvlan(macvlan::Mode::from_kernel(*mode)?)),
            _ => None,
        }),
        InfoData::MacVtap(infos) => infos.iter().find_map(|info| match info {
            InfoMacVtap::Mode(mode) => Some(Kind::Macvtap(macvlan::Mode::from_kernel(*mode)?)),
            _ => None,
        }),
        InfoData::IpVlan(infos) => infos.iter().find_map(|info| match info {
            InfoIpVlan::Mode(mode) => Some(Kind::Ipvlan(ipvlan::Mode::from_kernel(*mode)?)),
            _ => None,
        }),
        InfoData::Vlan(infos) => infos.iter().find_map(|info| match info {
            InfoVlan::Id(id) => Some(Kind::Vlan(VlanId::try_from(*id).ok()?)),
            _ => None,
        }),
        _ => None,
    }
}

fn bridge(infos: &[InfoBridge]) -> Kind {
    let (mut vlan_filtering, mut ageing) = (false, 0);
    for info in infos {
        match info {
            InfoBridge::VlanFiltering(on) => vlan_filtering = *on,
            // In hundredths of a second (USER_HZ).
            InfoBridge::AgeingTime(ticks) => ageing = ticks / 100,
            _ => {}
        }
    }
    Kind::Bridge { vlan_filtering, ageing }
}

fn vxlan(infos: &[InfoVxlan]) -> Kind {
    let (mut vni, mut port, mut local, mut dev, mut learning) = (0, 0, None, None, false);
    for info in infos {
        match info {
            InfoVxlan::Id(id) => vni = *id,
            InfoVxlan::Port(number) => port = *number,
            InfoVxlan::Local(v4) => local = Some((*v4).into()),
            InfoVxlan::Local6(v6) => local = Some((*v6).into()),
            InfoVxlan::Link(index) => dev = (*index != 0).then(|| (*index).into()),
            InfoVxlan::Learning(on) => learning = *on,
            _ => {}
        }
    }
    Kind::Vxlan { vni, port, local, dev, learning }
}

fn port(settings: &[InfoBridgePort]) -> BridgePort {
    let mut port = BridgePort::default();
    for setting in settings {
        match setting {
            InfoBridgePort::HairpinMode(on) => port.hairpin = *on,
            InfoBridgePort::Isolated(on) => port.isolated = *on,
            InfoBridgePort::Learning(on) => port.learning = *on,
            InfoBridgePort::NeighSupress(on) => port.neigh_suppress = *on,
            _ => {}
        }
    }
    port
}

fn mac(bytes: &[u8]) -> Option<MacAddr> {
    MacAddr::try_from(bytes).ok()
}

fn altname(prop: Prop) -> Option<String> {
    match prop {
        Prop::AltIfName(name) => Some(name),
        _ => None,
    }
}

fn operstate(state: State) -> OperState {
    match state {
        State::Unknown => OperState::Unknown,
        State::Down => OperState::Down,
        State::LowerLayerDown => OperState::LowerLayerDown,
        State::Dormant => OperState::Dormant,
        State::Up => OperState::Up,
        _ => OperState::Other,
    }
}
