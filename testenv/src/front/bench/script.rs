//! The floor's scripts: netlink messages prepared, in the format told in `bin/floor.rs`. Knows no mode.

use std::net::Ipv4Addr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;

const SYSCTLS: u8 = 3;
/// Added to the place by whoever asks.
const QUESTION: u8 = 4;
/// What `floor` opens the container's namespace as.
pub(super) const NETNS_FD: i32 = 3;

/// Where messages go.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Host = 0,
    Container = 1,
    Nftables = 2,
}

/// One part of a script: messages that go out in one call, of which the last is answered, and every one that fails.
pub(super) fn part(place: Place, messages: &[(RouteNetlinkMessage, u16)]) -> Vec<u8> {
    framed(place as u8, &serialized(messages))
}

/// Settings under /proc/sys that are set to 1 in the container.
pub(super) fn sysctls(paths: &[&str]) -> Vec<u8> {
    let files: String = paths.iter().map(|path| format!("/proc/sys/{path}\n")).collect();
    framed(SYSCTLS, files.as_bytes())
}

/// A question that may be answered by "there is none".
pub(super) fn question(place: Place, message: RouteNetlinkMessage) -> Vec<u8> {
    framed(place as u8 + QUESTION, &serialized(&[(message, 0)]))
}

/// A question for everything there is.
pub(super) fn dump(place: Place, message: RouteNetlinkMessage) -> Vec<u8> {
    framed(place as u8 + QUESTION, &serialized(&[(message, NLM_F_DUMP)]))
}

fn serialized(messages: &[(RouteNetlinkMessage, u16)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, (message, flags)) in messages.iter().enumerate() {
        let is_last = number + 1 == messages.len();
        let is_answered = *flags == NLM_F_DUMP
            || matches!(message, RouteNetlinkMessage::GetLink(_) | RouteNetlinkMessage::GetRoute(_));
        let acknowledge = is_last && !is_answered;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags | if acknowledge { NLM_F_ACK } else { 0 };
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message.clone()));
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }
    bytes
}

/// A batch that adds `key` to a set of the family inet.
pub(super) fn add_element(table: &str, set: &str, key: Ipv4Addr) -> Vec<u8> {
    element(NFT_NEWSETELEM, NLM_F_CREATE, [table, set], key)
}

/// A batch that takes `key` out of a set of the family inet.
pub(super) fn delete_element(table: &str, set: &str, key: Ipv4Addr) -> Vec<u8> {
    element(NFT_DELSETELEM, 0, [table, set], key)
}

fn framed(place: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("a part is short");
    [&[place], length.to_le_bytes().as_slice(), bytes].concat()
}

fn element(kind: u16, flags: u16, [table, set]: [&str; 2], key: Ipv4Addr) -> Vec<u8> {
    let value = attribute(1, &key.octets());
    let element = attribute(1 | NESTED, &attribute(1 | NESTED, &value));
    let body = [
        attribute(1, format!("{table}\0").as_bytes()),
        attribute(2, format!("{set}\0").as_bytes()),
        attribute(3 | NESTED, &element),
    ];
    let batch = [
        message(NFNL_MSG_BATCH_BEGIN, 0, [0, 0, 0, 10], &[]),
        message(kind, NLM_F_ACK | flags, [NFPROTO_INET, 0, 0, 0], &body.concat()),
        message(NFNL_MSG_BATCH_END, 0, [0, 0, 0, 10], &[]),
    ];
    framed(Place::Nftables as u8, &batch.concat())
}

/// `nfgenmsg` is family, version, and the subsystem in network order where it counts.
fn message(kind: u16, flags: u16, nfgenmsg: [u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(20 + body.len()).expect("a message is short");
    let (kind, flags) = (kind.to_le_bytes(), (NLM_F_REQUEST | flags).to_le_bytes());
    [length.to_le_bytes().as_slice(), &kind, &flags, &[0; 8], &nfgenmsg, body].concat()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("an attribute is short");
    let mut bytes = [length.to_le_bytes().as_slice(), &kind.to_le_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

// linux/netfilter/nfnetlink.h and nf_tables.h.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_NEWSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;
const NFT_DELSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 14;
const NFPROTO_INET: u8 = 1;
const NESTED: u16 = 1 << 15;
