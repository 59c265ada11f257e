//! The client of RFC 2131, figure 5, as a function of time and answers: says what to send, when to be asked again, and
//! what became of the lease. Knows neither clock nor socket.
//!
//! ```text
//! Selecting ──OFFER──► Requesting ──ACK──► Bound ──T1──► Renewing ──T2──► Rebinding ──expired──► Selecting
//!     ▲                    │ NAK             ▲              │ ACK            │ ACK
//!     └────────────────────┘                 └──────────────┴────────────────┘
//! ```

use std::{net::Ipv4Addr, time::Duration};

use kernel::mac::MacAddr;

use crate::{
    exchange::{self, Exchange, FIRST_PAUSE, Pace, next_xid, until},
    moment::Moment,
    v4::{
        lease::Lease,
        message::{Answer, Identity, Kind, Say},
    },
};

/// What is to be done.
pub type Action = exchange::Action<Outgoing, Lease>;

/// A message, and the way that it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub message: Vec<u8>,
    /// The sender's address, if it has one.
    pub from: Ipv4Addr,
    pub to: To,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Everybody,
    Server { address: Ipv4Addr, mac: MacAddr },
}

/// One client, on one link.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    pace: Pace,
    state: State,
    /// The last transaction's number; each exchange has its own.
    xid: u32,
}

#[derive(Debug)]
enum State {
    Selecting { exchange: Exchange, wanted: Option<Ipv4Addr> },
    Requesting { exchange: Exchange, address: Ipv4Addr, server: Ipv4Addr },
    Bound(Lease),
    Renewing { exchange: Exchange, lease: Lease },
    Rebinding { exchange: Exchange, lease: Lease },
}

impl Client {
    /// A client without a lease. `seed` is the first transaction's number, which should be hard to guess.
    pub fn new(identity: Identity, pace: Pace, seed: u32, now: Moment) -> Self {
        let exchange = Exchange::new(seed, now);
        Self { identity, pace, state: State::Selecting { exchange, wanted: None }, xid: seed }
    }

    /// A client that has had a lease; what was due meanwhile is due now.
    pub fn resume(identity: Identity, pace: Pace, seed: u32, lease: Lease) -> Self {
        Self { identity, pace, state: State::Bound(lease), xid: seed }
    }

    /// The lease, while it is good.
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Bound(lease) | State::Renewing { lease, .. } | State::Rebinding { lease, .. } => {
                Some(lease)
            }
            State::Selecting { .. } | State::Requesting { .. } => None,
        }
    }

    /// The message that gives the lease back; none without a lease.
    pub fn release(&self) -> Option<Outgoing> {
        let lease = self.lease()?;
        let (address, server) = (lease.address.ip(), lease.server);
        Some(Outgoing {
            message: self.identity.say(Say::Release { address, server }, next_xid(self.xid), Duration::ZERO),
            from: address,
            to: To::Server { address: server, mac: MacAddr(lease.server_mac) },
        })
    }

    /// Whether answers may come.
    pub fn is_listening(&self) -> bool {
        !matches!(self.state, State::Bound(_))
    }

    /// When [`Client::tick`] has something to do; never for a lease without an end.
    pub fn deadline(&self) -> Option<Moment> {
        match &self.state {
            State::Selecting { exchange, .. } | State::Requesting { exchange, .. } => Some(exchange.next),
            State::Bound(lease) => lease.times.map(|times| times.renew),
            State::Renewing { exchange, lease } => lease.times.map(|times| exchange.next.min(times.rebind)),
            State::Rebinding { exchange, lease } => lease.times.map(|times| exchange.next.min(times.expire)),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(lost) = self.advance(now) {
            actions.push(Action::Lose(lost));
        }
        actions.extend(self.message(now).map(Action::Send));
        actions
    }

    /// Goes from state to state as time passes; the lease that ended by it.
    fn advance(&mut self, now: Moment) -> Option<Lease> {
        let times = self.lease().and_then(|lease| lease.times);
        match (&self.state, times) {
            (
                State::Bound(lease) | State::Renewing { lease, .. } | State::Rebinding { lease, .. },
                Some(times),
            ) if now >= times.expire => {
                let lease = lease.clone();
                self.start_over(now, Some(lease.address.ip()));
                Some(lease)
            }
            (State::Bound(lease) | State::Renewing { lease, .. }, Some(times)) if now >= times.rebind => {
                let lease = lease.clone();
                self.state = State::Rebinding { exchange: self.exchange(now), lease };
                None
            }
            (State::Bound(lease), Some(times)) if now >= times.renew => {
                let lease = lease.clone();
                self.state = State::Renewing { exchange: self.exchange(now), lease };
                None
            }
            (State::Requesting { exchange, address, .. }, _)
                if exchange.tries >= REQUESTS && now >= exchange.next =>
            {
                let wanted = Some(*address);
                self.start_over(now, wanted);
                None
            }
            _ => None,
        }
    }

    fn start_over(&mut self, now: Moment, wanted: Option<Ipv4Addr>) {
        self.state = State::Selecting { exchange: self.exchange(now), wanted };
    }

    fn exchange(&mut self, now: Moment) -> Exchange {
        self.xid = next_xid(self.xid);
        Exchange::new(self.xid, now)
    }

    /// The message that is due, if one is.
    fn message(&mut self, now: Moment) -> Option<Outgoing> {
        let Self { identity, pace, state, .. } = self;
        let (exchange, say, from, to, pause) = match state {
            State::Bound(_) => return None,
            State::Selecting { exchange, wanted } => {
                let pause = pace.pause(exchange);
                (exchange, Say::Discover { wanted: *wanted }, Ipv4Addr::UNSPECIFIED, To::Everybody, pause)
            }
            State::Requesting { exchange, address, server } => {
                let pause = pace.pause(exchange);
                let say = Say::Take { address: *address, server: *server };
                (exchange, say, Ipv4Addr::UNSPECIFIED, To::Everybody, pause)
            }
            State::Renewing { exchange, lease } => {
                let address = lease.address.ip();
                let pause = until(now, lease.times.map(|times| times.rebind));
                let to = To::Server { address: lease.server, mac: MacAddr(lease.server_mac) };
                (exchange, Say::Extend { address }, address, to, pause)
            }
            State::Rebinding { exchange, lease } => {
                let address = lease.address.ip();
                let pause = until(now, lease.times.map(|times| times.expire));
                (exchange, Say::Extend { address }, address, To::Everybody, pause)
            }
        };
        if now < exchange.next {
            return None;
        }
        exchange.tries += 1;
        exchange.next = now + pause;
        Some(Outgoing { message: identity.say(say, exchange.xid, now.since(exchange.began)), from, to })
    }

    /// Takes what came in, from `from`.
    pub fn receive(&mut self, payload: &[u8], from: MacAddr, now: Moment) -> Vec<Action> {
        let Some(Answer { xid, kind }) = self.identity.hear(payload, from, now) else { return Vec::new() };
        if self.awaited() != Some(xid) {
            return Vec::new();
        }
        match (&self.state, kind) {
            (State::Selecting { exchange, .. }, Kind::Offer { address, server }) => {
                // The number of the offer is that of the request (RFC 2131, section 4.4.1).
                let exchange = Exchange { tries: 0, next: now, ..*exchange };
                self.state = State::Requesting { exchange, address, server };
                self.tick(now)
            }
            (State::Requesting { server, .. }, Kind::Ack(lease)) if lease.server == *server => {
                self.bind(*lease)
            }
            (State::Renewing { lease: old, .. } | State::Rebinding { lease: old, .. }, Kind::Ack(lease))
                if lease.address.ip() == old.address.ip() =>
            {
                self.bind(*lease)
            }
            (State::Requesting { .. }, Kind::Nak) => {
                self.start_over(now, None);
                // Not at once: a server that refuses all would be asked without end.
                if let State::Selecting { exchange, .. } = &mut self.state {
                    exchange.next = now + FIRST_PAUSE;
                }
                Vec::new()
            }
            (State::Renewing { lease, .. } | State::Rebinding { lease, .. }, Kind::Nak) => {
                let lost = lease.clone();
                self.start_over(now, None);
                [vec![Action::Lose(lost)], self.tick(now)].concat()
            }
            _ => Vec::new(),
        }
    }

    fn awaited(&self) -> Option<u32> {
        match &self.state {
            State::Bound(_) => None,
            State::Selecting { exchange, .. }
            | State::Requesting { exchange, .. }
            | State::Renewing { exchange, .. }
            | State::Rebinding { exchange, .. } => Some(exchange.xid),
        }
    }

    fn bind(&mut self, lease: Lease) -> Vec<Action> {
        self.state = State::Bound(lease.clone());
        vec![Action::Have(lease)]
    }
}

/// How often an offer is taken up before another is looked for.
const REQUESTS: u32 = 4;

#[cfg(test)]
mod tests;
