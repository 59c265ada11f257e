//! Whether checksums that hardware writes arrive whole: when to ask, and what follows from the answer. Knows no packet.
//!
//! A device may promise to write the checksum of what is inside a tunnel and fail: pings cross, TCP and UDP do not, and
//! nobody says why. The overlay's own device can have the kernel write them instead.

use std::{net::IpAddr, ops::Bound, time::Duration, time::Instant};

use log::Level;
use serde::{Deserialize, Serialize};

use super::{Action, Device, Machine, RESYNC};
use crate::{desired::Way, state::Standing};

/// Who writes the checksums of what goes into tunnels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksums {
    /// The device that the packet leaves by, if it says that it can.
    #[default]
    Offloaded,
    /// The kernel, since what the device wrote did not arrive.
    Software,
}

/// What came of [`Action::Probe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// A packet whose checksum was left to the device arrived.
    Whole,
    /// None of these arrived at the peer, and all with the kernel's own checksum did.
    Broken { peer: IpAddr },
    /// Neither kind did: a peer that is down, or a firewall.
    Unanswered,
}

/// When to probe next.
#[derive(Debug, Default)]
pub(super) struct Probing {
    pub(super) at: Option<Instant>,
    under_way: bool,
    wait: Duration,
}

impl Machine {
    /// There are peers now, or another underlay.
    pub(super) fn probe_soon(&mut self, now: Instant) {
        if self.checksums == Checksums::Offloaded && !self.probing.under_way {
            self.probing.wait = FIRST_WAIT;
            self.probing.at = Some(now + FIRST_WAIT);
        }
    }

    pub(super) fn probe_if_due(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.probing.at.is_none_or(|at| at > now) {
            return;
        }
        let made = matches!(self.device, Device::Made { .. });
        let owner = matches!(self.standing, Standing::Owner { .. });
        let targets = if made && owner { self.targets() } else { Vec::new() };
        self.probing.at = None;
        if !targets.is_empty() {
            self.probing.under_way = true;
            actions.push(Action::Probe(targets));
        }
    }

    pub(super) fn probed(&mut self, found: Probed, now: Instant, actions: &mut Vec<Action>) {
        self.probing.under_way = false;
        match found {
            Probed::Whole => self.probing.at = Some(now + AGAIN),
            Probed::Unanswered => {
                self.probing.wait = (self.probing.wait * 2).clamp(FIRST_WAIT, RESYNC);
                self.probing.at = Some(now + self.probing.wait);
            }
            Probed::Broken { peer } => {
                let link = self.underlay.as_ref().map_or("the underlay", |underlay| underlay.name.as_str());
                let text = format!(
                    "packets whose checksum {link} has to write do not arrive at {peer} through the tunnel, the same packets \
                     with the kernel's own checksum do: switching checksum offload off on {device} (costs processor time; a newer \
                     driver or firmware of {link} may mend it)",
                    device = self.definition.device(),
                );
                actions.push(Action::Log(Level::Warn, text));
                self.checksums = Checksums::Software;
                self.dirty_at(now);
            }
        }
    }

    /// A few peers behind tunnels, from our own place in their order on: every host asks others.
    fn targets(&self) -> Vec<IpAddr> {
        let gateway = |way: &Way| match way {
            Way::Tunnel { gateway } => Some(*gateway),
            Way::Direct { .. } => None,
        };
        let Some(own) = self.standing.subnets().first() else { return Vec::new() };
        let routes = &self.desired.routes;
        let after = routes.range((Bound::Excluded(*own), Bound::Unbounded));
        let before = routes.range((Bound::Unbounded, Bound::Excluded(*own)));
        after.chain(before).filter_map(|(_, way)| gateway(way)).take(TARGETS).collect()
    }
}

const TARGETS: usize = 3;
/// A peer needs a moment to know us too.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// A virtual machine may come to be on other hardware.
const AGAIN: Duration = Duration::from_secs(3600);
