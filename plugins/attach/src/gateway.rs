//! Gateways and default routes of a result, for the modes in which the host is the container's router.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cni::{
    error::Error,
    result::{AddResult, Route},
};
use ipnetwork::IpNetwork;

/// What the host is to the containers of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// Not their router; gateways that the address plugin names are somebody else's.
    None,
    /// Their router: it owns each subnet's gateway address.
    Router,
    /// Their router, and the way to everywhere else.
    DefaultRouter,
}

/// Completes `result` in place, and says which addresses the host must own, each with its subnet's prefix length and
/// once.
///
/// An address without a gateway gets its subnet's first address; fails (code 7) where the subnet has none to set aside. Where the host is the default router, each family that
/// has an address gets one default route: the result's own if there is one, which then goes through that family's
/// gateway if it names none (the reference adds a second one, and the kernel refuses it).
pub fn complete(result: &mut AddResult, gateway: Gateway) -> Result<Vec<IpNetwork>, Error> {
    if gateway == Gateway::None {
        return Ok(Vec::new());
    }
    let mut owned = Vec::new();
    for ip in &mut result.ips {
        let address = match ip.gateway {
            Some(address) => address,
            None => *ip.gateway.insert(first_address(ip.address)?),
        };
        let address = with_prefix_of(ip.address, address);
        if !owned.contains(&address) {
            owned.push(address);
        }
    }
    if gateway == Gateway::DefaultRouter {
        for default in [default_route(true), default_route(false)] {
            let of_family = |network: &IpNetwork| network.is_ipv4() == default.is_ipv4();
            let Some(ip) = result.ips.iter().find(|ip| of_family(&ip.address)) else { continue };
            match result.routes.iter_mut().find(|route| route.dst == default) {
                Some(route) => route.gw = route.gw.or(ip.gateway),
                None => result.routes.push(Route::new(default, ip.gateway)),
            }
        }
    }
    Ok(owned)
}

/// `0.0.0.0/0` or `::/0`.
pub fn default_route(v4: bool) -> IpNetwork {
    let unspecified = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A prefix length of 0 is valid in both families.
    IpNetwork::new(unspecified, 0).expect("0 is a prefix length")
}

/// The subnet's address after its own, which is the convention for a router. A subnet of two addresses or one has none of its own
/// (RFC 3021, RFC 6164): every one may be a container's.
fn first_address(address: IpNetwork) -> Result<IpAddr, Error> {
    let first = match address {
        IpNetwork::V4(net) if net.prefix() < 31 => Ipv4Addr::from(u32::from(net.network()) + 1).into(),
        IpNetwork::V6(net) if net.prefix() < 127 => Ipv6Addr::from(u128::from(net.network()) + 1).into(),
        full => {
            let why =
                "comes without a gateway, and its subnet has no address to spare for one: name the gateway";
            return Err(Error::invalid_config("ipam", full, why));
        }
    };
    Ok(first)
}

/// `address` with the prefix length of `network`; as a host address when the families differ, which an address plugin
/// can make happen (RFC 5549).
fn with_prefix_of(network: IpNetwork, address: IpAddr) -> IpNetwork {
    if network.is_ipv4() == address.is_ipv4() {
        IpNetwork::new(address, network.prefix()).unwrap_or_else(|_| IpNetwork::from(address))
    } else {
        IpNetwork::from(address)
    }
}

#[cfg(test)]
mod tests {
    use cni::result::IpConfig;

    use super::*;

    fn net(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    fn result(ips: &[(&str, Option<&str>)], routes: &[(&str, Option<&str>)]) -> AddResult {
        let ip = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        AddResult {
            ips: ips
                .iter()
                .map(|(a, g)| IpConfig { interface: None, address: net(a), gateway: ip(*g) })
                .collect(),
            routes: routes.iter().map(|(dst, gw)| Route::new(net(dst), ip(*gw))).collect(),
            ..AddResult::default()
        }
    }

    #[track_caller]
    fn check(gateway: Gateway, mut input: AddResult, expected: AddResult, owned: &[&str]) {
        let addresses = complete(&mut input, gateway).unwrap();
        assert_eq!(input, expected);
        assert_eq!(addresses, owned.iter().map(|a| net(a)).collect::<Vec<_>>());
    }

    #[test]
    fn not_a_router_changes_nothing() {
        let unchanged = || result(&[("10.1.0.5/16", None)], &[("0.0.0.0/0", None)]);
        check(Gateway::None, unchanged(), unchanged(), &[]);
    }

    #[test]
    fn a_router_owns_each_subnets_gateway() {
        check(
            Gateway::Router,
            result(&[("10.1.3.5/16", None), ("10.2.0.5/24", Some("10.2.0.254")), ("fd00::5/64", None)], &[]),
            result(
                &[
                    ("10.1.3.5/16", Some("10.1.0.1")),
                    ("10.2.0.5/24", Some("10.2.0.254")),
                    ("fd00::5/64", Some("fd00::1")),
                ],
                &[],
            ),
            &["10.1.0.1/16", "10.2.0.254/24", "fd00::1/64"],
        );
        check(
            Gateway::Router,
            result(&[("10.1.0.5/16", None), ("10.1.0.6/16", None)], &[]),
            result(&[("10.1.0.5/16", Some("10.1.0.1")), ("10.1.0.6/16", Some("10.1.0.1"))], &[]),
            &["10.1.0.1/16"],
        );
        let named = || result(&[("10.1.0.1/31", Some("10.1.0.0"))], &[]);
        check(Gateway::Router, named(), named(), &["10.1.0.0/31"]);
    }

    #[test]
    fn a_subnet_without_an_address_to_spare_has_no_gateway() {
        for address in ["10.1.0.0/31", "10.1.0.1/31", "255.255.255.255/32", "fd00::/127", "fd00::1/128"] {
            let error = complete(&mut result(&[(address, None)], &[]), Gateway::Router).unwrap_err();
            assert!(error.msg.starts_with(&format!("ipam: {address}: comes without a gateway")), "{error}");
        }
        let mut unrouted = result(&[("10.1.0.0/31", None)], &[]);
        assert_eq!(complete(&mut unrouted, Gateway::None), Ok(Vec::new()));
    }

    #[test]
    fn a_default_router_has_one_default_route_a_family() {
        let ips = [("10.1.0.5/16", None), ("10.2.0.5/16", None), ("fd00::5/64", None)];
        let full = [
            ("10.1.0.5/16", Some("10.1.0.1")),
            ("10.2.0.5/16", Some("10.2.0.1")),
            ("fd00::5/64", Some("fd00::1")),
        ];
        let owned = ["10.1.0.1/16", "10.2.0.1/16", "fd00::1/64"];
        check(
            Gateway::DefaultRouter,
            result(&ips, &[]),
            result(&full, &[("0.0.0.0/0", Some("10.1.0.1")), ("::/0", Some("fd00::1"))]),
            &owned,
        );
        // The reference adds a second default route here, and fails.
        check(
            Gateway::DefaultRouter,
            result(&ips, &[("0.0.0.0/0", None), ("::/0", Some("fd00::99"))]),
            result(&full, &[("0.0.0.0/0", Some("10.1.0.1")), ("::/0", Some("fd00::99"))]),
            &owned,
        );
        check(
            Gateway::DefaultRouter,
            result(&ips[..1], &[("192.168.0.0/16", None)]),
            result(&full[..1], &[("192.168.0.0/16", None), ("0.0.0.0/0", Some("10.1.0.1"))]),
            &owned[..1],
        );
    }
}
