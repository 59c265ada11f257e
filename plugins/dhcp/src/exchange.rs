//! What the clients of both families have in common: a question that is asked again until it is answered, how patiently,
//! and what a client decides. Knows no message.

use std::time::Duration;

use crate::moment::Moment;

/// How patient a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The longest that one message waits for its answer while there is no lease.
    pub timeout: Duration,
    /// The longest pause between two messages.
    pub resend_max: Duration,
}

impl Default for Pace {
    /// As the reference's agent.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), resend_max: Duration::from_secs(62) }
    }
}

/// What is to be done: a message `O` sent, a lease `L` used or not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<O, L> {
    Send(O),
    /// A lease was granted, or extended.
    Have(L),
    /// It expired or was taken back: nobody may use the address any more.
    Lose(L),
}

impl<O, L> Action<O, L> {
    /// The same, of wider types.
    pub fn widen<P, M>(self, message: fn(O) -> P, lease: fn(L) -> M) -> Action<P, M> {
        match self {
            Self::Send(out) => Action::Send(message(out)),
            Self::Have(had) => Action::Have(lease(had)),
            Self::Lose(lost) => Action::Lose(lease(lost)),
        }
    }
}

/// Messages with one number, until an answer comes.
#[derive(Debug, Clone, Copy)]
pub struct Exchange {
    pub xid: u32,
    pub began: Moment,
    pub tries: u32,
    /// When the next message is due.
    pub next: Moment,
}

impl Exchange {
    /// Its first message is due now.
    pub fn new(xid: u32, now: Moment) -> Self {
        Self { xid, began: now, tries: 0, next: now }
    }
}

impl Pace {
    /// How long to wait for an answer to what is sent now.
    ///
    /// Doubled each time; up to half a second more, so that clients that began together part (RFC 2131, section 4.1).
    pub fn pause(&self, exchange: &Exchange) -> Duration {
        let longest = self.timeout.min(self.resend_max).max(FIRST_PAUSE);
        let doubled = FIRST_PAUSE.saturating_mul(1 << exchange.tries.min(16)).min(longest);
        doubled + Duration::from_millis(u64::from(exchange.xid.rotate_left(exchange.tries) % 500))
    }
}

/// How long to wait for an answer while there is a lease: half of what is left (RFC 2131, section 4.4.5), but not less
/// than a second.
pub fn until(now: Moment, end: Option<Moment>) -> Duration {
    end.map_or(MINUTE, |end| (end.since(now) / 2).max(FIRST_PAUSE))
}

/// The next number of a row whose first was hard to guess.
pub fn next_xid(xid: u32) -> u32 {
    xid.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)
}

pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
