//! The kernel's echo of our own writes to a forwarding table, told from what others do there: by bytes, since at 60,000 peers
//! decoding it would take as long as the writing. Knows no socket.

use std::{cmp::Ordering, net::IpAddr};

use kernel::{link::LinkIndex, mac::MacAddr};
use netlink_packet_core::NlasIterator;

use crate::diff::Change;

/// Whether a message of type `kind` says nothing but that one of `written` is done: changes in the order of
/// [`crate::diff::diff`], where forwarding entries are sorted and come after neighbours.
pub(super) fn is_echo(kind: u16, payload: &[u8], written: &[Change], device: LinkIndex) -> bool {
    if kind != RTM_NEWNEIGH || payload.first() != Some(&AF_BRIDGE) || written.is_empty() {
        return false;
    }
    let index = payload.get(NDM_IFINDEX..).and_then(|bytes| bytes.first_chunk());
    if index.map(|bytes| u32::from_ne_bytes(*bytes)) != Some(device.into()) {
        return false;
    }
    entry(payload).is_some_and(|(mac, dst)| {
        let place = written.binary_search_by(|change| match change {
            Change::SetNeighbour { .. } => Ordering::Less,
            Change::SetFdb { mac: other, .. } => other.cmp(&mac),
            Change::SetRoute { .. }
            | Change::RemoveRoute { .. }
            | Change::RemoveFdb { .. }
            | Change::RemoveNeighbour { .. } => Ordering::Greater,
        });
        place.is_ok_and(|place| written[place] == Change::SetFdb { mac, dst })
    })
}

/// The MAC and where it is, of an entry that has nothing odd (a port, an identifier, a link of its own).
fn entry(payload: &[u8]) -> Option<(MacAddr, IpAddr)> {
    let (mut mac, mut dst) = (None, None);
    for attribute in NlasIterator::new(payload.get(NDMSG..)?).map_while(Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            NDA_LLADDR => mac = value.first_chunk().map(|bytes| MacAddr(*bytes)),
            NDA_DST if value.len() == 4 => dst = value.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
            NDA_DST => dst = value.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
            NDA_PORT | NDA_VNI | NDA_IFINDEX => return None,
            _ => {}
        }
    }
    Some((mac?, dst?))
}

// include/uapi/linux/neighbour.h, rtnetlink.h, socket.h
const RTM_NEWNEIGH: u16 = 28;
const AF_BRIDGE: u8 = 7;
/// struct ndmsg, and where its link's index is.
const NDMSG: usize = 12;
const NDM_IFINDEX: usize = 4;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NDA_PORT: u16 = 6;
const NDA_VNI: u16 = 7;
const NDA_IFINDEX: u16 = 8;

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use netlink_packet_route::RouteNetlinkMessage;

    use super::*;

    #[test]
    fn only_what_was_written_is_an_echo() {
        let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
        let dst = |last| IpAddr::from([192, 0, 2, last]);
        let written = [
            Change::SetNeighbour { ip: dst(1), mac: mac(9) },
            Change::SetFdb { mac: mac(2), dst: dst(2) },
            Change::SetFdb { mac: mac(3), dst: dst(3) },
            Change::RemoveFdb { mac: mac(1) },
        ];
        let message = |index: u32, of: MacAddr, behind: IpAddr| {
            let entry = kernel::fdb::Entry::behind(LinkIndex::from(index), of, behind);
            let request = kernel::fdb::replace(&entry);
            let RouteNetlinkMessage::NewNeighbour(message) = request.message() else { panic!("{request:?}") };
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);
            bytes
        };
        let check = |index, of, behind, expected| {
            let bytes = message(index, of, behind);
            let device = LinkIndex::from(7);
            assert_eq!(is_echo(RTM_NEWNEIGH, &bytes, &written, device), expected, "{index} {of} {behind}");
            assert!(!is_echo(RTM_NEWNEIGH + 1, &bytes, &written, device));
            for cut in 0..bytes.len() {
                let _ = is_echo(RTM_NEWNEIGH, &bytes[..cut], &written, device);
            }
        };
        check(7, mac(2), dst(2), true);
        check(7, mac(3), dst(3), true);
        check(7, mac(3), dst(2), false);
        check(7, mac(1), dst(1), false);
        check(7, mac(4), dst(4), false);
        check(8, mac(2), dst(2), false);
    }
}
