//! What the directory and the disk say, and who is let in. Knows no kernel.

use std::{collections::BTreeMap, time::Instant};

use log::Level;

use super::{Action, Device, Directory, Machine, Update};
use crate::{
    family::PerFamily,
    peer::{self, Candidate, Candidates, Peer, Record, Refusal},
    plan::Verdict,
    state::{Saved, Standing, VERSION},
};

impl Machine {
    /// Believed until the directory answers.
    pub(super) fn restored(&mut self, saved: Saved, now: Instant, actions: &mut Vec<Action>) {
        let Saved { version: _, subnets, peers } = saved;
        if !subnets.is_empty() && matches!(self.standing, Standing::Waiting { .. }) {
            self.standing = Standing::Owner { subnets };
        }
        if !self.informed {
            let candidate =
                |record: Record| (record.node.to_string(), Candidate { rank: 0, record: Ok(record) });
            self.candidates = peers.into_iter().map(candidate).collect();
            self.informed = true;
            // At once: the directory's first answer is compared with this.
            self.judge_peers(now, actions);
        }
        self.doubt(now);
    }

    pub(super) fn informed_by(&mut self, update: Update, now: Instant, actions: &mut Vec<Action>) {
        match update {
            Update::Snapshot(candidates) => {
                self.counters.snapshots += 1;
                self.candidates = candidates;
                self.informed = true;
                self.fresh = true;
                self.found_again(now, actions);
                self.doubt(now);
            }
            Update::Changes(changes) => {
                self.found_again(now, actions);
                for (key, candidate) in changes {
                    match candidate {
                        Some(candidate) => self.candidates.insert(key, candidate),
                        None => self.candidates.remove(&key),
                    };
                }
                self.doubt(now);
            }
            Update::Lost(why) => {
                if !matches!(self.directory, Directory::Lost { .. }) {
                    let text = format!("directory lost: {why}; peers stay as they are");
                    actions.push(Action::Log(Level::Warn, text));
                    self.directory = Directory::Lost { since: now, why };
                }
                // A read that failed is no answer about the peers held back.
                if self.timers.asked_about.take().is_some() {
                    self.brake.postpone(now);
                }
            }
        }
    }

    fn found_again(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Directory::Lost { since, .. } = &self.directory {
            let seconds = now.saturating_duration_since(*since).as_secs();
            actions.push(Action::Log(Level::Info, format!("directory is back after {seconds} s")));
        }
        self.directory = Directory::Following;
    }

    pub(super) fn standing_is(&mut self, standing: Standing, now: Instant, actions: &mut Vec<Action>) {
        if standing == self.standing {
            return;
        }
        actions.push(match &standing {
            Standing::Owner { subnets } => {
                Action::Log(Level::Info, format!("this host owns {}", list(subnets)))
            }
            Standing::Waiting { why } => Action::Log(Level::Info, format!("this host owns no subnet: {why}")),
            Standing::Lost { subnets, why } => Action::Log(
                Level::Error,
                format!("this host lost {}: {why}; its containers stay, new ones are refused", list(subnets)),
            ),
        });
        self.standing = standing;
        self.save_soon(now);
        self.doubt(now);
    }

    pub(super) fn confirmed(&mut self, now: Instant) {
        self.brake.confirm(now);
        self.timers.asked_about = None;
        self.doubt(now);
    }

    pub(super) fn doubt(&mut self, now: Instant) {
        self.doubtful = true;
        self.dirty(now);
    }

    /// Lets in who may come in, and parts with who is gone, unless too many are at once.
    pub(super) fn judge_peers(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.informed {
            return;
        }
        self.doubtful = false;
        let mut admission = peer::admit(&self.definition, &self.us(), &self.candidates);
        self.log_refusals(&admission.refused, actions);
        let gone: BTreeMap<_, _> =
            self.peers.iter().filter(|(node, _)| !admission.peers.contains_key(*node)).collect();
        let was_holding = self.brake.deadline().is_some();
        let fresh = std::mem::take(&mut self.fresh);
        match self.brake.judge(gone.len(), self.peers.len(), fresh, now) {
            Verdict::Remove => self.timers.asked_about = None,
            Verdict::Keep => {
                if !was_holding {
                    let text = format!(
                        "{} of {} peers are gone from the directory at once: held back until it says so again, or `netctl overlay confirm {}`",
                        gone.len(),
                        self.peers.len(),
                        self.definition.name
                    );
                    actions.push(Action::Log(Level::Warn, text));
                }
                let held = self.beside(&admission.peers, gone);
                admission.peers.extend(held);
                self.timers.asked_about = self.timers.asked_about.filter(|_| !fresh);
            }
        }
        self.refused = admission.refused;
        if admission.peers != self.peers {
            self.peers = admission.peers;
            self.save_soon(now);
        }
    }

    /// Those of `gone` who are in nobody's way.
    fn beside(
        &self,
        admitted: &BTreeMap<crate::names::NodeName, Peer>,
        gone: BTreeMap<&crate::names::NodeName, &Peer>,
    ) -> BTreeMap<crate::names::NodeName, Peer> {
        let ranked = |rank| {
            move |(node, peer): (&_, &Peer)| {
                let record = self.record(node, peer);
                (format!("{rank}/{node}"), Candidate { rank, record: Ok(record) })
            }
        };
        let all: Candidates = admitted.iter().map(ranked(0)).chain(gone.into_iter().map(ranked(1))).collect();
        peer::admit(&self.definition, &self.us(), &all).peers
    }

    fn record(&self, node: &crate::names::NodeName, peer: &Peer) -> Record {
        let Peer { underlay, mac: address, subnets } = peer;
        let (mut at, mut mac) = (PerFamily::default(), PerFamily::default());
        at.set(self.definition.underlay, *underlay);
        mac.set(self.definition.underlay, *address);
        Record { node: node.clone(), underlay: at, subnets: subnets.clone(), mac }
    }

    fn log_refusals(&self, refused: &BTreeMap<String, Refusal>, actions: &mut Vec<Action>) {
        for (key, refusal) in refused {
            if self.refused.get(key) != Some(refusal) {
                actions.push(Action::Log(Level::Warn, format!("peer record {key} refused: {refusal}")));
            }
        }
        for key in self.refused.keys().filter(|key| !refused.contains_key(*key)) {
            actions.push(Action::Log(Level::Info, format!("peer record {key} is no longer refused")));
        }
    }

    /// Writes down who is known.
    pub(super) fn save(&mut self, actions: &mut Vec<Action>) {
        if !self.informed {
            return;
        }
        let peers = self.peers.iter().map(|(node, peer)| self.record(node, peer)).collect();
        let saved = Saved { version: VERSION, subnets: self.standing.subnets().to_vec(), peers };
        if self.told.saved.as_ref() != Some(&saved) {
            self.told.saved = Some(saved.clone());
            actions.push(Action::SaveSnapshot(saved));
        }
    }

    /// The device must be looked at again before anything is written.
    pub(super) fn forget_device(&mut self) {
        self.device = Device::Unknown;
        self.actual = None;
    }
}

fn list(subnets: &[ipnetwork::IpNetwork]) -> String {
    subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
