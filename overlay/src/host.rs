//! This host's kernel: the device, the tables, the events and the underlay of a network. Knows no directory, and decides
//! nothing: what to do is an [`crate::machine::Action`].

pub mod device;
pub mod events;
pub mod guard;
pub mod port;
pub mod tables;
pub mod underlay;

use kernel::link::LinkIndex;

/// The links of one network, as its tables refer to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// `ovl<vni>`.
    pub device: LinkIndex,
    /// What carries the tunnels.
    pub underlay: LinkIndex,
}
