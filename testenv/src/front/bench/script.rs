//! The floor's messages, prepared: what an attachment to a bridge is to the kernel, with nothing left to look up.
//! The format is told in `bin/floor.rs`.

use std::net::Ipv4Addr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage::{self, DelLink, NewAddress, NewLink, NewRoute, SetLink};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::contender::{FLOOR_SET, FLOOR_TABLE};

const HOST: u8 = 0;
const CONTAINER: u8 = 1;
const NFTABLES: u8 = 2;
/// What `floor` opens the container's namespace as.
const NETNS_FD: i32 = 3;
/// The container's link has this index: known beforehand, so that it need not be asked for.
const PEER_INDEX: u32 = 20;
const EXCLUSIVE: u16 = NLM_F_CREATE | NLM_F_EXCL;

pub(super) struct Attachment {
    pub(super) name: String,
    pub(super) bridge: u32,
    pub(super) index: u32,
    pub(super) address: Ipv4Addr,
    pub(super) gateway: Ipv4Addr,
    pub(super) masquerade: bool,
}

pub(super) fn add(of: &Attachment) -> anyhow::Result<Vec<u8>> {
    let mut end = LinkMessageBuilder::<LinkUnspec>::new().name("eth0".to_string()).build();
    end.header.index = PEER_INDEX;
    end.attributes.push(LinkAttribute::NetNsFd(NETNS_FD));
    let mut pair = LinkVeth::new(&of.name, "eth0")
        .set_info_data(InfoData::Veth(InfoVeth::Peer(end)))
        .controller(of.bridge)
        .build();
    pair.header.index = of.index;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(of.gateway).build();
    let finish = LinkUnspec::new_with_index(of.index)
        .append_extra_attribute(LinkAttribute::IfAlias(format!("floor:{}", of.name)))
        .up();
    let mut script = part(HOST, &[(NewLink(pair), EXCLUSIVE)]);
    script.extend(part(
        CONTAINER,
        &[
            (SetLink(LinkUnspec::new_with_index(PEER_INDEX).up().build()), 0),
            (NewAddress(address(of)), EXCLUSIVE),
            (NewRoute(route), EXCLUSIVE),
        ],
    ));
    script.extend(part(HOST, &[(SetLink(finish.build()), 0)]));
    if of.masquerade {
        script.extend(element(NFT_NEWSETELEM, NLM_F_CREATE, of.address));
    }
    Ok(script)
}

pub(super) fn del(of: &Attachment) -> Vec<u8> {
    let mut link = LinkMessage::default();
    link.header.index = of.index;
    let mut script = Vec::new();
    if of.masquerade {
        script.extend(element(NFT_DELSETELEM, 0, of.address));
    }
    script.extend(part(HOST, &[(DelLink(link), 0)]));
    script
}

fn address(of: &Attachment) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = PEER_INDEX;
    message.header.prefix_len = 16;
    message.header.family = netlink_packet_route::AddressFamily::Inet;
    let ip = of.address.into();
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

/// One part of a script: messages that go out in one call, each to be acknowledged.
fn part(place: u8, messages: &[(RouteNetlinkMessage, u16)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (message, flags) in messages {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message.clone()));
        message.finalize();
        let start = bytes.len();
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..]);
    }
    framed(place, messages.len(), &bytes)
}

fn framed(place: u8, acks: usize, bytes: &[u8]) -> Vec<u8> {
    let acks = u8::try_from(acks).expect("a part is a handful of messages");
    let length = u32::try_from(bytes.len()).expect("a part is short");
    [&[place, acks], length.to_le_bytes().as_slice(), bytes].concat()
}

// linux/netfilter/nfnetlink.h and nf_tables.h.
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_NEWSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 12;
const NFT_DELSETELEM: u16 = NFNL_SUBSYS_NFTABLES << 8 | 14;
const NFPROTO_INET: u8 = 1;
const NESTED: u16 = 1 << 15;

/// A batch that adds or deletes one element of the floor's set.
fn element(kind: u16, flags: u16, key: Ipv4Addr) -> Vec<u8> {
    let value = attribute(1, &key.octets());
    let element = attribute(1 | NESTED, &attribute(1 | NESTED, &value));
    let body = [
        attribute(1, format!("{FLOOR_TABLE}\0").as_bytes()),
        attribute(2, format!("{FLOOR_SET}\0").as_bytes()),
        attribute(3 | NESTED, &element),
    ];
    let batch = [
        message(NFNL_MSG_BATCH_BEGIN, 0, [0, 0, 0, 10], &[]),
        message(kind, NLM_F_ACK | flags, [NFPROTO_INET, 0, 0, 0], &body.concat()),
        message(NFNL_MSG_BATCH_END, 0, [0, 0, 0, 10], &[]),
    ];
    framed(NFTABLES, 1, &batch.concat())
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
