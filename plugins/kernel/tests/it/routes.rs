//! Routes and rules.

use ipnetwork::IpNetwork;
use kernel::{
    address::{self, Dad},
    link::LinkIndex,
    netlink::Netlink,
    route::{self, Family, Filter, NextHop, Packet, Route},
    rule::{self, Rule},
};

use crate::lab;

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn via(gateway: &str, dev: LinkIndex) -> Route {
    Route { gateway: Some(gateway.parse().unwrap()), dev: Some(dev), ..Route::to(network("0.0.0.0/0")) }
}

fn links(nl: &mut Netlink) -> (LinkIndex, LinkIndex) {
    let (a, b) = lab::pair(nl, "a", "b");
    nl.batch(&[
        address::add(&a, network("10.0.0.1/24"), Dad::Skip),
        address::add(&a, network("fd00::1/64"), Dad::Skip),
        address::add(&b, network("10.0.1.1/24"), Dad::Skip),
    ])
    .unwrap();
    (a.index, b.index)
}

fn in_table(nl: &mut Netlink, family: Family, table: u32) -> Vec<Route> {
    route::list(nl, family, Filter { table: Some(table), ..Filter::default() }).unwrap()
}

#[test]
fn keeps_every_attribute() {
    lab::run(|nl| {
        let (a, b) = links(nl);
        let full = Route {
            dst: network("20.0.0.0/16"),
            source: Some("10.0.0.1".parse().unwrap()),
            priority: Some(77),
            table: 1000,
            protocol: 116,
            mtu: Some(1300),
            advmss: Some(1200),
            ..via("10.0.0.2", a)
        };
        let onlink = Route { dst: network("21.0.0.0/16"), table: 1000, onlink: true, ..via("172.16.0.1", a) };
        let local = Route {
            dev: Some(a),
            table: 1000,
            scope: route::SCOPE_LINK,
            ..Route::to(network("22.0.0.0/16"))
        };
        let across = Route { dst: network("23.0.0.0/16"), table: 1000, ..via("fd00::2", a) };
        let hop = |gateway: &str, dev, weight| NextHop {
            gateway: Some(gateway.parse().unwrap()),
            dev,
            weight,
            onlink: false,
        };
        let next_hops = vec![hop("10.0.0.2", a, 1), hop("10.0.1.2", b, 5)];
        let several = Route { table: 1000, next_hops, ..Route::to(network("24.0.0.0/16")) };
        let unreachable = Route { kind: 7, table: 1000, ..Route::to(network("25.0.0.0/16")) };
        let all = [full, onlink, local, across, several, unreachable];
        nl.batch(&all.iter().map(route::add).collect::<Vec<_>>()).unwrap();
        assert_eq!(in_table(nl, Family::V4, 1000), all);
        assert_eq!(in_table(nl, Family::V4, 1001), []);
        assert_eq!(in_table(nl, Family::V6, 1001), []);

        let filter = Filter { table: Some(1000), protocol: Some(116), ..Filter::default() };
        assert_eq!(route::list(nl, Family::V4, filter).unwrap(), all[..1]);
        let err = nl.execute(route::add(&all[0])).unwrap_err();
        assert!(
            err.is_exists() && err.act() == "add route to 20.0.0.0/16 via 10.0.0.2 in table 1000",
            "{err}"
        );
        let moved = Route { gateway: Some("10.0.0.3".parse().unwrap()), ..all[0].clone() };
        nl.execute(route::replace(&moved)).unwrap();
        assert_eq!(in_table(nl, Family::V4, 1000)[0], moved);
        nl.batch(&all[1..].iter().map(route::remove).collect::<Vec<_>>()).unwrap();
        nl.batch(&all[1..].iter().map(route::remove).collect::<Vec<_>>()).unwrap();
        assert_eq!(in_table(nl, Family::V4, 1000), [moved]);
    });
}

#[test]
fn routes_v6() {
    lab::run(|nl| {
        let (a, _) = links(nl);
        let one = Route {
            gateway: Some("fd00::2".parse().unwrap()),
            dev: Some(a),
            priority: Some(1024),
            mtu: Some(1300),
            table: 2000,
            ..Route::to(network("fd20::/32"))
        };
        nl.execute(route::add(&one)).unwrap();
        assert_eq!(in_table(nl, Family::V6, 2000), std::slice::from_ref(&one));
        assert!(nl.execute(route::add(&one)).unwrap_err().is_exists());
        nl.batch(&[route::remove(&one), route::remove(&one)]).unwrap();
        assert_eq!(in_table(nl, Family::V6, 2000), []);
    });
}

#[test]
fn finds_default_and_looks_up() {
    lab::run(|nl| {
        let (a, b) = links(nl);
        assert_eq!(route::default_link(nl, Family::V4).unwrap(), None);
        let err = route::lookup(nl, "8.8.8.8".parse().unwrap()).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(nix::libc::ENETUNREACH), "{err}");
        nl.execute(route::add(&Route { priority: Some(200), ..via("10.0.0.2", a) })).unwrap();
        nl.execute(route::add(&Route { priority: Some(100), ..via("10.0.1.2", b) })).unwrap();
        assert_eq!(route::default_link(nl, Family::V4).unwrap(), Some(b));
        assert_eq!(route::default_link(nl, Family::V6).unwrap(), None);
        let taken = route::lookup(nl, "8.8.8.8".parse().unwrap()).unwrap();
        assert_eq!((taken.dev, taken.gateway), (Some(b), Some("10.0.1.2".parse().unwrap())));
        assert_eq!(taken.source, Some("10.0.1.1".parse().unwrap()));
        assert_eq!(route::lookup(nl, "fd00::9".parse().unwrap()).unwrap().dev, Some(a));
        let packet = Packet { protocol: Some(6), port: Some(80), ..Packet::to("8.8.8.8".parse().unwrap()) };
        let matched = route::matched(nl, &packet).unwrap();
        assert_eq!((matched.dst, matched.priority), (network("0.0.0.0/0"), Some(100)));
        // Nothing is forwarded here.
        let incoming = Packet { source: Some("10.0.0.9".parse().unwrap()), iif: Some(a), ..packet };
        let err = route::taken(nl, &incoming).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(nix::libc::EHOSTUNREACH), "{err}");
    });
}

#[test]
fn keeps_rules() {
    lab::run(|nl| {
        for family in [Family::V4, Family::V6] {
            let before = rule::list(nl, family).unwrap();
            let src = if family == Family::V4 { "10.0.0.0/24" } else { "fd00::/64" };
            let rule = Rule {
                priority: Some(500),
                src: Some(network(src)),
                iif: Some("lo".into()),
                mark: Some((0x10, 0xf0)),
                suppress_prefix: Some(0),
                invert: true,
                protocol: 116,
                ..Rule::to_table(family, 1000)
            };
            nl.execute(rule::add(&rule)).unwrap();
            assert!(nl.execute(rule::add(&rule)).unwrap_err().is_exists());
            let listed = rule::list(nl, family).unwrap();
            assert_eq!(listed.len(), before.len() + 1);
            assert!(listed.contains(&rule), "{listed:?}");
            nl.batch(&[rule::remove(&rule), rule::remove(&rule)]).unwrap();
            assert_eq!(rule::list(nl, family).unwrap(), before);
        }
    });
}
