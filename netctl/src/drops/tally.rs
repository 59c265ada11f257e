//! Counts drops that are alike, and knows which are no fault. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    agent::protocol::Seen,
    packet::{Layer, Packet, Transport},
};

/// Drops that are alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Kind {
    pub node: String,
    pub netns: String,
    pub device: String,
    pub reason: String,
    /// Without the offset, so that it is the same on every build.
    pub function: String,
    /// The last one's ports and numbers, if they differ.
    pub packet: String,
}

/// Counts by kind, until they are taken.
#[derive(Debug, Default)]
pub struct Tally {
    counts: BTreeMap<Kind, u64>,
}

impl Tally {
    pub fn add(&mut self, node: &str, seen: &Seen) {
        *self.counts.entry(Kind::new(node, seen)).or_default() += 1;
    }

    /// All since the last time, in order of their place.
    pub fn take(&mut self) -> BTreeMap<Kind, u64> {
        std::mem::take(&mut self.counts)
    }
}

impl Kind {
    fn new(node: &str, seen: &Seen) -> Self {
        let function = seen.function.as_deref().unwrap_or_default();
        Self {
            node: node.to_owned(),
            netns: seen.netns.clone(),
            device: seen.device.clone(),
            reason: seen.reason.clone().unwrap_or_default(),
            function: function.split('+').next().unwrap_or_default().to_owned(),
            packet: decode(seen).to_string(),
        }
    }
}

fn decode(seen: &Seen) -> Packet {
    Packet::network(seen.protocol, &seen.bytes)
}

/// Whether such a drop happens on a healthy node.
pub fn is_benign(seen: &Seen) -> bool {
    let function = seen.function.as_deref().unwrap_or_default();
    let packet = decode(seen);
    match seen.reason.as_deref().unwrap_or_default() {
        // Every echo reply is offered to ping sockets too.
        "NO_SOCKET" => function.starts_with("ping_rcv"),
        // A copy that a switch flooded to somebody it is not for.
        "OTHERHOST" => true,
        // A socket or device that closes throws away what waits.
        "QUEUE_PURGE" => true,
        // Membership reports and solicitations with nobody to send them to.
        "NO_TX_TARGET" | "NOT_SPECIFIED" | "IP_INNOROUTES" => is_membership(&packet),
        // Of a device that is being taken down.
        "DEV_READY" => is_membership(&packet),
        _ => false,
    }
}

/// IGMP (2), multicast listener discovery and neighbour discovery to groups.
fn is_membership(packet: &Packet) -> bool {
    packet.layers.iter().any(|layer| match layer {
        Layer::Ip(ip) => match ip.transport {
            Transport::Other(2) => true,
            Transport::Icmp { v6: true, kind: 130..=136 | 143, .. } => ip.destination.is_multicast(),
            // Extension headers hide what a listener report is when it is cut.
            Transport::Other(0) => ip.destination.is_multicast(),
            _ => false,
        },
        Layer::Arp { .. } => false,
    })
}

/// `06:12:01`, UTC, of seconds since 1970.
pub fn clock(seconds: u64) -> String {
    let day = seconds % 86_400;
    format!("{:02}:{:02}:{:02}", day / 3600, day / 60 % 60, day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::At;

    fn seen(reason: &str, function: &str) -> Seen {
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1, 2)
            .write(&mut bytes, &[])
            .unwrap();
        Seen {
            at: At::Drop,
            time_ns: 1,
            netns: "c1".to_owned(),
            device: "eth0".to_owned(),
            buffer: 1,
            reason: Some(reason.to_owned()),
            function: Some(function.to_owned()),
            protocol: 0x0800,
            bytes,
            len: 28,
        }
    }

    #[test]
    fn like_drops_are_counted_together() {
        let mut tally = Tally::default();
        tally.add("n1", &seen("IP_RPFILTER", "ip_rcv_finish+0x10"));
        tally.add("n1", &seen("IP_RPFILTER", "ip_rcv_finish+0x1c"));
        tally.add("n1", &seen("NEIGH_FAILED", "arp_error_report+0x10"));
        let counts: Vec<_> = tally.take().into_iter().map(|(kind, count)| (kind.function, count)).collect();
        assert_eq!(counts, [("ip_rcv_finish".to_owned(), 2), ("arp_error_report".to_owned(), 1)]);
        assert!(tally.take().is_empty());
    }

    #[test]
    fn what_every_node_drops_is_no_fault() {
        assert!(is_benign(&seen("NO_SOCKET", "ping_rcv+0x5")));
        assert!(!is_benign(&seen("NO_SOCKET", "__udp4_lib_rcv+0x5")));
        assert!(!is_benign(&seen("NOT_SPECIFIED", "br_forward+0x5")));
    }

    #[test]
    fn the_clock_is_utc() {
        assert_eq!(clock(1_700_000_001), "22:13:21");
    }
}
