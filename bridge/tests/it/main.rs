//! The bridge plugin as a runtime sees it: the real binary against the real kernel, in labs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attach;
mod check;
mod config;
mod container;
mod crowd;
mod delegate;
mod detach;
mod failures;
mod fuzz;
mod gateway;
mod host;
mod interop;
mod killed;
mod masquerade;
mod mtu;
mod net;
mod port;
mod processes;
mod results;
mod reuse;
mod routes;
mod shared_bridge;
mod upkeep;
mod vlan;
