//! What must change for the kernel to hold the desired objects and nothing else of ours. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::mac::MacAddr;

use crate::{
    desired::{self, Objects, Way},
    mac::MacText,
};

/// The kernel's objects on the overlay device, and the routes of our protocol into the network's pools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// With a MAC where the entry is permanent; other entries are the kernel's own and may go over to ours.
    pub neighbours: BTreeMap<IpAddr, Option<MacAddr>>,
    /// A MAC may have several destinations (the all-zero one does, where somebody floods).
    pub fdb: BTreeMap<MacAddr, BTreeSet<IpAddr>>,
    /// By metric: two of one prefix are two routes.
    pub routes: BTreeMap<IpNetwork, BTreeMap<u32, ActualRoute>>,
}

/// A route of ours as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActualRoute {
    /// Exactly what we would write for this way.
    Way(Way),
    /// Something else under our protocol number.
    Odd,
}

/// One change of one kernel object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    SetNeighbour {
        ip: IpAddr,
        mac: MacAddr,
    },
    SetFdb {
        mac: MacAddr,
        dst: IpAddr,
    },
    SetRoute {
        prefix: IpNetwork,
        way: Way,
    },
    RemoveRoute {
        prefix: IpNetwork,
        metric: u32,
    },
    /// With all its destinations.
    RemoveFdb {
        mac: MacAddr,
    },
    RemoveNeighbour {
        ip: IpAddr,
    },
}

/// The changes from `actual` to `desired`, in the order in which they are safe: what a route needs before the route,
/// additions before removals, removals in the reverse order.
pub fn diff(desired: &Objects, actual: &Actual) -> Vec<Change> {
    let mut changes = Vec::new();
    let Objects { neighbours, fdb, routes } = desired;
    let missing = neighbours.iter().filter(|(ip, mac)| actual.neighbours.get(ip) != Some(&Some(mac.0)));
    changes.extend(missing.map(|(ip, mac)| Change::SetNeighbour { ip: *ip, mac: mac.0 }));
    let missing = fdb.iter().filter(|(mac, dst)| {
        actual.fdb.get(&mac.0).is_none_or(|found| found.len() != 1 || !found.contains(dst))
    });
    changes.extend(missing.map(|(mac, dst)| Change::SetFdb { mac: mac.0, dst: *dst }));
    for (prefix, way) in routes {
        let found = actual.routes.get(prefix).and_then(|found| found.get(&desired::metric(*prefix)));
        if found != Some(&ActualRoute::Way(*way)) {
            changes.push(Change::SetRoute { prefix: *prefix, way: *way });
        }
    }
    // Matched by prefix and protocol alone: the metric is part of a route's key, so a wrong one is a second route.
    for (prefix, found) in &actual.routes {
        let right = routes.contains_key(prefix).then(|| desired::metric(*prefix));
        let stale = found.keys().filter(|metric| right != Some(**metric));
        changes.extend(stale.map(|metric| Change::RemoveRoute { prefix: *prefix, metric: *metric }));
    }
    let stale = actual.fdb.keys().filter(|mac| !fdb.contains_key(&MacText(**mac)));
    changes.extend(stale.map(|mac| Change::RemoveFdb { mac: *mac }));
    let stale = actual.neighbours.iter().filter(|(ip, mac)| mac.is_some() && !neighbours.contains_key(ip));
    changes.extend(stale.map(|(ip, _)| Change::RemoveNeighbour { ip: *ip }));
    changes
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetNeighbour { ip, mac } => write!(f, "set neighbour {ip} to {mac}"),
            Self::SetFdb { mac, dst } => write!(f, "set {mac} behind {dst}"),
            Self::SetRoute { prefix, way: Way::Tunnel { gateway } } => {
                write!(f, "set route to {prefix} through the tunnel to {gateway}")
            }
            Self::SetRoute { prefix, way: Way::Direct { gateway } } => {
                write!(f, "set route to {prefix} via {gateway}")
            }
            Self::RemoveRoute { prefix, metric } => write!(f, "remove route to {prefix} metric {metric}"),
            Self::RemoveFdb { mac } => write!(f, "remove {mac}"),
            Self::RemoveNeighbour { ip } => write!(f, "remove neighbour {ip}"),
        }
    }
}

impl Actual {
    /// What is there after `change` was made.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::SetNeighbour { ip, mac } => {
                self.neighbours.insert(ip, Some(mac));
            }
            Change::SetFdb { mac, dst } => {
                self.fdb.insert(mac, BTreeSet::from([dst]));
            }
            Change::SetRoute { prefix, way } => {
                let metric = desired::metric(prefix);
                self.routes.entry(prefix).or_default().insert(metric, ActualRoute::Way(way));
            }
            Change::RemoveRoute { prefix, metric } => self.forget_route(prefix, metric),
            Change::RemoveFdb { mac } => {
                self.fdb.remove(&mac);
            }
            Change::RemoveNeighbour { ip } => {
                self.neighbours.remove(&ip);
            }
        }
    }

    /// The route is gone.
    pub fn forget_route(&mut self, prefix: IpNetwork, metric: u32) {
        if let Some(found) = self.routes.get_mut(&prefix) {
            found.remove(&metric);
            if found.is_empty() {
                self.routes.remove(&prefix);
            }
        }
    }

    /// One destination of a MAC is gone.
    pub fn forget_fdb(&mut self, mac: MacAddr, dst: IpAddr) {
        if let Some(found) = self.fdb.get_mut(&mac) {
            found.remove(&dst);
            if found.is_empty() {
                self.fdb.remove(&mac);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn mac(last: u8) -> MacAddr {
        MacAddr([2, 0, 0, 0, 0, last])
    }

    fn prefix() -> IpNetwork {
        "10.244.2.0/24".parse().unwrap()
    }

    fn one_peer() -> Objects {
        let way = Way::Tunnel { gateway: ip("10.244.2.0") };
        Objects {
            neighbours: [(ip("10.244.2.0"), MacText(mac(2)))].into(),
            fdb: [(MacText(mac(2)), ip("192.0.2.2"))].into(),
            routes: [(prefix(), way)].into(),
        }
    }

    fn kernel_of(objects: &Objects) -> Actual {
        let mut actual = Actual::default();
        for change in diff(objects, &Actual::default()) {
            actual.apply(change);
        }
        actual
    }

    #[track_caller]
    fn check(spoil: impl FnOnce(&mut Actual), expected: &[Change]) {
        let desired = one_peer();
        let mut actual = kernel_of(&desired);
        spoil(&mut actual);
        let changes = diff(&desired, &actual);
        assert_eq!(changes, expected);
        for change in changes {
            actual.apply(change);
        }
        actual.neighbours.retain(|_, mac| mac.is_some());
        assert_eq!(actual, kernel_of(&desired), "one round is enough");
    }

    #[test]
    fn nothing_to_do_is_nothing_done() {
        check(|_| (), &[]);
    }

    #[test]
    fn a_new_peer_is_added_in_order() {
        let way = Way::Tunnel { gateway: ip("10.244.2.0") };
        check(
            |actual| *actual = Actual::default(),
            &[
                Change::SetNeighbour { ip: ip("10.244.2.0"), mac: mac(2) },
                Change::SetFdb { mac: mac(2), dst: ip("192.0.2.2") },
                Change::SetRoute { prefix: prefix(), way },
            ],
        );
    }

    #[test]
    fn what_changed_is_set_and_what_is_stale_is_removed() {
        let gateway = ip("10.244.2.0");
        let way = Way::Tunnel { gateway };
        check(
            |actual| {
                actual.neighbours.insert(gateway, Some(mac(9)));
            },
            &[Change::SetNeighbour { ip: gateway, mac: mac(2) }],
        );
        check(
            |actual| {
                actual.neighbours.insert(gateway, None);
            },
            &[Change::SetNeighbour { ip: gateway, mac: mac(2) }],
        );
        check(
            |actual| {
                actual.neighbours.insert(ip("10.244.2.9"), None);
            },
            &[],
        );
        check(
            |actual| {
                actual.neighbours.insert(ip("10.244.2.9"), Some(mac(2)));
            },
            &[Change::RemoveNeighbour { ip: ip("10.244.2.9") }],
        );
        check(
            |actual| {
                actual.fdb.insert(mac(2), [ip("192.0.2.2"), ip("192.0.2.66")].into());
            },
            &[Change::SetFdb { mac: mac(2), dst: ip("192.0.2.2") }],
        );
        check(
            |actual| {
                actual.fdb.insert(desired::EVERYBODY, [ip("192.0.2.66")].into());
            },
            &[Change::RemoveFdb { mac: desired::EVERYBODY }],
        );
        let metric = desired::metric(prefix());
        check(
            |actual| {
                actual.routes.insert(prefix(), [(metric, ActualRoute::Odd)].into());
            },
            &[Change::SetRoute { prefix: prefix(), way }],
        );
        check(
            |actual| {
                actual.routes.entry(prefix()).or_default().insert(7, ActualRoute::Way(way));
            },
            &[Change::RemoveRoute { prefix: prefix(), metric: 7 }],
        );
    }
}
