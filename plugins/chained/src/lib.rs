//! The chained plugins: each changes or guards what an interface plugin before it in the list made. One module a plugin,
//! each with a binary of three lines.
//!
//! Knows no mode: which plugin made the interface is not asked, the result it left is.

mod addresses;
pub mod bandwidth;
pub mod firewall;
pub mod loopback;
pub mod portmap;
pub mod sbr;
mod stale;
pub mod tuning;
mod usable;
pub mod vrf;

#[cfg(test)]
mod readme;
