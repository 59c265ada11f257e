//! Tracked connections: finding and forgetting them. Knows no rule that made or translated them.
//!
//! A translated UDP or SCTP flow goes where its entry says, whatever the rules have become: until the entry of a
//! published port's former life is gone, its packets don't reach the new one. TCP heals itself: a reset ends the entry.

mod filter;

use std::net::IpAddr;

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Tuple},
};
use nix::errno::Errno;

pub use self::filter::Filter;
use crate::{
    error::{Error, Result},
    netfilter::{Netfilter, Refusal},
    netns::Netns,
};

/// The connections of one network namespace: the one in which it was opened.
#[derive(Debug)]
pub struct Conntrack {
    socket: Netfilter,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// IP protocol number.
    pub protocol: u8,
    /// As its first packet came.
    pub original: Ends,
    /// As its answers come: what translation makes of the other direction shows here.
    pub reply: Ends,
    /// The zone it is tracked in; 0 unless a rule says otherwise.
    pub zone: u16,
    /// What the kernel knows it by.
    key: Vec<ConntrackAttribute>,
}

/// Where packets of one direction come from and go to. Ports are 0 where the protocol has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
}

impl Conntrack {
    /// Opens the connections of the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let socket = Netfilter::open().map_err(|e| Error::new("open netfilter socket", e))?;
        Ok(Self { socket })
    }

    /// Opens the connections of `netns`; the calling thread stays where it is.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.visit(Self::open)?
    }

    /// The connections that match. The kernel walks its whole table (size: net.netfilter.nf_conntrack_buckets), but from
    /// 5.8 on only hands out what matches.
    pub fn list(&mut self, filter: &Filter) -> Result<Vec<Flow>> {
        let mut flows = Vec::new();
        for family in filter.families() {
            let message = plain(IPCTNL_MSG_CT_GET, filter.attributes());
            let answers = match self.socket.dump(&request(family, message)) {
                // A kernel that knows filters, but not this one.
                Err(e) if is_unknown_filter(&e) => {
                    self.socket.dump(&request(family, ConntrackMessage::Get(vec![])))
                }
                answers => answers,
            };
            let answers = answers.map_err(|e| e.into_error(format!("list connections with {filter}")))?;
            flows.extend(answers.into_iter().filter_map(Flow::parse).filter(|flow| filter.matches(flow)));
        }
        Ok(flows)
    }

    /// Forgets the connections that match: the next packet of each is a first one again.
    ///
    /// Linux 6.8 and later do this in one request, which passes over the empty part of the table in less than a
    /// millisecond where [`Self::list`] takes tens. Earlier ones get a list, and a request for each connection of it.
    ///
    /// # Errors
    /// Also for a filter that says nothing: it would mean every connection of the host.
    pub fn delete(&mut self, filter: &Filter) -> Result<()> {
        if *filter == Filter::default() {
            return Err(Error::new("delete connections with no condition", Errno::EINVAL));
        }
        if self.flush(filter)? {
            return Ok(());
        }
        for flow in self.list(filter)? {
            self.forget(&flow)?;
        }
        Ok(())
    }

    /// False when this kernel cannot flush by this filter. One that does not know filters must not take the request for
    /// "flush all": it takes the tuple beside the filter for that of one connection, finds it incomplete and refuses.
    fn flush(&mut self, filter: &Filter) -> Result<bool> {
        let Some(attributes) = filter.whole() else { return Ok(false) };
        for family in filter.families() {
            // Only with a version the family counts (ctnetlink_del_conntrack).
            let header = NetfilterHeader::new(family, 1, 0);
            let message = NetfilterMessage::new(header, plain(IPCTNL_MSG_CT_DELETE, attributes.clone()));
            let Err(refusal) = self.socket.execute(&message) else { continue };
            if is_unknown_filter(&refusal) {
                return Ok(false);
            }
            return Err(refusal.into_error(format!("delete connections with {filter}")));
        }
        Ok(true)
    }

    /// Forgets this one connection; false when it has ended meanwhile. One that came after it with the same addresses is
    /// left alone, since the key holds the entry's own number.
    pub fn forget(&mut self, flow: &Flow) -> Result<bool> {
        let family = if flow.original.source.is_ipv4() {
            NetfilterProtoFamily::IPv4
        } else {
            NetfilterProtoFamily::IPv6
        };
        let message = ConntrackMessage::Delete(flow.key.clone());
        match self.socket.execute(&request(family, message)) {
            Ok(()) => Ok(true),
            Err(e) if e.source.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(false),
            Err(e) => Err(e.into_error(format!("delete connection {flow}"))),
        }
    }
}

fn is_unknown_filter(refusal: &Refusal) -> bool {
    let errno = refusal.source.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENOENT))
}

fn plain(message_type: u8, attributes: Vec<DefaultNla>) -> NetfilterMessageInner {
    NetfilterMessageInner::Other { subsys: NetfilterSubsystem::Conntrack, message_type, attributes }
}

fn request(family: NetfilterProtoFamily, message: impl Into<NetfilterMessageInner>) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}

impl Flow {
    fn parse(answer: NetfilterMessage) -> Option<Self> {
        let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = answer.inner else {
            return None;
        };
        let (mut original, mut reply, mut zone) = (None, None, 0);
        let mut key = Vec::new();
        for attribute in attributes {
            match &attribute {
                ConntrackAttribute::CtaTupleOrig(tuple) => original = parse_tuple(tuple),
                ConntrackAttribute::CtaTupleReply(tuple) => reply = parse_tuple(tuple),
                ConntrackAttribute::Other(other) if other.kind() == CTA_ZONE => zone = parse_u16(other)?,
                ConntrackAttribute::Other(other) if other.kind() == CTA_ID => {}
                _ => continue,
            }
            if !matches!(attribute, ConntrackAttribute::CtaTupleReply(_)) {
                key.push(attribute);
            }
        }
        let ((protocol, original), (_, reply)) = (original?, reply?);
        Some(Self { protocol, original, reply, zone, key })
    }
}

fn parse_tuple(tuple: &[Tuple]) -> Option<(u8, Ends)> {
    let (mut source, mut destination, mut protocol) = (None, None, None);
    let (mut source_port, mut destination_port) = (0, 0);
    for part in tuple {
        match part {
            Tuple::Ip(addresses) => {
                for address in addresses {
                    match address {
                        IPTuple::SourceAddress(address) => source = Some(*address),
                        IPTuple::DestinationAddress(address) => destination = Some(*address),
                        _ => {}
                    }
                }
            }
            Tuple::Proto(parts) => {
                for part in parts {
                    match part {
                        ProtoTuple::Protocol(number) => protocol = Some(u8::from(*number)),
                        ProtoTuple::SourcePort(port) => source_port = *port,
                        ProtoTuple::DestinationPort(port) => destination_port = *port,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    let ends = Ends { source: source?, destination: destination?, source_port, destination_port };
    Some((protocol?, ends))
}

fn parse_u16(attribute: &DefaultNla) -> Option<u16> {
    let mut bytes = [0; 2];
    (attribute.value_len() == bytes.len()).then(|| attribute.emit_value(&mut bytes))?;
    Some(u16::from_be_bytes(bytes))
}

impl std::fmt::Display for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ends { source, destination, source_port, destination_port } = self.original;
        write!(f, "of protocol {} from {source} port {source_port} ", self.protocol)?;
        write!(f, "to {destination} port {destination_port}")
    }
}

/// `enum cntl_msg_types` and `enum ctattr_type`
const IPCTNL_MSG_CT_GET: u8 = 1;
const IPCTNL_MSG_CT_DELETE: u8 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
