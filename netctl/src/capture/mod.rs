//! `netctl capture`: the packets of many namespaces and nodes in one file.

pub mod filter;
pub mod record;
pub mod sniffer;
