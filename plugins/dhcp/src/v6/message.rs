//! DHCPv6 messages: what the client says, and what it makes of an answer. Knows no state.

use std::{net::Ipv6Addr, time::Duration};

use dhcproto::{
    Decodable, Decoder, Encodable, Name,
    v6::{
        DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, ORO, OptionCode, Status, UnknownOption,
    },
};
use kernel::mac::MacAddr;

use crate::{lease::Times, moment::Moment, v4::message::plain};

/// Who asks: the same in all of a client's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the interface: an address that is made from a prefix ends with it.
    pub mac: MacAddr,
    /// The client's DHCP unique identifier.
    pub duid: Vec<u8>,
    /// The name that it goes by, if it tells one.
    pub host_name: Option<String>,
}

/// What the client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say<'a> {
    /// SOLICIT, with the address that it would like.
    Solicit { wanted: Option<Ipv6Addr> },
    /// REQUEST of what a server offered.
    Request { address: Ipv6Addr, server: &'a [u8] },
    /// RENEW, to the server that granted it.
    Renew { address: Ipv6Addr, server: &'a [u8] },
    /// REBIND, to every server.
    Rebind { address: Ipv6Addr },
    /// RELEASE.
    Release { address: Ipv6Addr, server: &'a [u8] },
    /// INFORMATION-REQUEST.
    Inform,
}

/// An answer to this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub xid: u32,
    pub server: Vec<u8>,
    pub kind: Kind,
    pub grant: Grant,
    pub name_servers: Vec<Ipv6Addr>,
    pub search: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// With the server's preference.
    Advertise(u8),
    Reply,
}

/// What an answer says of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// Received now.
    Address { address: Ipv6Addr, times: Option<Times> },
    /// Another was asked for, or none is to be had, or this one ends.
    Refused,
    /// Nothing.
    Absent,
}

impl Identity {
    /// The message as it is sent. `tried` is for how long the client has tried.
    pub fn say(&self, say: Say<'_>, xid: u32, tried: Duration) -> Vec<u8> {
        let (kind, address, server) = match say {
            Say::Solicit { wanted } => (MessageType::Solicit, wanted, None),
            Say::Request { address, server } => (MessageType::Request, Some(address), Some(server)),
            Say::Renew { address, server } => (MessageType::Renew, Some(address), Some(server)),
            Say::Rebind { address } => (MessageType::Rebind, Some(address), None),
            Say::Release { address, server } => (MessageType::Release, Some(address), Some(server)),
            Say::Inform => (MessageType::InformationRequest, None, None),
        };
        let mut message = Message::new(kind);
        message.set_xid_num(xid & XID);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClientId(self.duid.clone()));
        let hundredths = u16::try_from(tried.as_millis() / 10).unwrap_or(u16::MAX);
        options.insert(DhcpOption::ElapsedTime(hundredths));
        if let Some(server) = server {
            options.insert(DhcpOption::ServerId(server.to_vec()));
        }
        if kind != MessageType::InformationRequest {
            options.insert(association(address));
        }
        if kind != MessageType::Release {
            let opts = vec![OptionCode::DomainNameServers, OptionCode::DomainSearchList];
            options.insert(DhcpOption::ORO(ORO { opts }));
            if let Some(name) = self.host_name.as_deref().and_then(fqdn) {
                options.insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::ClientFqdn, name)));
            }
        }
        // Nothing in it is too long.
        message.to_vec().unwrap_or_default()
    }

    /// What `payload` says to this client; none of what is not for it or not understood.
    pub fn hear(&self, payload: &[u8], now: Moment) -> Option<Answer> {
        if !is_sound(payload.get(HEADER..)?) {
            return None;
        }
        let message = Message::decode(&mut Decoder::new(payload)).ok()?;
        let options = message.opts();
        let Some(DhcpOption::ServerId(server)) = options.get(OptionCode::ServerId) else { return None };
        let for_us =
            matches!(options.get(OptionCode::ClientId), Some(DhcpOption::ClientId(id)) if *id == self.duid);
        let kind = match message.msg_type() {
            MessageType::Advertise => Kind::Advertise(preference(options)),
            MessageType::Reply => Kind::Reply,
            _ => return None,
        };
        let mut answer = Answer {
            xid: message.xid_num(),
            server: server.clone(),
            kind,
            grant: grant(options, now),
            name_servers: Vec::new(),
            search: Vec::new(),
        };
        for option in options.iter() {
            match option {
                DhcpOption::DomainNameServers(servers) => answer.name_servers.clone_from(servers),
                DhcpOption::DomainSearchList(list) => answer.search = names(list),
                _ => {}
            }
        }
        for_us.then_some(answer)
    }
}

/// One address, of the association of this interface: a DUID stands for an interface here, so its number says nothing.
fn association(address: Option<Ipv6Addr>) -> DhcpOption {
    let address = address.map(|addr| {
        let opts = DhcpOptions::new();
        DhcpOption::IAAddr(IAAddr { addr, preferred_life: 0, valid_life: 0, opts })
    });
    DhcpOption::IANA(IANA { id: IAID, t1: 0, t2: 0, opts: address.into_iter().collect() })
}

/// The server makes the records (RFC 4704, section 4.1); a name without the root's empty label is not fully qualified.
fn fqdn(name: &str) -> Option<Vec<u8>> {
    let mut option = vec![SERVER_UPDATES];
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        option.push(length);
        option.extend(label.as_bytes());
    }
    Some(option)
}

fn preference(options: &DhcpOptions) -> u8 {
    match options.get(OptionCode::Preference) {
        Some(DhcpOption::Preference(preference)) => *preference,
        _ => 0,
    }
}

fn grant(options: &DhcpOptions, now: Moment) -> Grant {
    if is_failure(options) {
        return Grant::Refused;
    }
    let Some(DhcpOption::IANA(association)) = options.get(OptionCode::IANA) else { return Grant::Absent };
    if association.id != IAID || is_failure(&association.opts) {
        return Grant::Refused;
    }
    match association.opts.get(OptionCode::IAAddr) {
        Some(DhcpOption::IAAddr(granted))
            if granted.valid_life > 0 && is_usable(granted.addr) && !is_failure(&granted.opts) =>
        {
            Grant::Address { address: granted.addr, times: times(association, granted, now) }
        }
        _ => Grant::Refused,
    }
}

fn is_failure(options: &DhcpOptions) -> bool {
    matches!(options.get(OptionCode::StatusCode), Some(DhcpOption::StatusCode(code)) if code.status != Status::Success)
}

fn is_usable(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_multicast()
        || address.is_loopback()
        || address.is_unicast_link_local())
}

/// RFC 8415, section 21.4: where the server leaves it to the client, half and four fifths of the preferred lifetime.
fn times(association: &IANA, granted: &IAAddr, now: Moment) -> Option<Times> {
    let (valid, preferred) = (u64::from(granted.valid_life), u64::from(granted.preferred_life));
    if granted.valid_life == u32::MAX {
        return None;
    }
    let basis = if (1..valid).contains(&preferred) { preferred } else { valid };
    let given = |seconds: u32| Some(u64::from(seconds)).filter(|seconds| *seconds > 0);
    let rebind = given(association.t2).filter(|t2| *t2 < valid).unwrap_or(basis * 4 / 5);
    let renew = given(association.t1).filter(|t1| *t1 <= rebind).unwrap_or_else(|| (basis / 2).min(rebind));
    // Never at once: what is answered at once would be asked for without end.
    let at = |seconds: u64| now + Duration::from_secs(seconds.max(1));
    Some(Times { renew: at(renew), rebind: at(rebind), expire: at(valid) })
}

/// Names that may go into a resolver's configuration.
pub fn names(list: &[Name]) -> Vec<String> {
    let names = list.iter().map(|name| plain(&name.to_string()));
    names.filter(|name| !name.is_empty()).collect()
}

/// The library subtracts from the length of some options without looking (`DhcpOption::decode`).
fn is_sound(mut options: &[u8]) -> bool {
    while let Some((&[c1, c0, l1, l0], rest)) = options.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([l1, l0]));
        let Some((value, rest)) = rest.split_at_checked(length) else { return false };
        let fixed = match OptionCode::from(u16::from_be_bytes([c1, c0])) {
            OptionCode::StatusCode => 2,
            OptionCode::VendorClass | OptionCode::VendorOpts => 4,
            OptionCode::IANA | OptionCode::IAPD => 12,
            OptionCode::IATA => 4,
            OptionCode::IAAddr => 24,
            OptionCode::IAPrefix => 25,
            // Between relays and servers, never to a client.
            OptionCode::RelayMsg => return false,
            _ => 0,
        };
        let holds_options = matches!(fixed, 12 | 24 | 25);
        match value.get(fixed..) {
            None => return false,
            Some(inner) if holds_options && !is_sound(inner) => return false,
            Some(_) => options = rest,
        }
    }
    options.is_empty()
}

/// Kind and transaction.
const HEADER: usize = 4;
/// A transaction's number has 24 bits.
pub const XID: u32 = 0xff_ffff;
const IAID: u32 = 1;
const SERVER_UPDATES: u8 = 1;
