//! How many changes go at once, and whether so many may go at all. Pure.

use std::time::{Duration, Instant};

use crate::diff::Change;

/// Cuts changes into batches, in order. Between batches the agent reads events, so that the kernel need not queue more of
/// them than [`BATCH`] messages cause.
pub fn batches(changes: &[Change]) -> impl Iterator<Item = &[Change]> {
    changes.chunks(BATCH)
}

/// The brake on mass removal: a directory that lost its contents, or showed half of them, looks just like one whose hosts
/// all left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Brake {
    #[default]
    Open,
    /// Removals wait. After `until` the directory is read anew, and what it still says then is believed.
    Holding { until: Instant, doubted: usize },
}

/// What the brake says to a set of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The peers that are gone may be removed.
    Remove,
    /// The peers that are gone stay.
    Keep,
}

impl Brake {
    /// `gone` of `known` peers are no longer in the directory, which was read as a whole (`fresh`) just now or not.
    pub fn judge(&mut self, gone: usize, known: usize, fresh: bool, now: Instant) -> Verdict {
        if gone * 2 <= known {
            *self = Self::Open;
            return Verdict::Remove;
        }
        match *self {
            Self::Holding { until, .. } if fresh && now >= until => {
                *self = Self::Open;
                Verdict::Remove
            }
            Self::Holding { until, .. } => {
                *self = Self::Holding { until, doubted: gone };
                Verdict::Keep
            }
            Self::Open => {
                *self = Self::Holding { until: now + HOLD, doubted: gone };
                Verdict::Keep
            }
        }
    }

    /// Somebody knows that the peers are gone.
    pub fn confirm(&mut self, now: Instant) {
        if let Self::Holding { until, .. } = self {
            *until = now;
        }
    }

    /// The directory could not be asked.
    pub fn postpone(&mut self, now: Instant) {
        if let Self::Holding { until, .. } = self {
            *until = (*until).max(now + HOLD / 4);
        }
    }

    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Holding { until, .. } => Some(*until),
            Self::Open => None,
        }
    }
}

/// Netlink messages between two looks at the event socket.
pub const BATCH: usize = 1000;
/// How long a directory must stand by a mass removal.
pub const HOLD: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_may_go_more_must_wait() {
        let start = Instant::now();
        let mut brake = Brake::default();
        assert_eq!(brake.judge(0, 0, true, start), Verdict::Remove);
        assert_eq!(brake.judge(5, 10, true, start), Verdict::Remove);
        assert_eq!(brake.judge(6, 10, true, start), Verdict::Keep);
        assert_eq!(brake.deadline(), Some(start + HOLD));
        let early = start + HOLD / 2;
        assert_eq!(brake.judge(7, 10, true, early), Verdict::Keep);
        assert_eq!(brake.deadline(), Some(start + HOLD), "the clock is not wound back");
        assert_eq!(brake.judge(7, 10, false, start + HOLD), Verdict::Keep, "no one looked again");
        assert_eq!(brake.judge(7, 10, true, start + HOLD), Verdict::Remove);
        assert_eq!(brake, Brake::Open);
    }

    #[test]
    fn the_peers_came_back_or_somebody_says_so() {
        let start = Instant::now();
        let mut brake = Brake::default();
        brake.judge(6, 10, true, start);
        assert_eq!(brake.judge(1, 10, true, start), Verdict::Remove);
        assert_eq!(brake.deadline(), None);
        brake.judge(10, 10, true, start);
        brake.confirm(start);
        assert_eq!(brake.judge(10, 10, true, start), Verdict::Remove);
    }
}
