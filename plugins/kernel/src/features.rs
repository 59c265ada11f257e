//! A link's offload features, listed and switched off as `ethtool -k` and `-K` do: generic netlink, family `ethtool`
//! (Documentation/networking/ethtool-netlink.rst). Knows no other request of that family.

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};
use nix::errno::Errno;

use crate::{
    error::{Error, Result},
    link::Dev,
};

/// Switches `feature` off, by the name that `ethtool -k` shows ([`TX_CHECKSUM`]); accepts that it is off, or fixed. For the
/// namespace of the calling thread.
pub fn switch_off(dev: &Dev, feature: &str) -> Result<()> {
    let act = format!("switch {feature} off on {}", dev.name);
    let (socket, family) = open(&act)?;
    let index = DefaultNla::new(HEADER_DEV_INDEX, u32::from(dev.index).to_ne_bytes().to_vec());
    let flags = DefaultNla::new(HEADER_FLAGS, OMIT_REPLY.to_ne_bytes().to_vec());
    // A bit that is named and has no value is one to clear.
    let bit = DefaultNla::new(BIT_NAME, [feature.as_bytes(), &[0]].concat());
    let bits = nest(BITSET_BITS, &[nest(BITS_BIT, &[bit])]);
    let attributes = [nest(FEATURES_HEADER, &[index, flags]), nest(FEATURES_WANTED, &[bits])];
    ask(&socket, family, FEATURES_SET, &attributes, &act).map(drop)
}

/// The names of those that are on, in order. For the namespace of the calling thread.
pub fn active(dev: &Dev) -> Result<Vec<String>> {
    let act = format!("list the features of {}", dev.name);
    let (socket, family) = open(&act)?;
    let index = DefaultNla::new(HEADER_DEV_INDEX, u32::from(dev.index).to_ne_bytes().to_vec());
    let answer = ask(&socket, family, FEATURES_GET, &[nest(FEATURES_HEADER, &[index])], &act)?;
    // A list without a mask: what is in it is on.
    let bits = inner(answer.get(GENL_HEADER..).unwrap_or_default(), FEATURES_ACTIVE)
        .and_then(|set| inner(&set, BITSET_BITS))
        .ok_or_else(|| Error::malformed(&act, "an answer without features"))?;
    let bits = NlasIterator::new(&bits[..]).map_while(std::result::Result::ok);
    let name = |bit: &[u8]| {
        let mut text = inner(bit, BIT_NAME)?;
        text.retain(|byte| *byte != 0);
        String::from_utf8(text).ok()
    };
    let mut names: Vec<_> = bits.filter_map(|bit| name(bit.value())).collect();
    names.sort();
    Ok(names)
}

/// A socket, and the number of the family.
fn open(act: &str) -> Result<(Socket, u16)> {
    let fail = |err| Error::new(act, err);
    let mut socket = Socket::new(NETLINK_GENERIC).map_err(fail)?;
    socket.bind_auto().map_err(fail)?;
    let name = DefaultNla::new(CTRL_ATTR_FAMILY_NAME, b"ethtool\0".to_vec());
    let answer = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &[name], act)?;
    let family = inner(answer.get(GENL_HEADER..).unwrap_or_default(), CTRL_ATTR_FAMILY_ID)
        .and_then(|value| Some(u16::from_ne_bytes(*value.first_chunk()?)))
        .ok_or_else(|| Error::malformed(act, "a family without a number"))?;
    Ok((socket, family))
}

/// The value of the first attribute of that kind.
fn inner(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut all = NlasIterator::new(attributes).map_while(std::result::Result::ok);
    all.find(|attribute| attribute.kind() == kind).map(|attribute| attribute.value().to_vec())
}

/// Sends one request and reads its answer, empty where that is but an acknowledgement.
fn ask(socket: &Socket, family: u16, command: u8, attributes: &[DefaultNla], act: &str) -> Result<Vec<u8>> {
    let fail = |err| Error::new(act, err);
    let length = HEADER + GENL_HEADER + attributes.buffer_len();
    let mut request = vec![0; length];
    let mut header = NetlinkBuffer::new(&mut request[..]);
    header.set_length(u32::try_from(length).expect("a request is a hundred bytes"));
    header.set_message_type(family);
    header.set_flags(NLM_F_REQUEST | NLM_F_ACK);
    request[HEADER..HEADER + 2].copy_from_slice(&[command, GENL_VERSION]);
    attributes.emit(&mut request[HEADER + GENL_HEADER..]);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0).map_err(fail)?;
    let mut answer = Vec::new();
    loop {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        socket.recv(&mut datagram, 0).map_err(fail)?;
        let message = NetlinkBuffer::new_checked(&datagram[..]).map_err(|err| Error::malformed(act, err))?;
        let end = usize::try_from(message.length()).unwrap_or(usize::MAX).min(datagram.len());
        let payload = datagram.get(HEADER..end).unwrap_or_default();
        if message.message_type() != NLMSG_ERROR {
            answer = payload.to_vec();
            continue;
        }
        return match payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code)) {
            0 => Ok(answer),
            code => Err(Error::new(act, Errno::from_raw(code.wrapping_neg()))),
        };
    }
}

fn nest(kind: u16, inner: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; inner.buffer_len()];
    inner.emit(&mut bytes);
    DefaultNla::new(kind | NLA_F_NESTED, bytes)
}

/// Checksums of whatever a packet holds, written by the device that sends it: NETIF_F_HW_CSUM.
pub const TX_CHECKSUM: &str = "tx-checksum-ip-generic";

const HEADER: usize = 16;
/// struct genlmsghdr (include/uapi/linux/genetlink.h).
const GENL_HEADER: usize = 4;
const GENL_VERSION: u8 = 1;
const DATAGRAM: usize = 8192;
// include/uapi/linux/genetlink.h
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// include/uapi/linux/ethtool_netlink.h
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const HEADER_DEV_INDEX: u16 = 1;
const HEADER_FLAGS: u16 = 3;
const OMIT_REPLY: u32 = 2;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
