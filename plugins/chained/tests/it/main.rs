//! The chained plugins as a runtime sees them: the real binaries against the real kernel, in labs.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod bandwidth;
mod crowd;
mod every;
mod firewall;
mod loopback;
mod net;
mod portmap;
mod sbr;
mod tuning;
mod vrf;
