//! Which underlay addresses are reached without a router: the choice between a tunnel and a plain route. Knows no peer.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// The routes of the main table through the underlay's link, longest prefix first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Neighbourhood(Vec<(IpNetwork, Reach)>);

/// How a route reaches its destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// On the link itself.
    Link,
    /// Through a router.
    Router,
}

impl Neighbourhood {
    pub fn new(routes: impl IntoIterator<Item = (IpNetwork, Reach)>) -> Self {
        let mut routes: Vec<_> = routes.into_iter().collect();
        routes.sort_by_key(|(network, reach)| (u8::MAX - network.prefix(), *network, *reach));
        routes.dedup();
        Self(routes)
    }

    /// Whether a packet to `ip` goes to `ip` itself.
    pub fn holds(&self, ip: IpAddr) -> bool {
        let best = self.0.iter().find(|(network, _)| network.contains(ip));
        best.is_some_and(|(_, reach)| *reach == Reach::Link)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_prefix_decides() {
        let route = |network: &str, reach| (network.parse::<IpNetwork>().unwrap(), reach);
        let around = Neighbourhood::new([
            route("0.0.0.0/0", Reach::Router),
            route("10.0.0.0/24", Reach::Link),
            route("10.0.0.128/25", Reach::Router),
            route("fd00::/64", Reach::Link),
        ]);
        for (ip, expected) in [
            ("10.0.0.5", true),
            ("10.0.0.200", false),
            ("10.0.1.5", false),
            ("fd00::7", true),
            ("fd01::7", false),
        ] {
            assert_eq!(around.holds(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
