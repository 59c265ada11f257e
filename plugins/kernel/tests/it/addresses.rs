//! Addresses and their duplicate detection.

use std::time::Duration;

use ipnetwork::IpNetwork;
use kernel::{
    address::{self, Dad},
    link,
    netlink::Netlink,
    sysctl, veth,
};

use crate::lab;

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

#[test]
fn gives_what_the_go_plugins_give() {
    lab::run(|nl| {
        let (a, _b) = lab::pair(nl, "a", "b");
        for text in ["10.0.0.1/24", "10.0.1.0/31", "10.0.2.1/32", "fd00::1/64", "fd01::1/128"] {
            nl.execute(address::add(&a, network(text), Dad::Skip)).unwrap();
        }
        nl.execute(address::replace(&a, network("10.0.0.1/24"), Dad::Skip)).unwrap();
        let listed = address::list(nl, &a).unwrap();
        let find = |text| listed.iter().find(|address| address.network == network(text)).unwrap();
        let brd = |text| find(text).broadcast.map(|ip| ip.to_string());
        assert_eq!(brd("10.0.0.1/24").as_deref(), Some("10.0.0.255"));
        assert_eq!(brd("10.0.1.0/31"), None);
        assert_eq!(brd("10.0.2.1/32"), None);
        assert!(!find("fd00::1/64").is_tentative());
        assert_eq!(find("10.0.0.1/24").label.as_deref(), Some("a"));
        assert_eq!(find("10.0.0.1/24").link, a.index);
        assert!(address::list_all(nl).unwrap().len() > listed.len());

        nl.execute(address::remove(&a, network("fd00::1/64"))).unwrap();
        nl.execute(address::remove(&a, network("fd00::1/64"))).unwrap();
        nl.execute(address::remove(&a, network("10.0.0.1/24"))).unwrap();
        nl.execute(address::remove(&a, network("10.0.0.1/24"))).unwrap();
        assert_eq!(address::list(nl, &a).unwrap().len(), listed.len() - 2);
    });
}

#[test]
fn waits_for_duplicate_detection() {
    lab::run(|nl| {
        let netns = lab::netns();
        let mut inside = Netlink::open_in(&netns).unwrap();
        let near = link::new("a").up();
        let a = link::create(nl, veth::add(near, link::new("eth0").in_netns(&netns)), "a").unwrap().dev();
        let eth0 = link::by_name(&mut inside, "eth0").unwrap().dev();
        inside.execute(link::change(&eth0).up().request()).unwrap();
        let mine = network("fd00::1/64");
        inside.execute(address::add(&eth0, mine, Dad::Probe)).unwrap();
        let soon = address::wait_settled(&mut inside, &eth0, Duration::ZERO).unwrap_err();
        assert!(soon.is_timeout(), "{soon}");
        address::wait_settled(&mut inside, &eth0, Duration::from_secs(10)).unwrap();
        let settled = address::list(&mut inside, &eth0).unwrap();
        assert!(
            settled.iter().any(|a| a.network == mine) && !settled.iter().any(address::Address::is_tentative)
        );

        sysctl::write("net/ipv6/conf/a/dad_transmits", "1").unwrap();
        nl.execute(address::add(&a, mine, Dad::Probe)).unwrap();
        let err = address::wait_settled(nl, &a, Duration::from_secs(10)).unwrap_err();
        assert!(err.is_busy() && err.to_string().starts_with("use address fd00::1/64 on a"), "{err}");
    });
}
