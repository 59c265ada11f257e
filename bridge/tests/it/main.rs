//! The bridge plugin as a runtime sees it: the real binary against the real kernel, in labs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod attach;
mod config;
mod container;
mod failures;
mod fault;
mod gateway;
mod killed;
mod masquerade;
mod mtu;
mod net;
mod port;
mod results;
mod routes;
