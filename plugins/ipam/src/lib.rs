//! Address management: ranges, the choice of an address, leases on disk, and the plugins `host-local` and `static`,
//! which modes run in their own process.
//!
//! Knows no kernel: addresses are decided on and written down here, others put them on interfaces.

pub mod allocate;
pub mod delegate;
pub mod host_local;
mod index;
mod origin;
pub mod owner;
pub mod place;
pub mod range;
#[cfg(test)]
mod readme;
mod requested;
mod resolv_conf;
pub mod static_;
pub mod store;
