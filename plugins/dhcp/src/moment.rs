//! Time as leases count it: since the boot, suspensions included, the same for every process; and what comes by chance.

use std::{
    hash::{BuildHasher, RandomState},
    ops::Add,
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A point in time, in milliseconds since the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(pub u64);

impl Moment {
    pub fn now() -> Self {
        // Linux has this clock since 2.6.39.
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        Self(milliseconds(since_boot))
    }

    /// Zero when it is past.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(milliseconds(duration)))
    }
}

/// Hard to guess, which is all that a transaction's number has for protection.
pub fn random() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(Moment::now().0).to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
