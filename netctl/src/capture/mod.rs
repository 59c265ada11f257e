//! `netctl capture`: the packets of many namespaces and nodes in one file.

pub mod file;
pub mod filter;
pub mod pcapng;
pub mod record;
pub mod run;
pub mod sniffer;
