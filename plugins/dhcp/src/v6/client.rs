//! How an IPv6 address is had and kept, as a function of time and answers: says what to send, when to be asked again, and
//! what became of the address. Knows neither clock nor socket.
//!
//! ```text
//! Asking ──RA: managed, or no router──► Selecting ─ADVERTISE─► Requesting ─REPLY─► Bound ─T1─► Renewing ─T2─► Rebinding
//!   │ ▲                                     │ no server            │ refused        ▲ │ REPLY       │ REPLY       │
//!   │ └─────────────────────────────────────┴──────────────────────┘◄── expired ────│─┴─────────────┴─────────────┘
//!   └────RA: a prefix for everybody──► (Informing, if RA: other) ──────────────────►┘
//! ```
//!
//! An address made from a prefix is renewed by asking routers again: from Bound to Asking and back.

use std::{net::Ipv6Addr, time::Duration};

use ipnetwork::Ipv6Network;

use crate::{
    exchange::{self, Exchange, FIRST_PAUSE, Pace, next_xid, until},
    lease::Times,
    moment::Moment,
    v6::{
        advert::{Advert, Prefix},
        lease::{Lease, Origin},
        message::{Answer, Grant, Identity, Kind, Say, XID},
    },
};

/// What is to be done.
pub type Action = exchange::Action<Outgoing, Lease>;

/// A message, and who is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// Router solicitation.
    Routers,
    Servers(Vec<u8>),
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// ICMPv6 of the link itself, and who sent it.
    Router { from: Ipv6Addr, message: Vec<u8> },
    /// To the DHCPv6 client's port.
    Server(Vec<u8>),
}

/// One client, on one link.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    pace: Pace,
    state: State,
    /// The last transaction's number; each exchange has its own.
    xid: u32,
    /// What a router said last.
    advert: Option<Advert>,
    /// The address that it had.
    wanted: Option<Ipv6Addr>,
}

#[derive(Debug)]
enum State {
    Asking { exchange: Exchange, lease: Option<Lease> },
    Selecting { exchange: Exchange, best: Option<Offer> },
    Requesting { exchange: Exchange, offer: Offer },
    Informing { exchange: Exchange, lease: Lease },
    Bound(Lease),
    Renewing { exchange: Exchange, lease: Lease, server: Vec<u8> },
    Rebinding { exchange: Exchange, lease: Lease },
}

#[derive(Debug, Clone)]
struct Offer {
    address: Ipv6Addr,
    server: Vec<u8>,
    preference: u8,
}

impl Client {
    /// A client without an address. `seed` is the first transaction's number, which should be hard to guess.
    pub fn new(identity: Identity, pace: Pace, seed: u32, now: Moment) -> Self {
        let state = State::Asking { exchange: Exchange::new(seed, now), lease: None };
        Self { identity, pace, state, xid: seed, advert: None, wanted: None }
    }

    /// A client that has had an address; what was due meanwhile is due now.
    pub fn resume(identity: Identity, pace: Pace, seed: u32, lease: Lease) -> Self {
        Self { identity, pace, state: State::Bound(lease), xid: seed, advert: None, wanted: None }
    }

    /// The lease, while it is good.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound(lease)
            | State::Renewing { lease, .. }
            | State::Rebinding { lease, .. }
            | State::Asking { lease: Some(lease), .. } => Some(lease),
            State::Asking { lease: None, .. }
            | State::Selecting { .. }
            | State::Requesting { .. }
            | State::Informing { .. } => None,
        }
    }

    /// The message that gives the address back; none when nobody gave it.
    pub fn release(&self) -> Option<Outgoing> {
        let Lease { address, origin: Origin::Server(server), .. } = self.lease()? else { return None };
        let say = Say::Release { address: address.ip(), server };
        Some(Outgoing::Servers(self.identity.say(say, next_xid(self.xid), Duration::ZERO)))
    }

    /// Whether answers may come.
    pub fn is_listening(&self) -> bool {
        !matches!(self.state, State::Bound(_))
    }

    /// When [`Client::tick`] has something to do; never for an address without an end.
    pub fn deadline(&self) -> Option<Moment> {
        let times = self.lease().and_then(|lease| lease.times);
        match &self.state {
            State::Asking { exchange, .. } | State::Rebinding { exchange, .. } => {
                Some(times.map_or(exchange.next, |times| exchange.next.min(times.expire)))
            }
            State::Selecting { exchange, .. }
            | State::Requesting { exchange, .. }
            | State::Informing { exchange, .. } => Some(exchange.next),
            State::Bound(_) => times.map(|times| times.renew),
            State::Renewing { exchange, .. } => times.map(|times| exchange.next.min(times.rebind)),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment) -> Vec<Action> {
        let mut actions: Vec<_> = self.advance(now).into_iter().collect();
        actions.extend(self.message(now).map(Action::Send));
        actions
    }

    /// Goes from state to state as time passes.
    fn advance(&mut self, now: Moment) -> Option<Action> {
        let times = self.lease().and_then(|lease| lease.times);
        if let (Some(lease), Some(Times { expire, .. })) = (self.lease(), times)
            && now >= expire
        {
            let lost = lease.clone();
            self.start_over(now, Some(lost.address.ip()));
            return Some(Action::Lose(lost));
        }
        match (&self.state, times) {
            (State::Bound(lease) | State::Renewing { lease, .. }, Some(times))
                if now >= times.rebind && lease.origin != Origin::Prefix =>
            {
                let lease = lease.clone();
                self.state = State::Rebinding { exchange: self.exchange(now), lease };
            }
            (State::Bound(lease), Some(times)) if now >= times.renew => {
                let lease = lease.clone();
                let exchange = self.exchange(now);
                self.state = match lease.origin.clone() {
                    Origin::Prefix => State::Asking { exchange, lease: Some(lease) },
                    Origin::Server(server) => State::Renewing { exchange, lease, server },
                };
            }
            // RFC 4862, section 5.5.2: without a router there may be a server all the same.
            (State::Asking { exchange, lease: None }, _) if exchange.is_over(SOLICITATIONS, now) => {
                self.select(now);
            }
            (State::Selecting { exchange, best: Some(offer) }, _) if now >= exchange.next => {
                let offer = offer.clone();
                self.state = State::Requesting { exchange: self.exchange(now), offer };
            }
            (State::Selecting { exchange, best: None } | State::Requesting { exchange, .. }, _)
                if exchange.is_over(REQUESTS, now) =>
            {
                self.start_over(now, self.wanted);
            }
            (State::Informing { exchange, lease }, _) if exchange.is_over(INFORMS, now) => {
                return Some(self.bind(lease.clone()));
            }
            _ => {}
        }
        None
    }

    fn start_over(&mut self, now: Moment, wanted: Option<Ipv6Addr>) {
        self.wanted = wanted;
        self.advert = None;
        self.state = State::Asking { exchange: self.exchange(now), lease: None };
    }

    fn select(&mut self, now: Moment) {
        self.state = State::Selecting { exchange: self.exchange(now), best: None };
    }

    fn exchange(&mut self, now: Moment) -> Exchange {
        self.xid = next_xid(self.xid);
        Exchange::new(self.xid, now)
    }

    fn bind(&mut self, lease: Lease) -> Action {
        self.state = State::Bound(lease.clone());
        Action::Have(lease)
    }

    /// The message that is due, if one is.
    fn message(&mut self, now: Moment) -> Option<Outgoing> {
        let Self { identity, pace, state, wanted, .. } = self;
        let (exchange, say, end) = match state {
            State::Bound(_) => return None,
            State::Asking { exchange, lease } => (exchange, None, lease.as_ref().map(|lease| lease.times)),
            State::Selecting { exchange, .. } => (exchange, Some(Say::Solicit { wanted: *wanted }), None),
            State::Requesting { exchange, offer } => {
                (exchange, Some(Say::Request { address: offer.address, server: &offer.server }), None)
            }
            State::Informing { exchange, .. } => (exchange, Some(Say::Inform), None),
            State::Renewing { exchange, lease, server } => {
                (exchange, Some(Say::Renew { address: lease.address.ip(), server }), Some(lease.times))
            }
            State::Rebinding { exchange, lease } => {
                (exchange, Some(Say::Rebind { address: lease.address.ip() }), Some(lease.times))
            }
        };
        if now < exchange.next {
            return None;
        }
        let pause = match end {
            Some(times) => until(now, times.map(|times| times.expire)),
            None => pace.pause(exchange),
        };
        exchange.tries += 1;
        exchange.next = now + pause;
        let (xid, tried) = (exchange.xid, now.since(exchange.began));
        Some(say.map_or(Outgoing::Routers, |say| Outgoing::Servers(identity.say(say, xid, tried))))
    }

    /// Takes what came in.
    pub fn receive(&mut self, heard: &Heard, now: Moment) -> Vec<Action> {
        match heard {
            Heard::Router { from, message } => match Advert::parse(message, *from) {
                Some(advert) => self.routed(advert, now),
                None => Vec::new(),
            },
            Heard::Server(payload) => match self.identity.hear(payload, now) {
                Some(answer) => self.answered(answer, now),
                None => Vec::new(),
            },
        }
    }

    /// A router said how addresses are had. A router that says nothing of that leaves it to the others.
    fn routed(&mut self, advert: Advert, now: Moment) -> Vec<Action> {
        let State::Asking { lease, .. } = &self.state else { return Vec::new() };
        let prefix = match lease {
            Some(lease) => {
                let is_its = |prefix: &Prefix| prefix.network.contains(lease.address.ip());
                advert.prefixes.iter().copied().find(|prefix| is_its(prefix) && prefix.valid > 0)
            }
            None => advert.autonomous(),
        };
        match (lease.is_some(), prefix) {
            (false, _) if advert.managed => {
                self.advert = Some(advert);
                self.select(now);
                self.tick(now)
            }
            (_, None) => Vec::new(),
            (renewed, Some(prefix)) => {
                let (lease, other) = (self.made_from(prefix, &advert, now), advert.other);
                self.advert = Some(advert);
                if renewed || !other {
                    return vec![self.bind(lease)];
                }
                self.state = State::Informing { exchange: self.exchange(now), lease };
                self.tick(now)
            }
        }
    }

    /// RFC 4862, section 5.5.3. Half of its life is a good time to ask again.
    fn made_from(&self, prefix: Prefix, advert: &Advert, now: Moment) -> Lease {
        let mut octets = prefix.network.network().octets();
        octets[8..].copy_from_slice(&self.identity.mac.to_eui64());
        let at = |seconds: u64| now + Duration::from_secs(seconds.max(1));
        let valid = u64::from(prefix.valid);
        let times = Times { renew: at(valid / 2), rebind: at(valid), expire: at(valid) };
        Lease {
            address: network(octets.into(), advert.prefix_length(octets.into())),
            origin: Origin::Prefix,
            times: (prefix.valid != u32::MAX).then_some(times),
            router: advert.router,
            name_servers: advert.name_servers.clone(),
            search: advert.search.clone(),
        }
    }

    fn answered(&mut self, answer: Answer, now: Moment) -> Vec<Action> {
        if self.awaited() != Some(answer.xid) {
            return Vec::new();
        }
        match (&mut self.state, answer.kind, answer.grant) {
            (State::Selecting { .. }, Kind::Advertise(preference), Grant::Address { address, .. }) => {
                self.offered(Offer { address, server: answer.server, preference }, now)
            }
            (State::Requesting { offer, .. }, Kind::Reply, grant) if offer.server == answer.server => {
                match grant {
                    Grant::Address { address, times } => {
                        let lease = self.granted(address, times, answer, None);
                        vec![self.bind(lease)]
                    }
                    Grant::Refused | Grant::Absent => self.refused(now),
                }
            }
            (State::Informing { lease, .. }, Kind::Reply, _) => {
                let mut lease = lease.clone();
                unite(&mut lease.name_servers, answer.name_servers);
                unite(&mut lease.search, answer.search);
                vec![self.bind(lease)]
            }
            (State::Renewing { lease, .. } | State::Rebinding { lease, .. }, Kind::Reply, grant) => {
                let old = lease.clone();
                match grant {
                    Grant::Address { address, times } if address == old.address.ip() => {
                        let lease = self.granted(address, times, answer, Some(&old));
                        vec![self.bind(lease)]
                    }
                    // Another address, none, or no binding (RFC 8415, section 18.2.10.1): it may have it again when it asks.
                    Grant::Address { .. } | Grant::Refused => {
                        self.start_over(now, Some(old.address.ip()));
                        [vec![Action::Lose(old)], self.tick(now)].concat()
                    }
                    Grant::Absent => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    /// The first pause is for further offers; the greatest preference ends it (RFC 8415, section 18.2.1).
    fn offered(&mut self, offer: Offer, now: Moment) -> Vec<Action> {
        let State::Selecting { exchange, best } = &mut self.state else { return Vec::new() };
        if best.as_ref().is_none_or(|best| best.preference < offer.preference) {
            if offer.preference == u8::MAX || exchange.tries > 1 {
                exchange.next = now;
            }
            *best = Some(offer);
        }
        self.tick(now)
    }

    /// Not at once: a server that refuses all would be asked without end.
    fn refused(&mut self, now: Moment) -> Vec<Action> {
        self.start_over(now, None);
        if let State::Asking { exchange, .. } = &mut self.state {
            exchange.next = now + FIRST_PAUSE;
        }
        Vec::new()
    }

    fn awaited(&self) -> Option<u32> {
        match &self.state {
            State::Bound(_) | State::Asking { .. } => None,
            State::Selecting { exchange, .. }
            | State::Requesting { exchange, .. }
            | State::Informing { exchange, .. }
            | State::Renewing { exchange, .. }
            | State::Rebinding { exchange, .. } => Some(exchange.xid & XID),
        }
    }

    /// A server says nothing of the link: that is a router's word, now or when the lease was new.
    fn granted(&self, address: Ipv6Addr, times: Option<Times>, answer: Answer, old: Option<&Lease>) -> Lease {
        let silent = Advert::default();
        let advert = self.advert.as_ref().unwrap_or(&silent);
        let mut lease = Lease {
            address: old.map_or_else(|| network(address, advert.prefix_length(address)), |old| old.address),
            origin: Origin::Server(answer.server),
            times,
            router: old.map_or(advert.router, |old| old.router),
            name_servers: answer.name_servers,
            search: answer.search,
        };
        unite(&mut lease.name_servers, advert.name_servers.clone());
        unite(&mut lease.search, advert.search.clone());
        lease
    }
}

impl Exchange {
    /// The last of `tries` messages went unanswered.
    fn is_over(&self, tries: u32, now: Moment) -> bool {
        self.tries >= tries && now >= self.next
    }
}

fn network(address: Ipv6Addr, prefix: u8) -> Ipv6Network {
    Ipv6Network::new(address, prefix).unwrap_or_else(|_| address.into())
}

fn unite<T: PartialEq>(list: &mut Vec<T>, more: Vec<T>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

/// RFC 4861, section 10: MAX_RTR_SOLICITATIONS.
const SOLICITATIONS: u32 = 3;
/// How often a server is asked before routers are asked again.
const REQUESTS: u32 = 4;
/// What a server tells beside an address is worth no long wait.
const INFORMS: u32 = 2;

#[cfg(test)]
mod tests;
