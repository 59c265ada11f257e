//! The bridge plugin as a runtime sees it: the real binary against the real kernel, in labs.

mod attach;
mod config;
mod container;
mod gateway;
mod masquerade;
mod mtu;
mod net;
mod port;
mod results;
mod routes;
