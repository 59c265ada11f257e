//! What several modes share of an attachment: the record of it, the container's side, gateways and routes of a result,
//! the suite's own nftables tables, and the checks of what is still there.
//!
//! Joins CNI to the kernel for the plugins, and knows no plugin: what a bridge is, or a published port, is not here.

pub mod addresses;
pub mod check;
pub mod container;
pub mod detach;
pub mod failures;
pub mod gateway;
pub mod hardware;
pub mod host_bridge;
pub mod link_local;
pub mod lock;
pub mod lone;
pub mod master;
pub mod mtu;
pub mod record;
pub mod ruleset;
pub mod supposed;
pub mod veth;
