//! A client of either family, so that the agent need not care which: the two decide for themselves, and what they say and
//! hear is told apart here.

use kernel::{error::Result, frames::Packet};

use crate::{
    exchange::{self, Pace},
    lease::Lease,
    moment::Moment,
    store::Kept,
    v4, v6,
};

/// What is to be done.
pub type Action = exchange::Action<Outgoing, Lease>;

/// One client, on one link.
#[derive(Debug)]
pub enum Client {
    V4(v4::client::Client),
    V6(v6::client::Client),
}

/// A message, and the way that it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    V4(v4::client::Outgoing),
    V6(v6::client::Outgoing),
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    V4(Packet),
    V6(v6::client::Heard),
}

/// A link to send and receive on.
#[derive(Debug)]
pub enum Wire {
    V4(v4::wire::Wire),
    V6(v6::wire::Wire),
}

impl Client {
    /// A client that goes on with a lease that it has had.
    pub fn resume(kept: &Kept, broadcast: bool, pace: Pace, seed: u32) -> Self {
        match &kept.lease {
            Lease::V4(lease) => {
                Self::V4(v4::client::Client::resume(kept.identity_v4(broadcast), pace, seed, lease.clone()))
            }
            Lease::V6(lease) => {
                Self::V6(v6::client::Client::resume(kept.identity_v6(), pace, seed, lease.clone()))
            }
        }
    }

    /// The lease, while it is good.
    pub fn lease(&self) -> Option<Lease> {
        match self {
            Self::V4(client) => client.lease().cloned().map(Lease::V4),
            Self::V6(client) => client.lease().cloned().map(Lease::V6),
        }
    }

    /// Whether answers may come.
    pub fn is_listening(&self) -> bool {
        match self {
            Self::V4(client) => client.is_listening(),
            Self::V6(client) => client.is_listening(),
        }
    }

    /// When [`Client::tick`] has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        match self {
            Self::V4(client) => client.deadline(),
            Self::V6(client) => client.deadline(),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Moment) -> Vec<Action> {
        match self {
            Self::V4(client) => widened_v4(client.tick(now)),
            Self::V6(client) => widened_v6(client.tick(now)),
        }
    }

    /// Takes what came in.
    pub fn receive(&mut self, heard: &Heard, now: Moment) -> Vec<Action> {
        match (self, heard) {
            (Self::V4(client), Heard::V4(packet)) => {
                widened_v4(client.receive(&packet.payload, packet.from.mac, now))
            }
            (Self::V6(client), Heard::V6(heard)) => widened_v6(client.receive(heard, now)),
            _ => Vec::new(),
        }
    }

    /// The message that gives the lease back; none where nobody wants it.
    pub fn release(&self) -> Option<Outgoing> {
        match self {
            Self::V4(client) => client.release().map(Outgoing::V4),
            Self::V6(client) => client.release().map(Outgoing::V6),
        }
    }
}

fn widened_v4(actions: Vec<v4::client::Action>) -> Vec<Action> {
    actions.into_iter().map(|action| action.widen(Outgoing::V4, Lease::V4)).collect()
}

fn widened_v6(actions: Vec<v6::client::Action>) -> Vec<Action> {
    actions.into_iter().map(|action| action.widen(Outgoing::V6, Lease::V6)).collect()
}

impl Wire {
    /// Whether `outgoing` can go by it.
    pub fn carries(&self, outgoing: &Outgoing) -> bool {
        match (self, outgoing) {
            (Self::V4(_), Outgoing::V4(_)) => true,
            (Self::V6(wire), Outgoing::V6(outgoing)) => wire.carries(outgoing),
            _ => false,
        }
    }

    /// Of what it does not carry, nothing.
    pub fn send(&self, outgoing: &Outgoing) -> Result<()> {
        match (self, outgoing) {
            (Self::V4(wire), Outgoing::V4(outgoing)) => wire.send(outgoing),
            (Self::V6(wire), Outgoing::V6(outgoing)) => wire.send(outgoing),
            _ => Ok(()),
        }
    }

    /// None when there is nothing yet.
    pub fn receive(&self) -> Result<Option<Heard>> {
        match self {
            Self::V4(wire) => Ok(wire.receive()?.map(Heard::V4)),
            Self::V6(wire) => Ok(wire.receive()?.map(Heard::V6)),
        }
    }
}
