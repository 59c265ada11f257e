//! The VLANs of a bridge and its ports. Needs a kernel with `CONFIG_BRIDGE_VLAN_FILTERING`; without it every change
//! is refused as unsupported.

use std::ops::RangeInclusive;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask,
        LinkMessage,
    },
};

use crate::{
    error::Result,
    link::{Dev, LinkIndex},
    netlink::{Netlink, Request},
};

/// Whose VLANs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A port's, kept by its bridge.
    Port,
    /// The bridge's own, as a host on its network.
    Bridge,
}

/// How packets of a VLAN pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagging {
    /// They carry the tag in both directions (trunk).
    Tagged,
    /// Untagged packets that come in belong to it, and it goes out untagged (access, native VLAN).
    Native,
}

/// VLANs of one link that are treated alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// The port, or the bridge itself.
    pub link: LinkIndex,
    /// First and last, 1 to 4094.
    pub range: RangeInclusive<u16>,
    /// Untagged packets that come in belong to it.
    pub pvid: bool,
    /// It goes out untagged.
    pub untagged: bool,
}

/// Lets a range of VLANs (1 to 4094) through; accepts those that are let through already, and changes their tagging.
/// The kernel refuses a range of more than one VLAN that is native.
pub fn add(dev: &Dev, side: Side, range: RangeInclusive<u16>, tagging: Tagging) -> Request {
    let act = format!("add {} to {}", describe(&range), dev.name);
    Request::new(RouteNetlinkMessage::SetLink(message(dev, side, &range, tagging)), 0, act)
}

/// Stops letting a range through; accepts that it is not.
pub fn remove(dev: &Dev, side: Side, range: RangeInclusive<u16>) -> Request {
    let act = format!("remove {} from {}", describe(&range), dev.name);
    let message = message(dev, side, &range, Tagging::Tagged);
    Request::new(RouteNetlinkMessage::DelLink(message), 0, act).ok_if_missing()
}

fn describe(range: &RangeInclusive<u16>) -> String {
    let (first, last) = (range.start(), range.end());
    if first == last { format!("VLAN {first}") } else { format!("VLANs {first}-{last}") }
}

fn message(dev: &Dev, side: Side, range: &RangeInclusive<u16>, tagging: Tagging) -> LinkMessage {
    let flags = match tagging {
        Tagging::Tagged => BridgeVlanInfoFlags::empty(),
        Tagging::Native => BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged,
    };
    let info = |vid, flags| AfSpecBridge::VlanInfo(BridgeVlanInfo { vid, flags });
    let mut spec = Vec::new();
    // `br_afspec` works on the bridge itself where the message says so, else on the port.
    if side == Side::Bridge {
        spec.push(AfSpecBridge::Flags(BridgeFlag::LowerDev));
    }
    if range.start() == range.end() {
        spec.push(info(*range.start(), flags));
    } else {
        spec.push(info(*range.start(), flags | BridgeVlanInfoFlags::RangeBegin));
        spec.push(info(*range.end(), flags | BridgeVlanInfoFlags::RangeEnd));
    }
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = dev.index.into();
    message.attributes.push(LinkAttribute::AfSpecBridge(spec));
    message
}

/// The VLANs of every port and bridge of the namespace, in ranges.
pub fn list(nl: &mut Netlink) -> Result<Vec<Vlans>> {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]));
    let replies = nl.dump(&RouteNetlinkMessage::GetLink(message), "list VLANs of bridges")?;
    Ok(replies.into_iter().flat_map(decode).collect())
}

fn decode(message: RouteNetlinkMessage) -> Vec<Vlans> {
    let RouteNetlinkMessage::NewLink(message) = message else { return Vec::new() };
    let link = LinkIndex::from(message.header.index);
    let specs = message.attributes.into_iter().filter_map(|attribute| match attribute {
        LinkAttribute::AfSpecBridge(spec) => Some(spec),
        _ => None,
    });
    let infos = specs.flatten().filter_map(|spec| match spec {
        AfSpecBridge::VlanInfo(info) => Some(info),
        _ => None,
    });
    ranges(link, infos)
}

fn ranges(link: LinkIndex, infos: impl Iterator<Item = BridgeVlanInfo>) -> Vec<Vlans> {
    let (mut found, mut begin) = (Vec::new(), None);
    for info in infos {
        if info.flags.contains(BridgeVlanInfoFlags::RangeBegin) {
            begin = Some(info.vid);
            continue;
        }
        found.push(Vlans {
            link,
            range: begin.take().unwrap_or(info.vid)..=info.vid,
            pvid: info.flags.contains(BridgeVlanInfoFlags::Pvid),
            untagged: info.flags.contains(BridgeVlanInfoFlags::Untagged),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::{BridgeVlanInfo, BridgeVlanInfoFlags as Flags};

    use super::{Vlans, ranges};
    use crate::link::LinkIndex;

    #[test]
    fn joins_range_ends() {
        let link = LinkIndex::from(3);
        let native = Flags::Pvid | Flags::Untagged;
        let infos = [(1, native), (100, Flags::RangeBegin), (199, Flags::RangeEnd), (300, Flags::empty())];
        let found = ranges(link, infos.into_iter().map(|(vid, flags)| BridgeVlanInfo { vid, flags }));
        let of = |range, pvid| Vlans { link, range, pvid, untagged: pvid };
        assert_eq!(found, [of(1..=1, true), of(100..=199, false), of(300..=300, false)]);
    }
}
