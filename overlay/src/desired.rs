//! From peers to the kernel objects that reach them. Knows neither how they are written nor what is there now.

use std::{collections::BTreeMap, net::IpAddr};

use ipnetwork::IpNetwork;
use kernel::mac::MacAddr;
use serde::Serialize;

use crate::{
    definition::Definition, family::Family, mac::MacText, names::NodeName, onlink::Neighbourhood, peer::Peer,
};

/// The objects of one network, each under the key by which the kernel knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Objects {
    /// On the overlay device, permanent: who has this address.
    pub neighbours: BTreeMap<IpAddr, MacText>,
    /// On the overlay device: behind which underlay address is this MAC.
    pub fdb: BTreeMap<MacText, IpAddr>,
    /// In the main table, protocol [`PROTOCOL`], metric [`metric`].
    pub routes: BTreeMap<IpNetwork, Way>,
}

/// How a subnet is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Onlink through the overlay device; `gateway` is the subnet's own first address, which the neighbour table resolves.
    Tunnel { gateway: IpAddr },
    /// Through the underlay's link, to the peer's own address.
    Direct { gateway: IpAddr },
}

impl Objects {
    /// The number of kernel objects.
    pub fn len(&self) -> usize {
        self.neighbours.len() + self.fdb.len() + self.routes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What reaches `peers`. A peer on the underlay's own link is reached directly where the network says so; its subnets of
/// IPv6 behind an IPv4 underlay stay in the tunnel, for which the kernel has no next hop (RFC 5549 goes the other way only).
pub fn objects(definition: &Definition, around: &Neighbourhood, peers: &BTreeMap<NodeName, Peer>) -> Objects {
    // Maps of sorted lists are made in one go, several times as fast as one by one.
    let (mut neighbours, mut fdb, mut routes) = (Vec::new(), Vec::new(), Vec::new());
    for peer in peers.values() {
        let Peer { underlay, mac, subnets } = peer;
        let on_link = definition.direct && around.holds(*underlay);
        for subnet in subnets {
            if on_link && (underlay.is_ipv6() || subnet.is_ipv4()) {
                routes.push((*subnet, Way::Direct { gateway: *underlay }));
                continue;
            }
            let gateway = subnet.network();
            neighbours.push((gateway, *mac));
            fdb.push((*mac, *underlay));
            routes.push((*subnet, Way::Tunnel { gateway }));
        }
    }
    Objects {
        neighbours: neighbours.into_iter().collect(),
        fdb: fdb.into_iter().collect(),
        routes: routes.into_iter().collect(),
    }
}

/// 2^16 + a hash of 16 bits. Linux keeps IPv4 next hops in hash chains keyed by metric and device but not by gateway
/// (`fib_info_hashfn`, net/ipv4/fib_semantics.c): with one metric for all, 10,000 peers are one chain and cost seconds.
pub fn metric(prefix: IpNetwork) -> u32 {
    // FNV-1a, folded: no secret is kept, and 60,000 of them should cost nothing.
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = match prefix.network() {
        IpAddr::V4(v4) => v4.octets().iter().fold(FNV_OFFSET, step),
        IpAddr::V6(v6) => v6.octets().iter().fold(FNV_OFFSET, step),
    };
    let hash = step(hash, &prefix.prefix());
    METRIC_BASE + ((hash >> 16) ^ (hash & 0xffff))
}

/// The address of a host's own device: the first of its subnet, so that what the host itself sends into the network comes
/// from the network.
pub fn device_addresses(subnets: &[IpNetwork]) -> impl Iterator<Item = IpNetwork> {
    subnets.iter().filter_map(|subnet| {
        let first = subnet.network();
        IpNetwork::new(first, Family::of(first).bits()).ok()
    })
}

/// The all-zero MAC stands for "everybody else" in a forwarding table; it is never ours.
pub const EVERYBODY: MacAddr = MacAddr([0; 6]);
/// `t`: who made our routes (`/etc/iproute2/rt_protos`).
pub const PROTOCOL: u8 = 116;
const METRIC_BASE: u32 = 1 << 16;
const FNV_OFFSET: u32 = 0x811c_9dc5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onlink::Reach;

    fn peers(list: &[(&str, &str, &[&str])]) -> BTreeMap<NodeName, Peer> {
        let peer = |(node, underlay, subnets): &(&str, &str, &[&str])| {
            let peer = Peer {
                underlay: underlay.parse().unwrap(),
                mac: MacText("02:00:00:00:00:02".parse().unwrap()),
                subnets: subnets.iter().map(|subnet| subnet.parse().unwrap()).collect(),
            };
            (node.parse().unwrap(), peer)
        };
        list.iter().map(peer).collect()
    }

    #[track_caller]
    fn check(network: &str, peer: (&str, &str, &[&str]), expected: &str) {
        let definition: Definition = serde_json::from_str(network).unwrap();
        let link = ["10.0.0.0/24", "fd01::/64"].map(|network| (network.parse().unwrap(), Reach::Link));
        let objects = objects(&definition, &Neighbourhood::new(link), &peers(&[peer]));
        let expected: serde_json::Value = serde_json::from_str(expected).unwrap();
        assert_eq!(serde_json::to_value(objects).unwrap(), expected);
    }

    #[test]
    fn three_objects_a_peer() {
        check(
            r#"{"name":"lab","pools":["10.244.0.0/16","fd00:244::/48"]}"#,
            ("a", "10.0.0.2", &["10.244.2.0/24", "fd00:244:0:2::/64"]),
            r#"{"neighbours": {"10.244.2.0": "02:00:00:00:00:02", "fd00:244:0:2::": "02:00:00:00:00:02"},
                "fdb": {"02:00:00:00:00:02": "10.0.0.2"},
                "routes": {"10.244.2.0/24": {"tunnel": {"gateway": "10.244.2.0"}},
                           "fd00:244:0:2::/64": {"tunnel": {"gateway": "fd00:244:0:2::"}}}}"#,
        );
    }

    #[test]
    fn direct_where_the_link_is_shared() {
        let network = r#"{"name":"lab","direct":true,"pools":["10.244.0.0/16","fd00:244::/48"]}"#;
        check(
            network,
            ("a", "10.0.0.2", &["10.244.2.0/24", "fd00:244:0:2::/64"]),
            r#"{"neighbours": {"fd00:244:0:2::": "02:00:00:00:00:02"}, "fdb": {"02:00:00:00:00:02": "10.0.0.2"},
                "routes": {"10.244.2.0/24": {"direct": {"gateway": "10.0.0.2"}},
                           "fd00:244:0:2::/64": {"tunnel": {"gateway": "fd00:244:0:2::"}}}}"#,
        );
        check(
            network,
            ("a", "fd01::2", &["10.244.2.0/24", "fd00:244:0:2::/64"]),
            r#"{"neighbours": {}, "fdb": {}, "routes": {"10.244.2.0/24": {"direct": {"gateway": "fd01::2"}},
                "fd00:244:0:2::/64": {"direct": {"gateway": "fd01::2"}}}}"#,
        );
        check(
            network,
            ("a", "10.0.9.2", &["10.244.2.0/24"]),
            r#"{"neighbours": {"10.244.2.0": "02:00:00:00:00:02"}, "fdb": {"02:00:00:00:00:02": "10.0.9.2"},
                "routes": {"10.244.2.0/24": {"tunnel": {"gateway": "10.244.2.0"}}}}"#,
        );
    }

    #[test]
    fn metrics_spread() {
        let prefixes = (0..10_000u32).map(|i| {
            let ip = IpAddr::V4((0x0a00_0000 + (i << 8)).into());
            IpNetwork::new(ip, 24).unwrap()
        });
        let mut chains = BTreeMap::<u32, u32>::new();
        for prefix in prefixes {
            let metric = metric(prefix);
            assert!((1 << 16..1 << 17).contains(&metric));
            *chains.entry(metric).or_default() += 1;
        }
        // Pinned: another metric is another route, so a new version would rewrite every table.
        assert_eq!(metric("10.244.1.0/24".parse().unwrap()), 94768);
        assert!(chains.values().max().is_some_and(|longest| *longest < 8), "chains stay short");
    }
}
