//! The lab: hosts and containers as namespaces, calls of the real plugin binaries, and proof that nothing is left.
//! Knows the protocol only as environment, JSON and exit status, so that it cannot share a mistake with the code under test.

mod advertise;
pub mod cluster;
pub mod daemon;
pub mod echo;
// musl's library has no word for what a tracer asks; the floor of the bench is built with that.
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
pub mod fault;
pub mod fleet;
pub mod image;
pub mod lab;
mod links;
pub mod ns;
pub mod options;
pub mod picture;
pub mod ping;
pub mod plugin;
mod rtnl;
mod sctp;
pub mod skip;
pub mod snapshot;
pub mod wait;
pub mod wire;
mod wiring;
