//! What the kernel says: the device, its tables, the underlay. Knows no directory.

use std::time::Instant;

use log::Level;

use super::{Action, Device, FIRST_BACKOFF, LAST_BACKOFF, Machine, Notice, Underlay};
use crate::diff::{Actual, Change};

impl Machine {
    pub(super) fn underlay_is(&mut self, underlay: Option<Underlay>, now: Instant) {
        if underlay == self.underlay {
            return;
        }
        // Direct routes hang on the link; the kernel drops them without a word when it goes down.
        self.actual = None;
        self.underlay = underlay;
        self.probe_soon(now);
        self.doubt(now);
    }

    pub(super) fn device_is(&mut self, answer: Result<u32, String>, now: Instant, actions: &mut Vec<Action>) {
        self.asked = false;
        match (answer, self.spec(actions)) {
            (Ok(_), Some(spec)) => {
                self.device = Device::Made { spec };
                self.actual = None;
                self.timers.backoff = FIRST_BACKOFF;
                if self.told.device_error.take().is_some() {
                    let text = format!("device {} is in place", self.definition.device());
                    actions.push(Action::Log(Level::Info, text));
                }
                self.dirty_at(now);
            }
            (Ok(_), None) => {}
            (Err(why), _) => {
                if self.told.device_error.as_ref() != Some(&why) {
                    actions.push(Action::Log(Level::Error, why.clone()));
                    self.told.device_error = Some(why);
                }
                self.retry(now);
            }
        }
    }

    pub(super) fn device_spoiled(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Device::Made { spec } = &self.device {
            let text = format!("device {} is gone or was changed: putting it back", spec.name);
            actions.push(Action::Log(Level::Warn, text));
            self.counters.repairs += 1;
        }
        self.forget_device();
        self.dirty_at(now);
    }

    pub(super) fn dumped(&mut self, answer: Result<Actual, String>, now: Instant, actions: &mut Vec<Action>) {
        self.asked = false;
        match answer {
            Ok(actual) => {
                self.actual = Some(actual);
                self.dirty_at(now);
            }
            Err(why) => {
                actions.push(Action::Log(Level::Error, why));
                self.retry(now);
            }
        }
    }

    pub(super) fn noticed(&mut self, notice: &Notice, now: Instant) {
        let Some(actual) = &mut self.actual else { return };
        let changed = match notice {
            Notice::Neighbour { ip, entry: Some(mac) } => actual.neighbours.insert(*ip, *mac) != Some(*mac),
            Notice::Neighbour { ip, entry: None } => actual.neighbours.remove(ip).is_some(),
            Notice::Fdb { mac, dst, there: true } => actual.fdb.entry(*mac).or_default().insert(*dst),
            Notice::Fdb { mac, dst, there: false } => {
                let there = actual.fdb.get(mac).is_some_and(|found| found.contains(dst));
                actual.forget_fdb(*mac, *dst);
                there
            }
            Notice::Route { prefix, metric, route: Some(route) } => {
                actual.routes.entry(*prefix).or_default().insert(*metric, *route) != Some(*route)
            }
            Notice::Route { prefix, metric, route: None } => {
                let there = actual.routes.get(prefix).is_some_and(|found| found.contains_key(metric));
                actual.forget_route(*prefix, *metric);
                there
            }
        };
        if changed {
            self.counters.repairs += 1;
            self.dirty(now);
        }
    }

    pub(super) fn overrun(&mut self, now: Instant) {
        self.counters.overruns += 1;
        self.actual = None;
        self.dirty(now);
    }

    pub(super) fn written(&mut self, failures: &[(Change, String)], now: Instant, actions: &mut Vec<Action>) {
        self.asked = false;
        if failures.is_empty() {
            self.timers.backoff = FIRST_BACKOFF;
            return;
        }
        self.counters.failures += u64::try_from(failures.len()).unwrap_or(u64::MAX);
        if let Some((_, why)) = failures.first() {
            let more = failures.len() - 1;
            let text = if more == 0 { why.clone() } else { format!("{why} (and {more} more)") };
            actions.push(Action::Log(Level::Error, text));
        }
        // What the kernel has now is anybody's guess.
        self.forget_device();
        self.retry(now);
    }

    /// What has been written is there, before the kernel's own word for it comes.
    pub(super) fn assume(&mut self, changes: &[Change]) {
        self.counters.changes += u64::try_from(changes.len()).unwrap_or(u64::MAX);
        if let Some(actual) = &mut self.actual {
            for change in changes {
                actual.apply(*change);
            }
        }
    }

    fn retry(&mut self, now: Instant) {
        self.dirty_at(now + self.timers.backoff);
        self.timers.backoff = (self.timers.backoff * 2).min(LAST_BACKOFF);
    }
}
