//! Policy routing rules: which table is asked for which packet.

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    rule::{RuleAction, RuleAttribute, RuleFlags, RuleHeader, RuleMessage},
};

use crate::{
    error::Result,
    netlink::{Netlink, Request},
    route::Family,
};

/// A rule that sends matching packets to a table. What is `None` matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// IPv4 and IPv6 have rules of their own.
    pub family: Family,
    /// Rules are asked in ascending order. `None` when adding: before all but the first.
    pub priority: Option<u32>,
    /// The table to ask.
    pub table: u32,
    /// Source addresses.
    pub src: Option<IpNetwork>,
    /// Destination addresses.
    pub dst: Option<IpNetwork>,
    /// The link the packet came in by.
    pub iif: Option<String>,
    /// The link that a socket is bound to.
    pub oif: Option<String>,
    /// Firewall mark and the bits of it that count.
    pub mark: Option<(u32, u32)>,
    /// Take no route with a prefix of this length or shorter: 0 refuses default routes.
    pub suppress_prefix: Option<u32>,
    /// Match all packets but these.
    pub invert: bool,
    /// Who made it (`RTPROT_*`), 0 for unknown.
    pub protocol: u8,
}

impl Rule {
    /// Asks `table` for every packet, to be narrowed with struct update syntax.
    pub fn to_table(family: Family, table: u32) -> Self {
        Self {
            family,
            priority: None,
            table,
            src: None,
            dst: None,
            iif: None,
            oif: None,
            mark: None,
            suppress_prefix: None,
            invert: false,
            protocol: 0,
        }
    }
}

/// Adds a rule; it is an error if the same rule exists.
pub fn add(rule: &Rule) -> Request {
    Request::new(RouteNetlinkMessage::NewRule(encode(rule)), NLM_F_CREATE | NLM_F_EXCL, describe("add", rule))
}

/// Removes the first rule that agrees in everything given; accepts that there is none.
pub fn remove(rule: &Rule) -> Request {
    Request::new(RouteNetlinkMessage::DelRule(encode(rule)), 0, describe("remove", rule)).ok_if_missing()
}

fn describe(verb: &str, rule: &Rule) -> String {
    let mut text = format!("{verb} rule");
    for (word, network) in [("from", rule.src), ("to", rule.dst)] {
        if let Some(network) = network {
            text += &format!(" {word} {network}");
        }
    }
    for (word, name) in [("iif", &rule.iif), ("oif", &rule.oif)] {
        if let Some(name) = name {
            text += &format!(" {word} {name}");
        }
    }
    text + &format!(" to table {}", rule.table)
}

fn encode(rule: &Rule) -> RuleMessage {
    let Rule { family, priority, table, src, dst, iif, oif, mark, suppress_prefix, invert, protocol } = rule;
    let length = |network: &Option<IpNetwork>| network.map_or(0, |network| network.prefix());
    let mut message = RuleMessage::default();
    message.header = RuleHeader {
        family: (*family).into(),
        src_len: length(src),
        dst_len: length(dst),
        // A table above 255 does not fit here, and is given as an attribute.
        table: u8::try_from(*table).unwrap_or_default(),
        action: RuleAction::ToTable,
        flags: if *invert { RuleFlags::Invert } else { RuleFlags::empty() },
        ..RuleHeader::default()
    };
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Table(*table));
    attributes.extend(priority.map(RuleAttribute::Priority));
    attributes.extend(src.map(|network| RuleAttribute::Source(network.network())));
    attributes.extend(dst.map(|network| RuleAttribute::Destination(network.network())));
    attributes.extend(iif.clone().map(RuleAttribute::Iifname));
    attributes.extend(oif.clone().map(RuleAttribute::Oifname));
    attributes.extend(suppress_prefix.map(RuleAttribute::SuppressPrefixLen));
    if let Some((value, mask)) = mark {
        attributes.extend([RuleAttribute::FwMark(*value), RuleAttribute::FwMask(*mask)]);
    }
    if *protocol != 0 {
        attributes.push(RuleAttribute::Protocol((*protocol).into()));
    }
    message
}

/// The rules of one family that send packets to a table, in the order they are asked.
pub fn list(nl: &mut Netlink, family: Family) -> Result<Vec<Rule>> {
    let mut message = RuleMessage::default();
    message.header.family = family.into();
    let replies = nl.dump(&RouteNetlinkMessage::GetRule(message), "list rules")?;
    Ok(replies.into_iter().filter_map(|reply| decode(family, reply)).collect())
}

fn decode(family: Family, message: RouteNetlinkMessage) -> Option<Rule> {
    let RouteNetlinkMessage::NewRule(message) = message else { return None };
    let header = message.header;
    if header.action != RuleAction::ToTable {
        return None;
    }
    let mut rule = Rule {
        // The kernel leaves out a priority of 0, that of the rule for the local table.
        priority: Some(0),
        invert: header.flags.contains(RuleFlags::Invert),
        ..Rule::to_table(family, header.table.into())
    };
    let (mut mark, mut mask) = (None, u32::MAX);
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Table(table) => rule.table = table,
            RuleAttribute::Priority(priority) => rule.priority = Some(priority),
            RuleAttribute::Source(ip) => rule.src = IpNetwork::new(ip, header.src_len).ok(),
            RuleAttribute::Destination(ip) => rule.dst = IpNetwork::new(ip, header.dst_len).ok(),
            RuleAttribute::Iifname(name) => rule.iif = Some(name),
            RuleAttribute::Oifname(name) => rule.oif = Some(name),
            RuleAttribute::FwMark(value) => mark = Some(value),
            RuleAttribute::FwMask(bits) => mask = bits,
            // -1 where there is none.
            RuleAttribute::SuppressPrefixLen(length) => {
                rule.suppress_prefix = (length != u32::MAX).then_some(length);
            }
            RuleAttribute::Protocol(origin) => rule.protocol = origin.into(),
            _ => {}
        }
    }
    rule.mark = mark.map(|value| (value, mask));
    Some(rule)
}
