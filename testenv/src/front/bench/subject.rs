//! What is compared: each subject is a network as a runtime's list configures it, the same as the floor's messages, and
//! what the project promises of it. A new row of the bench is a new entry of [`SUBJECTS`].

use std::path::PathBuf;

use serde_json::Value;
use testenv::lab::Lab;
use testenv::ns::Ns;

mod bridge;
mod chain;
mod dual;
mod host_device;
mod link;
mod macvlan;
mod ptp;
mod questions;

pub(super) const SUBJECTS: [Subject; 10] = [
    bridge::PLAIN,
    bridge::MASQUERADE,
    chain::PUBLISHED,
    chain::BESIDE,
    macvlan::DUAL_STACK,
    ptp::DUAL_STACK,
    host_device::ONE_FAMILY,
    host_device::DUAL_STACK,
    link::IPVLAN,
    link::VLAN,
];

/// A network of one kind. Every contender has one for itself, with attachments numbered from 0.
pub(super) struct Subject {
    /// As the table calls it.
    pub(super) title: &'static str,
    /// Packages of ours that take part, and what their programs are called as plugins.
    pub(super) programs: &'static [(&'static str, &'static str)],
    /// Makes what must be there before the first ADD.
    pub(super) prepare: fn(&Network<'_>) -> anyhow::Result<()>,
    /// The kernel's name of a kind of links without which there is nothing to compare.
    pub(super) needs: Option<&'static str>,
    /// Another attachment stays there throughout, so that none is the network's first or last, as the floor is prepared.
    pub(super) beside: bool,
    /// The configurations of an attachment's plugins, in the order of ADD, without name and version.
    pub(super) chain: fn(&Network<'_>, usize) -> anyhow::Result<Vec<Value>>,
    pub(super) floor: Option<Floor>,
    /// How many leases of others there are, and how many attachments are made at once.
    pub(super) cases: &'static [(usize, &'static [usize])],
    pub(super) budgets: &'static [Budget],
}

/// What stands in for plugins where the kernel's own time is measured.
pub(super) struct Floor {
    /// Makes what a network's first attachment would have left.
    pub(super) prepare: fn(&Network<'_>) -> anyhow::Result<()>,
    pub(super) scripts: fn(&Network<'_>, usize) -> anyhow::Result<Scripts>,
}

/// The messages of one attachment: see `bin/floor.rs`.
pub(super) struct Scripts {
    pub(super) add: Vec<u8>,
    pub(super) del: Vec<u8>,
    /// The name of its lease file.
    pub(super) address: String,
}

/// One contender's network: 10.<number>.0.0/16.
pub(super) struct Network<'a> {
    pub(super) lab: &'a Lab,
    pub(super) containers: &'a [Ns],
    /// No other network of the bench has it.
    pub(super) number: u8,
    pub(super) name: String,
    pub(super) leases: PathBuf,
}

/// A figure that is promised of one attachment verb: see [`Against`].
pub(super) struct Budget {
    pub(super) verb: &'static str,
    pub(super) at_once: usize,
    pub(super) against: Against,
    pub(super) limit: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Against {
    /// Ours takes at most `limit` times as long as the floor.
    Floor,
    /// The Go plugins take at least `limit` times as long as ours.
    Peer,
    /// Ours takes at most `limit` times as long with this many leases of others as with none.
    Leases(usize),
}

/// At most `limit` times the floor, one at a time.
const fn floor(verb: &'static str, limit: f64) -> Budget {
    Budget { verb, at_once: 1, against: Against::Floor, limit }
}

/// At least `limit` times faster than the Go plugins.
const fn peer(verb: &'static str, at_once: usize, limit: f64) -> Budget {
    Budget { verb, at_once, against: Against::Peer, limit }
}

/// At most `limit` times as long with `leases` as on an empty host.
const fn full(verb: &'static str, leases: usize, limit: f64) -> Budget {
    Budget { verb, at_once: 1, against: Against::Leases(leases), limit }
}

/// Nothing is to be there beforehand.
fn nothing(_: &Network<'_>) -> anyhow::Result<()> {
    Ok(())
}
