//! One network over many hosts: what reaches each peer is computed as data ([`peer`], [`desired`], [`diff`], [`plan`],
//! [`machine`]: no socket, no clock), then written to the kernel by a thin shell.
//!
//! The plugin `overlay` does local work only, from the state file that the agent `overlayd` keeps ([`state`]). Who the
//! peers are, a directory says: a file or etcd. Nothing here decides by vote or gossip.

pub mod agent;
pub mod apply;
pub mod client;
pub mod config;
pub mod definition;
pub mod desired;
pub mod diff;
pub mod directory;
pub mod family;
pub mod host;
pub mod keeper;
pub mod mac;
pub mod machine;
pub mod mtu;
pub mod names;
pub mod onlink;
pub mod peer;
pub mod plan;
pub mod plugin;
pub mod readiness;
pub mod state;
