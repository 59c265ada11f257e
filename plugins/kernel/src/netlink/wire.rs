//! The netlink message format: writing requests, reading what comes back. Knows no socket.

use std::borrow::Cow;

use netlink_packet_core::{
    DecodeError, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkSerializable, NlasIterator,
    ParseableParametrized,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use crate::error::{Error, Result};

/// Appends `message` with its header, padded as the next one needs it.
pub(super) fn push(buffer: &mut Vec<u8>, message: &RouteNetlinkMessage, flags: u16, sequence: u32) {
    let start = buffer.len();
    let length = HEADER + message.buffer_len();
    buffer.resize(start + length.next_multiple_of(ALIGN), 0);
    let mut header = NetlinkBuffer::new(&mut buffer[start..start + length]);
    header.set_length(u32::try_from(length).expect("a message is a few hundred bytes"));
    header.set_message_type(message.message_type());
    header.set_flags(flags);
    header.set_sequence_number(sequence);
    message.serialize(&mut buffer[start + HEADER..start + length]);
}

/// One message that the kernel sent.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
    payload: &'a [u8],
}

/// The messages of one datagram. Ends after the first that is malformed.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Result<Incoming<'_>, DecodeError>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let current = datagram;
        Some(NetlinkBuffer::new_checked(current).inspect_err(|_| datagram = &[]).map(|buffer| {
            let length = usize::try_from(buffer.length()).map_or(current.len(), |l| l.min(current.len()));
            datagram = current.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
            Incoming {
                kind: buffer.message_type(),
                flags: buffer.flags(),
                sequence: buffer.sequence_number(),
                port: buffer.port_number(),
                payload: &current[HEADER..length],
            }
        }))
    })
}

impl Incoming<'_> {
    /// The object this message describes.
    pub(super) fn decode(&self, act: &str) -> Result<RouteNetlinkMessage> {
        let of_link =
            matches!(self.kind, RTM_NEWLINK | RTM_DELLINK) && self.payload.first() == Some(&AF_UNSPEC);
        let payload = if of_link { essential(self.payload) } else { Cow::Borrowed(self.payload) };
        RouteNetlinkMessage::parse_with_param(&*payload, self.kind).map_err(|err| Error::malformed(act, err))
    }

    /// What an acknowledgement (`NLMSG_ERROR`) or the end of a dump (`NLMSG_DONE`) says.
    pub(super) fn outcome(&self, act: &str) -> Result<()> {
        let code = self.payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        if code == 0 {
            return Ok(());
        }
        Err(Error::with_extack(act, Errno::from_raw(code.wrapping_neg()), self.explanation()))
    }

    /// `NLMSGERR_ATTR_MSG`: behind the code and, in an acknowledgement, behind the header of the request, or the whole
    /// request where the kernel did not leave it out (include/uapi/linux/netlink.h, struct nlmsgerr).
    fn explanation(&self) -> Option<String> {
        let skip = match self.kind {
            NLMSG_DONE => CODE,
            NLMSG_ERROR if self.flags & NLM_F_CAPPED != 0 => CODE + HEADER,
            NLMSG_ERROR => {
                let request = u32::from_ne_bytes(*self.payload.get(CODE..)?.first_chunk()?);
                CODE + usize::try_from(request).ok()?.next_multiple_of(ALIGN)
            }
            _ => return None,
        };
        NlasIterator::new(self.payload.get(skip..)?).map_while(Result::ok).find_map(|attribute| {
            let text = (attribute.kind() == NLMSGERR_ATTR_MSG).then(|| attribute.value())?;
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            Some(String::from_utf8_lossy(text).into_owned()).filter(|text| !text.is_empty())
        })
    }
}

/// A link's description without what nobody here reads, which is most of it, and the dearest to decode. A malformed one is
/// left for the decoder to refuse.
fn essential(link: &[u8]) -> Cow<'_, [u8]> {
    let Some((header, attributes)) = link.split_at_checked(LINK_HEADER) else { return Cow::Borrowed(link) };
    let mut kept = Vec::with_capacity(KEPT);
    kept.extend_from_slice(header);
    let sound = each(attributes, |kind, attribute| match kind {
        LINKINFO => nest(&mut kept, attribute, info),
        kind if READ.contains(&kind) => {
            kept.extend_from_slice(attribute);
            true
        }
        _ => true,
    });
    if sound { Cow::Owned(kept) } else { Cow::Borrowed(link) }
}

/// `IFLA_LINKINFO`: of a bridge and of its ports only what is read, of others all.
fn info(kept: &mut Vec<u8>, infos: &[u8]) -> bool {
    let mut of_bridge = false;
    each(infos, |kind, attribute| {
        let read: &[u16] = match kind {
            INFO_KIND | INFO_SLAVE_KIND => {
                of_bridge = attribute[NLA_HEADER..].starts_with(BRIDGE);
                &[]
            }
            INFO_DATA if of_bridge => &READ_OF_BRIDGE,
            INFO_SLAVE_DATA if of_bridge => &READ_OF_PORT,
            _ => &[],
        };
        if read.is_empty() {
            kept.extend_from_slice(attribute);
            return true;
        }
        nest(kept, attribute, |kept, settings| {
            each(settings, |kind, setting| {
                if read.contains(&kind) {
                    kept.extend_from_slice(setting);
                }
                true
            })
        })
    })
}

/// Appends `attribute` with what `content` keeps of it.
fn nest(kept: &mut Vec<u8>, attribute: &[u8], content: impl FnOnce(&mut Vec<u8>, &[u8]) -> bool) -> bool {
    let start = kept.len();
    let length = usize::from(u16::from_ne_bytes([attribute[0], attribute[1]]));
    kept.extend_from_slice(&attribute[..NLA_HEADER]);
    if !content(kept, &attribute[NLA_HEADER..length]) {
        return false;
    }
    let Ok(length) = u16::try_from(kept.len() - start) else { return false };
    kept[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    true
}

/// Hands out each attribute with its padding, as long as that is there. False where one is malformed or refused.
fn each(mut rest: &[u8], mut take: impl FnMut(u16, &[u8]) -> bool) -> bool {
    while let [low, high, kind_low, kind_high, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        if length < NLA_HEADER || length > rest.len() {
            return false;
        }
        let (attribute, tail) = rest.split_at(length.next_multiple_of(ALIGN).min(rest.len()));
        if !take(u16::from_ne_bytes([kind_low, kind_high]) & NLA_TYPE_MASK, attribute) {
            return false;
        }
        rest = tail;
    }
    rest.is_empty()
}

const HEADER: usize = 16;
const ALIGN: usize = 4;
const CODE: usize = 4;
const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const AF_UNSPEC: u8 = 0;
/// Bytes of a usual link that stay of some 1,500.
const KEPT: usize = 512;
/// `struct ifinfomsg`
const LINK_HEADER: usize = 16;
const NLA_HEADER: usize = 4;
const NLA_TYPE_MASK: u16 = 0x3fff;
/// What `link::decode` reads, of include/uapi/linux/if_link.h: `IFLA_ADDRESS`, `_IFNAME`, `_MTU`, `_LINK`, `_MASTER`, `_TXQLEN`,
/// `_OPERSTATE`, `_IFALIAS`, `_GROUP`, `_PROMISCUITY`, `_LINK_NETNSID`, `_PROP_LIST`, `_PERM_ADDRESS`,
/// `_PARENT_DEV_NAME`. Statistics and every setting of IPv4 and IPv6 are among the rest.
const READ: [u16; 14] = [1, 3, 4, 5, 10, 13, 16, 20, 27, 30, 37, 52, 54, 56];
/// `IFLA_LINKINFO`, and `IFLA_INFO_*` in it.
const LINKINFO: u16 = 18;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const BRIDGE: &[u8] = b"bridge\0";
/// `IFLA_BR_AGEING_TIME`, `_VLAN_FILTERING`.
const READ_OF_BRIDGE: [u16; 2] = [4, 7];
/// `IFLA_BRPORT_MODE`, `_LEARNING`, `_NEIGH_SUPPRESS`, `_ISOLATED`.
const READ_OF_PORT: [u16; 4] = [4, 8, 32, 33];

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR};
    use netlink_packet_route::{RouteNetlinkMessage, link::LinkMessage};

    use super::{NLM_F_CAPPED, essential, messages, push};

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + payload.len()).unwrap();
        let mut bytes =
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[7; 8], payload].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn outcome(kind: u16, flags: u16, payload: &[u8]) -> Option<String> {
        let bytes = message(kind, flags, payload);
        let only = messages(&bytes).next().unwrap().unwrap();
        only.outcome("act").err().map(|err| err.to_string())
    }

    #[test]
    fn finds_the_explanation_behind_the_request() {
        let code = (-22_i32).to_ne_bytes();
        let request = message(16, 0, &[1, 2, 3, 4, 5]);
        let offset = [8, 0, 2, 0, 16, 0, 0, 0];
        let text = [&[11, 0, 1, 0][..], b"no such", &[0]].concat();
        let plain = Some("act: Invalid argument (os error 22)".to_owned());
        let explained = Some("act: Invalid argument (os error 22): no such".to_owned());

        assert_eq!(outcome(NLMSG_ERROR, 0, &[&[0; 4][..], &request[..16]].concat()), None);
        assert_eq!(outcome(NLMSG_ERROR, 0, &[&code[..], &request].concat()), plain);
        assert_eq!(outcome(NLMSG_ERROR, 0, &[&code[..], &request, &offset, &text].concat()), explained);
        let capped = [&code[..], &request[..16], &offset, &text].concat();
        assert_eq!(outcome(NLMSG_ERROR, NLM_F_CAPPED, &capped), explained);
        assert_eq!(outcome(NLMSG_DONE, 0, &[&code[..], &text].concat()), explained);
        assert_eq!(outcome(NLMSG_DONE, 0, &[0; 4]), None);
        assert_eq!(outcome(NLMSG_DONE, 0, &[]), None);
    }

    #[test]
    fn takes_any_bytes_for_an_answer() {
        let whole = message(NLMSG_ERROR, 0, &[&(-22_i32).to_ne_bytes()[..], &[0xff; 40]].concat());
        for length in 0..whole.len() {
            for incoming in messages(&whole[..length]) {
                assert!(incoming.is_err(), "{length}");
            }
        }
        for (at, value) in (0..whole.len()).flat_map(|at| [0, 1, 15, 17, 0xff].map(|value| (at, value))) {
            let mut broken = whole.clone();
            broken[at] = value;
            for incoming in messages(&broken).map_while(Result::ok) {
                let _ = (incoming.outcome("act"), incoming.decode("act"));
            }
        }
    }

    #[test]
    fn leaves_out_what_nobody_reads() {
        let (header, mtu, statistics) = ([0; 16], [8, 0, 4, 0, 220, 5, 0, 0], [8, 0, 7, 0, 1, 1, 1, 1]);
        let check = |parts: &[&[u8]], expected: &[&[u8]]| {
            assert_eq!(*essential(&parts.concat()), expected.concat(), "{parts:?}");
        };
        check(&[&header, &statistics, &mtu, &statistics], &[&header, &mtu]);
        let unknown = [8, 0, 99, 0, 1, 1, 1, 1];
        check(&[&header, &unknown, &mtu], &[&header, &mtu]);
        // A name of two bytes, padded and, at the end, not.
        let name = [7, 0, 3, 0, b'a', b'b', 0];
        check(&[&header, &name, &[0], &statistics], &[&header, &name, &[0]]);
        check(&[&header, &statistics, &name], &[&header, &name]);
        check(&[&header], &[&header]);
        for broken in [&[3, 0, 7, 0][..], &[9, 0, 7, 0, 1], &[4, 0], &[0, 0, 0, 0]] {
            check(&[&header, &statistics, broken], &[&header, &statistics, broken]);
        }
        check(&[&header[..15]], &[&header[..15]]);
    }

    #[test]
    fn leaves_out_most_settings_of_bridges() {
        let attribute = |kind: u16, content: &[u8]| {
            let length = u16::try_from(4 + content.len()).unwrap();
            let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), content].concat();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let check = |infos: &[Vec<u8>], expected: &[Vec<u8>]| {
            let whole = |infos: &[Vec<u8>]| [&[0; 16][..], &attribute(18 | 0x8000, &infos.concat())].concat();
            assert_eq!(*essential(&whole(infos)), whole(expected), "{infos:?}");
        };
        let (read, unread) = (attribute(4, &[1]), attribute(99, &[1, 2]));
        let (bridge, veth) = (attribute(1, b"bridge\0"), attribute(1, b"veth\0"));
        let port = attribute(4, b"bridge\0");
        let both = |kind| attribute(kind, &[&read[..], &unread].concat());
        check(&[bridge.clone(), both(2)], &[bridge.clone(), attribute(2, &read)]);
        check(&[veth.clone(), both(2)], &[veth.clone(), both(2)]);
        check(&[port.clone(), both(5), veth.clone()], &[port.clone(), attribute(5, &read), veth]);
        check(
            &[port, both(5), bridge.clone(), attribute(2, &unread)],
            &[attribute(4, b"bridge\0"), attribute(5, &read), bridge.clone(), attribute(2, &[])],
        );
        // What is malformed inside stays as it came.
        let broken = [bridge, attribute(2, &[9, 0, 4, 0])];
        check(&broken, &broken);
    }

    #[test]
    fn pads_messages_apart() {
        let mut buffer = Vec::new();
        let mut odd = LinkMessage::default();
        odd.attributes.push(netlink_packet_route::link::LinkAttribute::IfName("abcd".into()));
        for sequence in [1, 2] {
            push(&mut buffer, &RouteNetlinkMessage::GetLink(odd.clone()), 5, sequence);
        }
        let found: Vec<_> = messages(&buffer).map(Result::unwrap).collect();
        assert_eq!(
            found.iter().map(|m| (m.kind, m.flags, m.sequence)).collect::<Vec<_>>(),
            [(18, 5, 1), (18, 5, 2)]
        );
        assert_eq!(found[1].decode("act").unwrap(), RouteNetlinkMessage::GetLink(odd));
    }
}
