//! Connections that packets really made, found and forgotten.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Instant,
};

use kernel::conntrack::{Conntrack, Filter};
use testenv::lab::{self, Lab};

/// Port 8080 is published, and port 7000 is tracked in a zone of its own.
const RULES: &str = "
table inet test {
	chain zones {
		type filter hook output priority raw
		udp dport 7000 ct zone set 5
	}
	chain publish {
		type nat hook output priority -100
		meta nfproto ipv4 udp dport 8080 dnat ip to 127.0.0.9:80
	}
}
";
const UDP: u8 = 17;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Begins connections from a socket of each family, to be answered by nobody.
fn scene(lab: &Lab) -> Conntrack {
    lab.needs_program("nft", "nftables");
    let rules = lab.dir().join("rules");
    std::fs::write(&rules, RULES).unwrap();
    lab.exec(&["nft", "-f", rules.to_str().unwrap()]).ok();
    lab.allow("table inet test");
    for from in ["127.0.0.1:4000", "[::1]:4000"] {
        let socket = UdpSocket::bind(from).unwrap();
        let to = [
            "127.0.0.1:8080",
            "127.0.0.2:8080",
            "127.0.0.2:53",
            "127.0.0.1:7000",
            "[::1]:8080",
            "[::1]:7000",
        ];
        for to in to.map(|text| text.parse::<SocketAddr>().unwrap()) {
            if to.is_ipv4() == socket.local_addr().unwrap().is_ipv4() {
                // An earlier packet's refusal (ICMP) is reported here: this one is sent at the second attempt.
                socket.send_to(b"x", to).or_else(|_| socket.send_to(b"x", to)).unwrap();
            }
        }
    }
    Conntrack::open().unwrap()
}

/// What the first packets were sent to.
fn found(conntrack: &mut Conntrack, filter: Filter) -> BTreeSet<String> {
    let flows = conntrack.list(&Filter { protocol: Some(UDP), ..filter }).unwrap();
    let to = |flow: &kernel::conntrack::Flow| {
        SocketAddr::new(flow.original.destination, flow.original.destination_port).to_string()
    };
    flows.iter().map(to).collect()
}

fn set<const N: usize>(texts: [&str; N]) -> BTreeSet<String> {
    texts.map(str::to_owned).into()
}

#[test]
fn finds_by_every_condition() {
    lab::run("finds_by_every_condition", |lab| {
        let mut conntrack = scene(lab);
        let v4 = set(["127.0.0.1:8080", "127.0.0.2:8080", "127.0.0.2:53", "127.0.0.1:7000"]);
        let v6 = set(["[::1]:8080", "[::1]:7000"]);
        let any = Filter::default();
        let mut check = |filter, expected| assert_eq!(found(&mut conntrack, filter), expected, "{filter}");
        check(any, &v4 | &v6);
        check(Filter::to_port(UDP, None, 8080), set(["127.0.0.1:8080", "127.0.0.2:8080", "[::1]:8080"]));
        check(Filter::to_port(UDP, Some(ip("127.0.0.2")), 8080), set(["127.0.0.2:8080"]));
        check(Filter::to_port(UDP, Some(ip("127.0.0.3")), 8080), set([]));
        check(Filter::begun_by(ip("::1")), v6);
        let published = set(["127.0.0.1:8080", "127.0.0.2:8080"]);
        check(Filter::answered_by(ip("127.0.0.9")), published.clone());
        check(Filter { reply_source_port: Some(80), ..any }, published);
        check(Filter { reply_destination: Some(ip("127.0.0.1")), ..any }, v4);
        check(Filter { zone: Some(5), ..any }, set(["127.0.0.1:7000", "[::1]:7000"]));
        check(Filter { source: Some(ip("::1")), destination: Some(ip("127.0.0.1")), ..any }, set([]));
        assert_eq!(conntrack.list(&Filter { protocol: Some(132), ..any }).unwrap(), []);
    });
}

#[test]
fn forgets_what_matches_only() {
    lab::run("forgets_what_matches_only", |lab| {
        let mut conntrack = scene(lab);
        let start = Instant::now();
        conntrack.delete(&Filter::to_port(UDP, None, 8080)).unwrap();
        eprintln!("3 connections deleted in {:?}", start.elapsed());
        let left = found(&mut conntrack, Filter::default());
        assert_eq!(left, set(["127.0.0.2:53", "127.0.0.1:7000", "[::1]:7000"]));
        conntrack
            .delete(&Filter { zone: Some(5), source: Some(ip("127.0.0.1")), ..Filter::default() })
            .unwrap();
        conntrack.delete(&Filter::begun_by(ip("::2"))).unwrap();
        let left = found(&mut conntrack, Filter::default());
        assert_eq!(left, set(["127.0.0.2:53", "[::1]:7000"]));
        conntrack
            .delete(&Filter { destination: Some(ip("::1")), ..Filter::to_port(UDP, None, 7000) })
            .unwrap();
        let flow = conntrack.list(&Filter { protocol: Some(UDP), ..Filter::default() }).unwrap().remove(0);
        assert!(conntrack.forget(&flow).unwrap());
        assert!(!conntrack.forget(&flow).unwrap());
        let error = conntrack.delete(&Filter::default()).unwrap_err().to_string();
        assert_eq!(error, "delete connections with no condition: Invalid argument (os error 22)");
    });
}
