//! A run from beginning to end: find both ends, have every node watch, send, gather what is reported, judge.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{
    counters::{Counters, grown},
    observe,
    path::Sighting,
    probe::{Mark, Protocol},
    verdict::{Evidence, Outcome, Sent, Spot, Verdict, judge, judge_early},
};
use crate::{
    agent::{
        node::Node,
        nodes::{Found, Nodes},
        place::Place,
        protocol::{Event, Observe, Reply, Request, SendProbes},
    },
    exit::Failure,
};

/// What the user wants to know.
#[derive(Clone, Debug)]
pub struct Question {
    pub source: String,
    pub destination: String,
    pub protocol: Protocol,
    pub count: u8,
    /// Bytes behind the transport header.
    pub payload: usize,
    pub ipv6: bool,
    /// How long to wait for an answer to the last probe.
    pub patience: Duration,
    /// How long to wait for all of it at most.
    pub timeout: Duration,
    pub without_bpf: bool,
}

/// What was found out.
#[derive(Clone, Debug)]
pub struct Report {
    pub evidence: Evidence,
    /// Counters of errors that grew, by node and namespace; only read where BPF does not tell what happens.
    pub grown: Vec<(String, Counters)>,
    pub outcome: Outcome,
    pub source: Found,
    pub source_address: Option<IpAddr>,
    pub source_port: u16,
    pub protocol: Protocol,
}

/// Does it all. Wrong names are usage errors.
pub fn run(question: &Question, nodes: &mut Nodes) -> Result<Report, Failure> {
    let (source, destination, target) = ends(question, nodes)?;
    let mut evidence = unseen(nodes, &source, destination.as_ref(), target)?;
    evidence.limits = watch(question, nodes, &evidence.mark, &[Some(&source), destination.as_ref()])?;
    let given = nodes.address(&question.source);
    let order = SendProbes {
        mark: evidence.mark.to_string(),
        from: source.place.clone(),
        source: given,
        destination: target,
        protocol: question.protocol,
        count: question.count,
        payload: question.payload,
        interval_ms: INTERVAL_MS,
        patience_ms: u64::try_from(question.patience.as_millis()).unwrap_or(u64::MAX),
    };
    let places = places(nodes, &[Some(&source), destination.as_ref()]);
    let is_blind = evidence.limits.iter().any(|limit| limit.contains(observe::NO_BPF));
    let before = if is_blind { counters(nodes, &places)? } else { Vec::new() };
    nodes.all[source.node].begin(Request::Send(order))?;
    let mut gathering = Gathering { evidence, nodes, source_address: given, source_port: 0, ended: false };
    let outcome = gathering.gather(question.timeout);
    let Gathering { evidence, source_address, source_port, .. } = gathering;
    let after = if is_blind { counters(nodes, &places)? } else { Vec::new() };
    let grown =
        before.iter().zip(&after).map(|((name, before), (_, after))| (name.clone(), grown(before, after)));
    let grown = grown.filter(|(_, counters)| !counters.is_empty()).collect();
    Ok(Report { evidence, outcome, grown, source, source_address, source_port, protocol: question.protocol })
}

/// Of a packet that nobody has seen yet.
pub(super) fn unseen(
    nodes: &Nodes,
    source: &Found,
    destination: Option<&Found>,
    target: IpAddr,
) -> anyhow::Result<Evidence> {
    let spot = |found: &Found| Spot { node: found.node, netns: found.place.name.clone() };
    Ok(Evidence {
        mark: Mark::random()?,
        nodes: nodes.names(),
        source: spot(source),
        destination: destination.map(spot),
        target,
        sightings: Vec::new(),
        decisions: Vec::new(),
        sent: Vec::new(),
        answers: Vec::new(),
        limits: Vec::new(),
    })
}

/// What the counters say, by `node/namespace`.
fn counters(nodes: &mut Nodes, places: &[Vec<Place>]) -> anyhow::Result<Vec<(String, Counters)>> {
    let mut all = Vec::new();
    for (node, places) in nodes.all.iter_mut().zip(places) {
        if let Reply::Counters(counters) = node.ask(Request::Counters(places.clone()))? {
            all.extend(counters.into_iter().map(|(netns, it)| (format!("{}/{netns}", node.name), it)));
        }
    }
    Ok(all)
}

/// By node: its own namespace, and the ends that are on it.
pub fn places(nodes: &Nodes, ends: &[Option<&Found>]) -> Vec<Vec<Place>> {
    let of_node = |(position, node): (usize, &Node)| {
        let mut places = vec![node.own.clone()];
        let here = ends.iter().flatten().filter(|end| end.node == position);
        places.extend(here.map(|end| end.place.clone()));
        let mut seen = BTreeSet::new();
        places.retain(|place| seen.insert(place.inode));
        places
    };
    nodes.all.iter().enumerate().map(of_node).collect()
}

/// Source, destination if a node has it, and the address to send to.
pub fn ends(question: &Question, nodes: &mut Nodes) -> Result<(Found, Option<Found>, IpAddr), Failure> {
    let unknown = |what: &str| Failure::Usage(format!("no node knows {what:?}"));
    let mut resolve = |selector: &str| nodes.resolve(selector).with_context(|| format!("find {selector}"));
    let source = resolve(&question.source)?.ok_or_else(|| unknown(&question.source))?;
    let destination = resolve(&question.destination)?;
    if let Some(address) = nodes.address(&question.destination) {
        return Ok((source, destination, address));
    }
    let destination = destination.ok_or_else(|| unknown(&question.destination))?;
    let target = choose(&source, &destination, question.ipv6).ok_or_else(|| {
        let family = if question.ipv6 { "IPv6 " } else { "" };
        Failure::Usage(format!("{} has no {family}address", question.destination))
    })?;
    Ok((source, Some(destination), target))
}

/// An address of the destination in a family that the source has too.
fn choose(source: &Found, destination: &Found, ipv6: bool) -> Option<IpAddr> {
    let fits = |address: &&IpAddr| !ipv6 || address.is_ipv6();
    let reachable = |address: &&IpAddr| source.addresses.iter().any(|it| it.is_ipv6() == address.is_ipv6());
    let mut candidates = destination.addresses.iter().filter(fits);
    candidates.clone().find(reachable).or_else(|| candidates.next()).copied()
}

/// Has every node watch for the mark; what they cannot see.
fn watch(
    question: &Question,
    nodes: &mut Nodes,
    mark: &Mark,
    ends: &[Option<&Found>],
) -> anyhow::Result<Vec<String>> {
    let mut posted = Vec::new();
    let alone = nodes.all.len() == 1;
    for (position, places) in places(nodes, ends).into_iter().enumerate() {
        let foreign = nodes.foreign(position);
        let node = &mut nodes.all[position];
        let order = Observe {
            mark: mark.to_string(),
            places,
            neighbours: alone,
            foreign,
            without_bpf: question.without_bpf,
        };
        posted.push(node.post(Request::Observe(order))?);
    }
    let mut limits = Vec::new();
    for (node, posted) in nodes.all.iter_mut().zip(posted) {
        let of_node = node.begun(posted)?;
        limits.extend(of_node.iter().map(|limit| format!("{}: {limit}", node.name)));
    }
    Ok(limits)
}

/// Evidence while it comes in.
struct Gathering<'a> {
    evidence: Evidence,
    nodes: &'a mut Nodes,
    source_address: Option<IpAddr>,
    source_port: u16,
    ended: bool,
}

impl Gathering<'_> {
    /// Until all is answered and nothing more comes. What nothing explains yet may be explained by a neighbour that
    /// does not answer, which the kernel gives up on after three seconds. At the end of `timeout` what there is counts.
    fn gather(&mut self, timeout: Duration) -> Outcome {
        let begun = Instant::now();
        let (mut quiet, mut caught_up) = (QUIET, false);
        loop {
            let left = timeout.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return judge_early(&self.evidence, timeout);
            }
            match self.nodes.events.recv_timeout(quiet.min(left)) {
                Ok((node, event)) => {
                    self.take(node, event);
                    quiet = QUIET;
                }
                Err(RecvTimeoutError::Timeout) if !self.ended || left < quiet => {}
                Err(RecvTimeoutError::Timeout) if !caught_up => {
                    self.catch_up();
                    caught_up = true;
                }
                Err(RecvTimeoutError::Timeout) => {
                    let outcome = judge(&self.evidence);
                    let is_open = matches!(outcome.verdict, Verdict::Lost | Verdict::Inconclusive);
                    let left = NEIGHBOUR_GIVEN_UP.saturating_sub(begun.elapsed());
                    if !is_open || left.is_zero() || self.evidence.sightings.is_empty() {
                        return outcome;
                    }
                    quiet = left;
                }
                Err(RecvTimeoutError::Disconnected) => return judge(&self.evidence),
            }
        }
    }

    /// Hears from every node once more: what it saw before comes before, however far it is.
    fn catch_up(&mut self) {
        for node in &mut self.nodes.all {
            if let Err(err) = node.ask(Request::Clock) {
                self.evidence.limits.push(format!("{err:#}"));
            }
        }
    }

    fn take(&mut self, position: usize, event: Event) {
        let evidence = &mut self.evidence;
        match event {
            Event::Seen(seen) => {
                let offset = self.nodes.all[position].clock_offset;
                evidence.sightings.extend(Sighting::new(position, offset, seen, &evidence.mark));
            }
            Event::Decided(decided) => evidence.decisions.push((position, decided)),
            Event::Sent { number, source, port, error, .. } => {
                self.source_address = Some(source);
                self.source_port = port;
                evidence.sent.push(Sent { number, error });
            }
            Event::Answered(answer) => evidence.answers.push(answer),
            Event::SendingEnded => self.ended = true,
            Event::Failed(why) => {
                evidence.limits.push(format!("{}: {why}", self.nodes.all[position].name));
                // Without its sender there is nothing to wait for.
                self.ended |= position == evidence.source.node;
            }
            Event::Missed { packets, .. } => {
                let node = &self.nodes.all[position].name;
                evidence.limits.push(format!("{node}: {packets} sightings were lost, the node is busy"));
            }
            Event::Captured(_) => {}
        }
    }
}

const INTERVAL_MS: u64 = 200;
/// How long the last sightings may take to come in.
const QUIET: Duration = Duration::from_millis(80);
/// Three requests a second apart (neighbour parameters mcast_solicit, retrans_time), and a little.
const NEIGHBOUR_GIVEN_UP: Duration = Duration::from_millis(4000);
