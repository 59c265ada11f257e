//! `netctl trace --explain`: follows a packet that nobody sends through all nodes, by what each kernel answers, there and back,
//! and judges as [`super::verdict`] does.

use std::net::IpAddr;

use anyhow::bail;

use super::{
    passage::{Answered, Arrival, FORWARD, Flow, Frame, Next, Passage, Passing, Wrap},
    probe::{Direction, Protocol},
    run::{Question, Report, ends, places, unseen},
    verdict::{Drop, Outcome, Verdict, describe},
};
use crate::{
    agent::{
        nodes::{Found, Nodes},
        place::Place,
        protocol::{Reply, Request},
    },
    exit::Failure,
};

/// An answer of a kernel, and where it was given.
#[derive(Clone, Debug)]
pub struct Step {
    /// Position.
    pub node: usize,
    pub netns: String,
    pub direction: Direction,
    pub answer: Answered,
    /// The packet in words.
    pub packet: String,
}

/// What was found out; the report's own hops are of packets, so it has none.
#[derive(Clone, Debug)]
pub struct Explained {
    pub steps: Vec<Step>,
    pub report: Report,
}

/// How one way ends.
enum End {
    Here {
        node: usize,
        place: Place,
    },
    Dropped(Drop),
    /// Out of the nodes.
    Left {
        last: String,
        next: IpAddr,
    },
    /// After as many namespaces as no packet passes.
    Circles,
}

/// Does it all. Wrong names are usage errors.
pub fn explain(question: &Question, nodes: &mut Nodes) -> Result<Explained, Failure> {
    let (source, destination, target) = ends(question, nodes)?;
    let fits = |address: &&IpAddr| address.is_ipv4() == target.is_ipv4();
    let given = nodes.address(&question.source).or_else(|| source.addresses.iter().find(fits).copied());
    let Some(from) = given else {
        return Err(Failure::Usage(format!("{} has no address to reach {target} from", question.source)));
    };
    let flow =
        Flow { source: from, destination: target, protocol: question.protocol, len: len(question, target) };
    let known = [Some(&source), destination.as_ref()];
    let mut walk = Walk { places: places(nodes, &known), nodes, ends: known, steps: Vec::new() };
    let there = walk.go((source.node, source.place.clone()), flow, Direction::Request)?;
    let back = match &there {
        End::Here { node, place } => {
            let flow = Flow { source: target, destination: from, ..flow };
            Some(walk.go((*node, place.clone()), flow, Direction::Reply)?)
        }
        _ => None,
    };
    let steps = walk.steps;
    let outcome = judge(&there, back.as_ref(), destination.as_ref(), &steps, &nodes.names());
    let evidence = unseen(nodes, &source, destination.as_ref(), target)?;
    let protocol = question.protocol;
    let report = Report {
        evidence,
        grown: Vec::new(),
        outcome,
        source,
        source_address: given,
        source_port: 0,
        protocol,
    };
    Ok(Explained { steps, report })
}

/// Of the IP packet that would be sent.
fn len(question: &Question, target: IpAddr) -> u32 {
    let ip = if target.is_ipv4() { 20 } else { 40 };
    let payload = u32::try_from(question.payload).unwrap_or(u32::MAX);
    match question.protocol {
        Protocol::Tcp(_) => ip + 20,
        Protocol::Icmp | Protocol::Udp(_) => payload.saturating_add(ip + 8),
    }
}

struct Walk<'a> {
    nodes: &'a mut Nodes,
    /// By node, as a probe's observers have them.
    places: Vec<Vec<Place>>,
    ends: [Option<&'a Found>; 2],
    steps: Vec<Step>,
}

impl Walk<'_> {
    fn go(&mut self, from: (usize, Place), flow: Flow, direction: Direction) -> anyhow::Result<End> {
        let (mut node, mut place) = from;
        let (mut arrival, mut wrap): (Option<Arrival>, Option<Wrap>) = (None, None);
        for _ in 0..MOST {
            let alone = self.nodes.all.len() == 1;
            let passing = Passing {
                place: place.clone(),
                flow,
                wrap,
                arrival: arrival.take(),
                places: self.places[node].clone(),
                neighbours: alone,
                foreign: self.nodes.foreign(node),
            };
            let passed = self.nodes.all[node].ask(Request::Pass(Box::new(passing)))?;
            let Reply::Passed(passage) = passed else {
                bail!("node {} answers another question", self.nodes.all[node].name)
            };
            let Passage { answers, next, wrap: left } = *passage;
            self.note((node, &place), answers, &flow, direction);
            wrap = left;
            match next {
                Next::Here => return Ok(End::Here { node, place }),
                Next::Into { place: into, arrival: by } => (place, arrival) = (into, Some(by)),
                Next::Out { device, frame } => match self.behind(frame)? {
                    Some((at, into)) => {
                        (node, place) = (at, into);
                        arrival = Some(Arrival { device: None, frame });
                    }
                    None => {
                        let last = format!("{}/{}/{device}", self.nodes.all[node].name, place.name);
                        return Ok(End::Left { last, next: frame.next });
                    }
                },
                Next::Dropped { device, reason, function, why } => {
                    let event = "drop".to_owned();
                    let answer =
                        Answered { device: device.clone(), event, text: why, wrapped: wrap.is_some() };
                    self.note((node, &place), vec![answer], &flow, direction);
                    let (name, netns) = (self.nodes.all[node].name.clone(), place.name);
                    let (reply, wrapped) = (direction == Direction::Reply, wrap.is_some());
                    return Ok(End::Dropped(Drop {
                        node: name,
                        netns,
                        device,
                        reason,
                        function,
                        rule: None,
                        reply,
                        wrapped,
                    }));
                }
            }
        }
        Ok(End::Circles)
    }

    fn note(
        &mut self,
        (node, place): (usize, &Place),
        answers: Vec<Answered>,
        flow: &Flow,
        direction: Direction,
    ) {
        let kind = match flow.protocol {
            Protocol::Icmp => "ICMP".to_owned(),
            Protocol::Tcp(port) => format!("TCP port {port}"),
            Protocol::Udp(port) => format!("UDP port {port}"),
        };
        let packet = format!("{} > {} {kind} len {}", flow.source, flow.destination, flow.len);
        let step =
            |answer| Step { node, netns: place.name.clone(), direction, answer, packet: packet.clone() };
        self.steps.extend(answers.into_iter().map(step));
    }

    /// The namespace with the address that a frame on the wire is for.
    fn behind(&mut self, frame: Frame) -> anyhow::Result<Option<(usize, Place)>> {
        let end = self.ends.iter().flatten().find(|end| end.addresses.contains(&frame.next));
        if let Some(end) = end {
            return Ok(Some((end.node, end.place.clone())));
        }
        for node in 0..self.nodes.all.len() {
            let foreign = self.nodes.foreign(node);
            if let Some(place) = self.nodes.all[node].locate(frame.next, foreign)? {
                return Ok(Some((node, place)));
            }
        }
        Ok(None)
    }
}

fn judge(
    there: &End,
    back: Option<&End>,
    destination: Option<&Found>,
    steps: &[Step],
    nodes: &[String],
) -> Outcome {
    let is_other = |node: usize, place: &Place| {
        destination.is_some_and(|wanted| (wanted.node, wanted.place.inode) != (node, place.inode))
    };
    let way =
        |end: &End| if back.is_some_and(|back| std::ptr::eq(back, end)) { "the answer " } else { "it " };
    let (verdict, mut detail) = match (there, back) {
        (End::Here { node, place }, _) if is_other(*node, place) => {
            (Verdict::Consumed, format!("by {}/{}, which has the address too", nodes[*node], place.name))
        }
        (End::Here { node, place }, Some(End::Here { .. })) => (
            Verdict::Delivered,
            format!("it would reach {}/{}, and the answer its source", nodes[*node], place.name),
        ),
        (End::Dropped(drop), _) | (_, Some(End::Dropped(drop))) => {
            // A router tells the sender what is too large; nobody tells the sender of a tunnel's packet.
            let is_told = drop.function.as_deref() == Some(FORWARD) && !drop.wrapped;
            (if is_told { Verdict::Rejected } else { Verdict::Dropped }, describe(drop))
        }
        (end @ End::Left { last, next }, _) | (_, Some(end @ End::Left { last, next })) => {
            let why =
                format!("{}would leave at {last} for {next}, which is on no node that was given", way(end));
            (Verdict::Inconclusive, why)
        }
        (end @ End::Circles, _) | (_, Some(end @ End::Circles)) => {
            (Verdict::Inconclusive, format!("{}would go in a circle", way(end)))
        }
        (End::Here { .. }, None) => (Verdict::Inconclusive, "the way back was not followed".to_owned()),
    };
    let drop = match (there, back) {
        (End::Dropped(drop), _) | (_, Some(End::Dropped(drop))) => Some(drop.clone()),
        _ => None,
    };
    let unread = steps.iter().filter(|step| step.answer.event == "nft").count();
    if unread > 0 && drop.is_none() {
        detail += ", if nftables lets it: its chains are not simulated";
    }
    Outcome { verdict, detail, number: 0, hops: Vec::new(), drop, between: None }
}

/// As many namespaces as a packet has time to live.
const MOST: usize = 64;
