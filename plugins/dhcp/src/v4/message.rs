//! DHCP messages: what the client says, and what it makes of an answer. Knows no state.

use std::{net::Ipv4Addr, time::Duration};

use dhcproto::{
    Decodable, Decoder, Encodable,
    v4::{DhcpOption, DhcpOptions, Flags, Message, MessageType, OptionCode, UnknownOption},
};
use ipnetwork::Ipv4Network;
use kernel::mac::MacAddr;

use crate::{config::Wishes, lease::Times, moment::Moment, v4::lease::Lease};

/// Who asks, and for what: the same in all of a client's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub mac: MacAddr,
    pub client_id: Vec<u8>,
    pub wishes: Wishes,
    /// Ask servers to answer to everybody (RFC 2131, section 4.1).
    pub broadcast: bool,
}

/// What the client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// DISCOVER, with the address that it would like.
    Discover { wanted: Option<Ipv4Addr> },
    /// REQUEST of what a server offered.
    Take { address: Ipv4Addr, server: Ipv4Addr },
    /// REQUEST of what it has.
    Extend { address: Ipv4Addr },
    /// RELEASE.
    Release { address: Ipv4Addr, server: Ipv4Addr },
}

/// An answer to this client, of the kinds that it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub xid: u32,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Offer {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    /// Received now.
    Ack(Box<Lease>),
    Nak,
}

impl Identity {
    /// The message as it is sent. `secs` is for how long the client has tried.
    pub fn say(&self, say: Say, xid: u32, tried: Duration) -> Vec<u8> {
        let ciaddr = match say {
            Say::Extend { address } | Say::Release { address, .. } => address,
            Say::Discover { .. } | Say::Take { .. } => Ipv4Addr::UNSPECIFIED,
        };
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(xid, ciaddr, none, none, none, &self.mac.0);
        message.set_secs(u16::try_from(tried.as_secs()).unwrap_or(u16::MAX));
        if self.broadcast {
            message.set_flags(Flags::default().set_broadcast());
        }
        self.options(say, message.opts_mut());
        // An option that is too long was refused before.
        let mut bytes = message.to_vec().unwrap_or_default();
        // Relays may drop what is shorter than BOOTP's messages (RFC 1542, section 2.1).
        bytes.resize(bytes.len().max(BOOTP_LENGTH), 0);
        bytes
    }

    fn options(&self, say: Say, options: &mut DhcpOptions) {
        let kind = match say {
            Say::Discover { .. } => MessageType::Discover,
            Say::Take { .. } | Say::Extend { .. } => MessageType::Request,
            Say::Release { .. } => MessageType::Release,
        };
        options.insert(DhcpOption::MessageType(kind));
        options.insert(DhcpOption::ClientIdentifier(self.client_id.clone()));
        match say {
            Say::Discover { wanted: Some(address) } => {
                options.insert(DhcpOption::RequestedIpAddress(address));
            }
            Say::Take { address, server } => {
                options.insert(DhcpOption::RequestedIpAddress(address));
                options.insert(DhcpOption::ServerIdentifier(server));
            }
            Say::Release { server, .. } => {
                options.insert(DhcpOption::ServerIdentifier(server));
            }
            Say::Discover { wanted: None } | Say::Extend { .. } => {}
        }
        if matches!(say, Say::Release { .. }) {
            return;
        }
        options.insert(DhcpOption::MaxMessageSize(MAX_MESSAGE));
        if !self.wishes.request.is_empty() {
            let codes = self.wishes.request.iter().map(|code| OptionCode::from(*code)).collect();
            options.insert(DhcpOption::ParameterRequestList(codes));
        }
        for (code, value) in &self.wishes.provide {
            options.remove(OptionCode::from(*code));
            options.insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(*code), value.clone())));
        }
    }

    /// What `payload`, which came from `from`, says to this client; none of what is not for it or not understood.
    pub fn hear(&self, payload: &[u8], from: MacAddr, now: Moment) -> Option<Answer> {
        // The library takes the length of an address on trust (`Message::chaddr`).
        if payload.get(HLEN) != Some(&6) || payload.get(CHADDR..CHADDR + 6) != Some(&self.mac.0[..]) {
            return None;
        }
        let message = Message::decode(&mut Decoder::new(payload)).ok()?;
        let kind = match message.opts().msg_type()? {
            MessageType::Offer => {
                Kind::Offer { address: usable(message.yiaddr())?, server: server(&message)? }
            }
            MessageType::Ack => Kind::Ack(Box::new(lease(&message, from, now)?)),
            MessageType::Nak => Kind::Nak,
            _ => return None,
        };
        Some(Answer { xid: message.xid(), kind })
    }
}

fn usable(address: Ipv4Addr) -> Option<Ipv4Addr> {
    let unusable =
        address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback();
    (!unusable).then_some(address)
}

fn server(message: &Message) -> Option<Ipv4Addr> {
    match message.opts().get(OptionCode::ServerIdentifier)? {
        DhcpOption::ServerIdentifier(server) => Some(*server),
        _ => None,
    }
}

fn lease(message: &Message, from: MacAddr, now: Moment) -> Option<Lease> {
    let address = usable(message.yiaddr())?;
    let mut mask = classful_mask(address);
    let mut lease = Lease {
        address: Ipv4Network::from(address),
        server: server(message)?,
        server_mac: from.0,
        times: None,
        routers: Vec::new(),
        classless_routes: Vec::new(),
        static_routes: Vec::new(),
        name_servers: Vec::new(),
        domain: None,
        search: Vec::new(),
        mtu: None,
    };
    for (_, option) in message.opts().iter() {
        match option {
            DhcpOption::SubnetMask(given) => mask = *given,
            DhcpOption::Router(routers) => lease.routers.clone_from(routers),
            DhcpOption::ClasslessStaticRoute(routes) => {
                let network = |address, prefix| Ipv4Network::new(address, prefix).ok();
                let routes = routes.iter();
                lease.classless_routes = routes
                    .filter_map(|(to, router)| Some((network(to.addr(), to.prefix_len())?, *router)))
                    .collect();
            }
            DhcpOption::StaticRoutingTable(routes) => {
                let network = |to: Ipv4Addr| Ipv4Network::with_netmask(to, classful_mask(to)).ok();
                lease.static_routes =
                    routes.iter().filter_map(|(to, router)| Some((network(*to)?, *router))).collect();
            }
            DhcpOption::DomainNameServer(servers) => lease.name_servers.clone_from(servers),
            DhcpOption::DomainName(domain) => lease.domain = Some(plain(domain)).filter(|d| !d.is_empty()),
            DhcpOption::DomainSearch(names) => {
                let names = names.iter().map(|name| plain(&name.to_string()));
                lease.search = names.filter(|name| !name.is_empty()).collect();
            }
            // 68 is the least of IPv4.
            DhcpOption::InterfaceMtu(mtu) if *mtu >= 68 => lease.mtu = Some(u32::from(*mtu)),
            _ => {}
        }
    }
    lease.address = Ipv4Network::with_netmask(address, mask).ok()?;
    lease.times = times(message.opts(), now);
    Some(lease)
}

/// What a client may put into a resolver's configuration: one word, without the dot at its end.
pub fn plain(name: &str) -> String {
    let name = name.trim_end_matches(['\0', '.']);
    let fine = name.chars().all(|c| c.is_ascii_graphic());
    if fine { name.to_owned() } else { String::new() }
}

/// RFC 2131, section 4.4.5; the reference's hour where a server says nothing.
fn times(options: &DhcpOptions, now: Moment) -> Option<Times> {
    let seconds = |code| match options.get(code)? {
        DhcpOption::AddressLeaseTime(s) | DhcpOption::Renewal(s) | DhcpOption::Rebinding(s) => {
            Some(u64::from(*s))
        }
        _ => None,
    };
    let lease = seconds(OptionCode::AddressLeaseTime).unwrap_or(DEFAULT_LEASE);
    if lease == FOR_EVER {
        return None;
    }
    let rebind = seconds(OptionCode::Rebinding).filter(|t2| *t2 < lease).unwrap_or(lease * 7 / 8);
    let renew =
        seconds(OptionCode::Renewal).filter(|t1| *t1 < rebind).unwrap_or_else(|| (lease / 2).min(rebind));
    // Never at once: what is answered at once would be asked for without end.
    let at = |seconds: u64| now + Duration::from_secs(seconds.max(1));
    Some(Times { renew: at(renew), rebind: at(rebind), expire: at(lease) })
}

/// Of an address or destination without a mask (RFC 791, section 3.2).
fn classful_mask(address: Ipv4Addr) -> Ipv4Addr {
    match address.octets()[0] {
        0 => Ipv4Addr::UNSPECIFIED,
        1..128 => Ipv4Addr::new(255, 0, 0, 0),
        128..192 => Ipv4Addr::new(255, 255, 0, 0),
        _ => Ipv4Addr::new(255, 255, 255, 0),
    }
}

/// Where a message has the length of the client's address, and the address (RFC 2131, section 2).
const HLEN: usize = 2;
const CHADDR: usize = 28;
const BOOTP_LENGTH: usize = 300;
/// The IP packet that fits every Ethernet.
const MAX_MESSAGE: u16 = 1500;
const DEFAULT_LEASE: u64 = 60 * 60;
const FOR_EVER: u64 = 0xffff_ffff;
