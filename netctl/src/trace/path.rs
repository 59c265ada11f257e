//! What was seen of a probe, put into the order in which it happened: hops. Pure.
//!
//! Within a node its clock orders. Between nodes it does not, for clocks differ by more than a packet takes: there the
//! time to live orders, which every router lowers, and of equal ones the node that had the packet earlier.

use std::collections::BTreeMap;

use super::probe::{Direction, Mark, Recognised};
use crate::{
    agent::protocol::{At, Decided, Seen},
    packet::{Ip, Packet, Tunnel},
};

/// A sighting of one of our probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Position of its node.
    pub node: usize,
    pub number: u8,
    pub direction: Direction,
    /// On our clock.
    pub time_ns: i64,
    pub seen: Seen,
    pub packet: Packet,
}

/// One line of the way of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    pub sighting: Sighting,
    /// What changed since the hop before: NAT, a tunnel, forwarding.
    pub note: String,
}

impl Sighting {
    /// None if it is no probe of this run.
    pub fn new(node: usize, clock_offset: i64, seen: Seen, mark: &Mark) -> Option<Self> {
        let packet = Packet::network(seen.protocol, &seen.bytes);
        let Recognised { number, direction } = mark.recognise(&packet)?;
        let time_ns = i64::try_from(seen.time_ns).ok()?.saturating_add(clock_offset);
        Some(Self { node, number, direction, time_ns, seen, packet })
    }

    /// Whether it is an end that says nothing: of a copy, or of what our own sending needs.
    pub fn is_noise(&self) -> bool {
        let Seen { at, reason, function, .. } = &self.seen;
        let function = function.as_deref().unwrap_or_default();
        match (at, reason.as_deref()) {
            // Every echo reply is offered to ping sockets too, of which there is none.
            (At::Drop, Some("NO_SOCKET")) => function.starts_with("ping_rcv") || self.is_our_handshake(),
            // A flooded copy, or one for another port of a bridge.
            (At::Drop, Some("OTHERHOST" | "QUEUE_PURGE")) => true,
            (At::End, _) => !is_delivery(function),
            _ => false,
        }
    }

    /// Whether this is the end of a copy for somebody else, which a switch had flooded, and `other` its arrival.
    fn turns_away(&self, other: &Self) -> bool {
        let place = |it: &Self| (it.node, it.seen.netns.clone(), it.seen.device.clone(), it.seen.buffer);
        self.seen.reason.as_deref() == Some("OTHERHOST")
            && other.seen.at == At::Rx
            && self.seen.buffer != 0
            && place(self) == place(other)
    }

    /// The answer to our SYN: no socket waits for it, since a raw one sent.
    fn is_our_handshake(&self) -> bool {
        self.direction == Direction::Reply
            && self.seen.function.as_deref().is_some_and(|it| it.starts_with("tcp"))
    }

    fn ttl(&self) -> u8 {
        self.packet.inner().map_or(0, |ip| ip.ttl)
    }
}

/// Functions in which a protocol or a socket is done with a packet that it took.
fn is_delivery(function: &str) -> bool {
    const TAKEN: [&str; 7] =
        ["icmp_rcv", "icmpv6_rcv", "tcp_", "udp", "skb_consume_udp", "__udp", "skb_attempt_defer_free"];
    TAKEN.iter().any(|name| function.starts_with(name))
}

/// The way of probe `number`, request first, then the answer, then errors.
pub fn hops(sightings: &[Sighting], number: u8) -> Vec<Hop> {
    let mut hops = Vec::new();
    for direction in [Direction::Request, Direction::Reply, Direction::Error] {
        let mut of_nodes: BTreeMap<usize, Vec<&Sighting>> = BTreeMap::new();
        let of_probe = sightings.iter().filter(|it| it.number == number && it.direction == direction);
        for sighting in of_probe.clone() {
            if !sighting.is_noise() && !of_probe.clone().any(|other| other.turns_away(sighting)) {
                of_nodes.entry(sighting.node).or_default().push(sighting);
            }
        }
        for sightings in of_nodes.values_mut() {
            sightings.sort_by_key(|sighting| sighting.time_ns);
        }
        let mut before = None;
        for sighting in merge(of_nodes) {
            let note = before.map(|before| change(before, sighting)).unwrap_or_default();
            before = Some(sighting);
            hops.push(Hop { sighting: sighting.clone(), note });
        }
    }
    // Where a packet ends matters if nothing follows from it.
    let last = hops.len().saturating_sub(1);
    let mut index = 0..;
    hops.retain(|hop| {
        let is_end = hop.sighting.seen.at == At::End;
        let is_last = index.next() == Some(last) && hop.sighting.direction == Direction::Request;
        !is_end || is_last
    });
    hops
}

/// Takes the next of one node after another, each node's own order kept.
fn merge(of_nodes: BTreeMap<usize, Vec<&Sighting>>) -> Vec<&Sighting> {
    let ttl_at_first = |sightings: &[&Sighting]| sightings.iter().map(|it| it.ttl()).max().unwrap_or(0);
    let mut queues: Vec<(u8, std::vec::IntoIter<&Sighting>)> =
        of_nodes.into_values().map(|sightings| (ttl_at_first(&sightings), sightings.into_iter())).collect();
    let mut merged = Vec::new();
    loop {
        let next = queues
            .iter()
            .enumerate()
            .filter_map(|(index, (rank, queue))| queue.as_slice().first().map(|head| (index, *rank, *head)))
            .min_by_key(|(_, rank, head)| (u8::MAX - head.ttl(), u8::MAX - rank, head.time_ns));
        let Some((index, _, head)) = next else { return merged };
        queues[index].1.next();
        merged.push(head);
    }
}

/// What happened between two sightings of one probe, in words.
fn change(before: &Sighting, after: &Sighting) -> String {
    let (Some(was), Some(is)) = (before.packet.inner(), after.packet.inner()) else { return String::new() };
    let mut notes = Vec::new();
    match (outer(&before.packet), outer(&after.packet)) {
        (None, Some((tunnel, ip))) => {
            notes.push(format!("wrapped in {tunnel} to {}", ip.destination));
        }
        (Some((tunnel, _)), None) => notes.push(format!("unwrapped from {tunnel}")),
        _ => {}
    }
    let (ports_before, ports_after) = (was.transport.ports(), is.transport.ports());
    if (was.source, ports_before.map(|it| it.0)) != (is.source, ports_after.map(|it| it.0)) {
        notes.push(format!(
            "source NAT {} to {}",
            end(was.source, ports_before.map(|it| it.0)),
            end(is.source, ports_after.map(|it| it.0))
        ));
    }
    if (was.destination, ports_before.map(|it| it.1)) != (is.destination, ports_after.map(|it| it.1)) {
        notes.push(format!(
            "destination NAT {} to {}",
            end(was.destination, ports_before.map(|it| it.1)),
            end(is.destination, ports_after.map(|it| it.1))
        ));
    }
    if is.ttl < was.ttl {
        notes.push("forwarded".to_owned());
    }
    notes.join(", ")
}

fn end(address: std::net::IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| std::net::SocketAddr::new(address, port).to_string())
}

fn outer(packet: &Packet) -> Option<(Tunnel, &Ip)> {
    packet.layers.iter().find_map(|layer| match layer {
        crate::packet::Layer::Ip(ip) => ip.tunnel.map(|tunnel| (tunnel, ip)),
        crate::packet::Layer::Arp { .. } => None,
    })
}

/// The decision that a drop in netfilter comes from: the last in the same namespace about the same probe before it.
/// What a tunnel carries nftables does not show, so there any tunnel packet's will do.
pub fn decision<'a>(drop: &Sighting, decisions: &'a [(usize, Decided)], mark: &Mark) -> Option<&'a Decided> {
    let about = |decided: &Decided| {
        let packet = Packet::network(0, &decided.bytes);
        match mark.recognise_cut(&packet) {
            Some(found) => found.number == drop.number && found.direction == drop.direction,
            None => drop.packet.is_wrapped(),
        }
    };
    decisions
        .iter()
        .filter(|(node, decided)| *node == drop.node && decided.netns == drop.seen.netns)
        .map(|(_, decided)| decided)
        .rfind(|decided| decided.dropped && about(decided))
}
