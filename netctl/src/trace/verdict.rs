//! What became of a probe. Pure: sightings, decisions and answers in, one verdict out.

use std::{net::IpAddr, time::Duration};

use super::{
    path::{self, Hop, Sighting},
    probe::{Direction, Mark},
};
use crate::agent::protocol::{Answer, Answered, At, Decided};

/// All that is known about a run.
#[derive(Clone, Debug)]
pub struct Evidence {
    pub mark: Mark,
    /// Names by position.
    pub nodes: Vec<String>,
    pub source: Spot,
    /// None when it is outside of all nodes.
    pub destination: Option<Spot>,
    pub target: IpAddr,
    pub sightings: Vec<Sighting>,
    pub decisions: Vec<(usize, Decided)>,
    pub sent: Vec<Sent>,
    pub answers: Vec<Answered>,
    /// What could not be watched, and why.
    pub limits: Vec<String>,
}

/// A namespace on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    pub node: usize,
    pub netns: String,
}

/// One probe, as far as its sender goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub number: u8,
    /// Why it could not be sent.
    pub error: Option<String>,
}

/// What became of the probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    /// In words: by whom, between what, why.
    pub detail: String,
    /// Which probe shows it.
    pub number: u8,
    pub hops: Vec<Hop>,
    pub drop: Option<Drop>,
    /// Between which two places it was lost.
    pub between: Option<(String, String)>,
}

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Delivered,
    DeliveredNoReply,
    Dropped,
    Lost,
    Consumed,
    Rejected,
    Inconclusive,
}

/// Where and why a packet was dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    pub node: String,
    pub netns: String,
    pub device: String,
    pub reason: String,
    pub function: Option<String>,
    /// The rule of nftables that decided it.
    pub rule: Option<String>,
    /// Whether it was the answer that was dropped.
    pub reply: bool,
    /// Whether a tunnel wrapped it.
    pub wrapped: bool,
}

impl Verdict {
    /// The word that scripts read.
    pub fn word(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::DeliveredNoReply => "delivered-no-reply",
            Self::Dropped => "dropped",
            Self::Lost => "lost",
            Self::Consumed => "consumed",
            Self::Rejected => "rejected",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// The outcome of the run: one delivered probe is enough for "delivered", else one that was refused speaks for all
/// (hosts send only so many errors a second), else the last.
pub fn judge(evidence: &Evidence) -> Outcome {
    let numbers: Vec<u8> = evidence.sent.iter().map(|sent| sent.number).collect();
    let outcomes: Vec<Outcome> = numbers.iter().map(|&number| Case { evidence, number }.judge()).collect();
    let delivered = outcomes.iter().filter(|it| it.verdict == Verdict::Delivered).count();
    let total = outcomes.len();
    // The last of its kind, for the first may have waited for a neighbour's address.
    let last = |verdict: Verdict| outcomes.iter().rposition(|it| it.verdict == verdict);
    let chosen = last(Verdict::Delivered).or_else(|| last(Verdict::Rejected));
    match outcomes.into_iter().nth(chosen.unwrap_or_else(|| total.saturating_sub(1))) {
        Some(mut outcome) if 0 < delivered && delivered < total => {
            outcome.detail = format!("{delivered} of {total} probes were answered; {}", outcome.detail);
            outcome
        }
        Some(outcome) => outcome,
        None => inconclusive("no probe was sent"),
    }
}

/// The outcome when nobody waits any longer: what was seen counts, what was not seen does not, for it may still come.
pub fn judge_early(evidence: &Evidence, waited: Duration) -> Outcome {
    let outcome = judge(evidence);
    match outcome.verdict {
        Verdict::Delivered | Verdict::Dropped | Verdict::Consumed | Verdict::Rejected => outcome,
        Verdict::DeliveredNoReply | Verdict::Lost | Verdict::Inconclusive => Outcome {
            verdict: Verdict::Inconclusive,
            detail: format!("not decided within {} s; so far: {}", waited.as_secs(), outcome.detail),
            between: None,
            ..outcome
        },
    }
}

fn inconclusive(why: &str) -> Outcome {
    Outcome {
        verdict: Verdict::Inconclusive,
        detail: why.to_owned(),
        number: 0,
        hops: Vec::new(),
        drop: None,
        between: None,
    }
}

/// One probe.
struct Case<'a> {
    evidence: &'a Evidence,
    number: u8,
}

impl Case<'_> {
    fn judge(&self) -> Outcome {
        let hops = path::hops(&self.evidence.sightings, self.number);
        let drop = self.last_drop(&hops);
        let answer = self.evidence.answers.iter().find(|answer| answer.number == self.number);
        let (verdict, detail) = match (answer, &drop) {
            (Some(answer), _) => self.answered(answer, &hops),
            (None, Some(drop)) => (Verdict::Dropped, describe(drop)),
            (None, None) => self.unanswered(&hops),
        };
        let between = (verdict == Verdict::Lost).then(|| self.between(&hops)).flatten();
        let detail = match &between {
            Some((a, b)) => format!("between {a} and {b}: seen there last, here never"),
            None => detail,
        };
        // A port that is closed refuses; that is an answer and no drop on the way.
        let drop = drop.filter(|_| !matches!(verdict, Verdict::Delivered));
        Outcome { verdict, detail, number: self.number, hops, drop, between }
    }

    fn answered(&self, answer: &Answered, hops: &[Hop]) -> (Verdict, String) {
        let Answered { kind, from, packet, .. } = answer;
        if let Some(other) = self.impostor(hops) {
            return (Verdict::Consumed, format!("by {other}, which has the address {from} too: {packet}"));
        }
        match kind {
            Answer::Reply => (Verdict::Delivered, format!("answered by {from}")),
            Answer::Reset => (Verdict::Rejected, format!("by {from}: {packet}, the port is closed")),
            Answer::Error => (Verdict::Rejected, format!("by {from}: {packet}")),
        }
    }

    /// Who answered in place of the destination: the request never came there, no NAT sent it elsewhere, and yet an
    /// answer came from another namespace.
    fn impostor(&self, hops: &[Hop]) -> Option<String> {
        let Spot { node, netns } = self.evidence.destination.as_ref()?;
        let last = hops.iter().rfind(|hop| hop.sighting.direction == Direction::Request)?;
        let target = last.sighting.packet.inner()?.destination;
        let first = hops.iter().find(|hop| hop.sighting.direction == Direction::Reply)?;
        let elsewhere = (first.sighting.node, &first.sighting.seen.netns) != (*node, netns);
        let at_source = last.sighting.node == self.evidence.source.node
            && last.sighting.seen.netns == self.evidence.source.netns;
        let never_came = !hops.iter().any(|hop| self.is_arrival(&hop.sighting));
        let is_other = target == self.evidence.target && elsewhere && never_came && !at_source;
        (is_other && first.sighting.seen.at == At::Tx).then(|| self.place(&first.sighting))
    }

    fn unanswered(&self, hops: &[Hop]) -> (Verdict, String) {
        let error = self.evidence.sent.iter().find(|sent| sent.number == self.number);
        if let Some(error) = error.and_then(|sent| sent.error.as_ref()) {
            return (Verdict::Dropped, format!("the source cannot send it: {error}"));
        }
        let Some(last) = hops.last() else {
            let why = match self.evidence.limits.is_empty() {
                true => "the probe was sent, but seen nowhere".to_owned(),
                false => format!("nothing was seen: {}", self.evidence.limits.join("; ")),
            };
            return (Verdict::Inconclusive, why);
        };
        if last.sighting.direction != Direction::Request {
            let place = self.place(&last.sighting);
            return (Verdict::DeliveredNoReply, format!("the answer was seen last at {place}"));
        }
        if hops.iter().any(|hop| self.is_arrival(&hop.sighting)) {
            return (Verdict::DeliveredNoReply, "it arrived, and nothing came back".to_owned());
        }
        if last.sighting.seen.at == At::End {
            let function = last.sighting.seen.function.as_deref().unwrap_or_default();
            return (Verdict::Consumed, format!("by {} in {function}", self.place(&last.sighting)));
        }
        (Verdict::Lost, String::new())
    }

    /// Whether the request is in the destination's namespace, unwrapped.
    fn is_arrival(&self, sighting: &Sighting) -> bool {
        let Some(Spot { node, netns }) = &self.evidence.destination else { return false };
        let at_end = matches!(sighting.seen.at, At::Rx | At::End);
        let here = sighting.node == *node && sighting.seen.netns == *netns && at_end;
        // A host is passed through as well: only what is addressed to it has arrived.
        here && !sighting.packet.is_wrapped()
            && sighting.direction == Direction::Request
            && sighting.packet.inner().is_some_and(|ip| ip.destination == self.evidence.target)
    }

    fn last_drop(&self, hops: &[Hop]) -> Option<Drop> {
        let sent_error = || {
            let sent = self.evidence.sent.iter().find(|sent| sent.number == self.number)?;
            let error = sent.error.clone()?;
            Some(self.at_source(error))
        };
        let dropped = |hop: &&Hop| hop.sighting.seen.at == At::Drop;
        // What happened to an error message does not matter to the probe it is about.
        let of_probe = |hop: &&Hop| hop.sighting.direction != Direction::Error;
        let Some(hop) = hops.iter().filter(of_probe).rfind(dropped) else {
            return sent_error().or_else(|| self.decided_unseen());
        };
        let Sighting { node, seen, direction, packet, .. } = &hop.sighting;
        let rule = path::decision(&hop.sighting, &self.evidence.decisions, &self.evidence.mark);
        Some(Drop {
            node: self.node(*node),
            netns: seen.netns.clone(),
            device: seen.device.clone(),
            reason: seen.reason.clone().unwrap_or_default(),
            function: seen.function.clone(),
            rule: rule.map(|rule| rule.rule.clone()),
            reply: *direction == Direction::Reply,
            wrapped: packet.is_wrapped(),
        })
    }

    /// Without BPF the drop itself is not seen, but nftables tells its decision.
    fn decided_unseen(&self) -> Option<Drop> {
        let (node, decided, direction) =
            self.evidence.decisions.iter().rev().find_map(|(node, decided)| {
                let packet = crate::packet::Packet::network(0, &decided.bytes);
                let found = self.evidence.mark.recognise_cut(&packet)?;
                let about =
                    decided.dropped && found.number == self.number && found.direction != Direction::Error;
                about.then_some((*node, decided, found.direction))
            })?;
        Some(Drop {
            node: self.node(node),
            netns: decided.netns.clone(),
            device: String::new(),
            reason: "NETFILTER_DROP".to_owned(),
            function: None,
            rule: Some(decided.rule.clone()),
            reply: direction == Direction::Reply,
            wrapped: false,
        })
    }

    fn at_source(&self, reason: String) -> Drop {
        let Spot { node, netns } = &self.evidence.source;
        Drop {
            node: self.node(*node),
            netns: netns.clone(),
            device: String::new(),
            reason,
            function: None,
            rule: None,
            reply: false,
            wrapped: false,
        }
    }

    /// The last place that saw it, and the one that should have been next as far as we know.
    fn between(&self, hops: &[Hop]) -> Option<(String, String)> {
        let last = &hops.last()?.sighting;
        let next = match &self.evidence.destination {
            Some(spot) if spot.node != last.node => self.node(spot.node),
            Some(spot) => format!("{}/{}", self.node(spot.node), spot.netns),
            None => self.evidence.target.to_string(),
        };
        Some((self.place(last), next))
    }

    fn node(&self, position: usize) -> String {
        self.evidence.nodes.get(position).cloned().unwrap_or_default()
    }

    fn place(&self, sighting: &Sighting) -> String {
        let seen = &sighting.seen;
        format!("{}/{}/{}", self.node(sighting.node), seen.netns, seen.device)
    }
}

/// `NETFILTER_DROP on n2/host (vxlan42): ip filter FORWARD policy drop`
pub fn describe(drop: &Drop) -> String {
    let Drop { node, netns, device, reason, function, rule, reply, .. } = drop;
    let what = if *reply { "the answer, " } else { "" };
    let device = if device.is_empty() { String::new() } else { format!(" at {device}") };
    let function = function.as_ref().map(|function| format!(" in {function}")).unwrap_or_default();
    let rule = rule.as_ref().map(|rule| format!(" by {rule}")).unwrap_or_default();
    format!("{what}{reason} on {node}/{netns}{device}{function}{rule}")
}
