//! `netctl doctor` over the tunnels of three hosts: one fault at a time, found at its place, and nothing else.

use std::net::UdpSocket;

use serde_json::{Value, json};
use testenv::lab;

use crate::hosts::{Hosts, words};

/// The findings of all three.
#[track_caller]
fn findings(hosts: &Hosts) -> Vec<Value> {
    let ran = hosts.netctl("doctor -o json");
    assert!(matches!(ran.code, Some(0 | 1)), "{ran:?}");
    let document: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    document["items"].as_array().expect("items").clone()
}

#[track_caller]
fn healthy(hosts: &Hosts) {
    assert_eq!(findings(hosts), Vec::<Value>::new());
    assert!(
        hosts.container(1).pings([10, 244, 2, 10].into())
            && hosts.container(2).pings([10, 244, 3, 10].into())
    );
}

/// The one finding is of that code on that node's tunnel.
#[track_caller]
fn finds(hosts: &Hosts, code: &str, node: &str) -> Value {
    let found = findings(hosts);
    assert_eq!(found.len(), 1, "{found:#?}");
    let place = json!([
        found[0]["code"],
        found[0]["where"]["node"],
        found[0]["where"]["netns"],
        found[0]["where"]["device"]
    ]);
    assert_eq!(place, json!([code, node, "host", "ovl"]), "{found:#?}");
    found[0].clone()
}

/// The doctor mends what is on the node that it runs on, and nothing elsewhere.
#[track_caller]
fn mends(hosts: &Hosts, code: &str) {
    finds(hosts, code, "n1");
    let ran = hosts.netctl("doctor --fix --yes");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    healthy(hosts);
}

/// Runs the command of the finding on its node.
#[track_caller]
fn fix(hosts: &Hosts, number: usize, found: &Value) {
    words(hosts.host(number), found["fix"].as_str().expect("a command"));
    healthy(hosts);
}

#[test]
fn wrong_entries_and_addresses_of_tunnels() {
    lab::run("doctor-tunnel-entries", |lab| {
        let hosts = Hosts::build(lab);
        healthy(&hosts);
        // Another address takes all neighbours with it (neigh_changeaddr).
        words(hosts.host(1), "ip link set ovl address 02:42:00:00:00:99");
        hosts.connect(1);
        mends(&hosts, "vtep-mac-mismatch");
        words(hosts.host(1), "bridge fdb replace 02:42:00:00:00:02 dev ovl dst 192.0.2.3");
        mends(&hosts, "fdb-stale");
        words(hosts.host(1), "bridge fdb del 02:42:00:00:00:02 dev ovl dst 192.0.2.2");
        mends(&hosts, "fdb-stale");
        words(hosts.host(1), "ip neigh replace 10.244.2.0 lladdr 02:42:00:00:00:77 dev ovl nud permanent");
        mends(&hosts, "neigh-stale");

        words(hosts.host(2), "ip link set ovl address 02:42:00:00:00:99");
        hosts.connect(2);
        let found = finds(&hosts, "vtep-mac-mismatch", "n2");
        assert_eq!(found["fix"], "ip link set ovl address 02:42:00:00:00:02");
        let ran = hosts.netctl("doctor --fix --yes");
        assert!(ran.code == Some(1) && ran.stderr.contains("left to you, on n2: ip link set ovl"), "{ran:?}");
        words(hosts.host(2), found["fix"].as_str().unwrap());
        hosts.connect(2);
        healthy(&hosts);
        words(hosts.host(3), "bridge fdb del 02:42:00:00:00:02 dev ovl dst 192.0.2.2");
        let found = finds(&hosts, "fdb-stale", "n3");
        fix(&hosts, 3, &found);
        for (vni, port, code) in [(43, 8472, "vni-mismatch"), (42, 4789, "vxlan-port-mismatch")] {
            words(hosts.host(2), "ip link del ovl");
            hosts.add_tunnel(2, vni, port);
            hosts.connect(2);
            let found = finds(&hosts, code, "n2");
            hosts.host(2).exec(&["sh", "-c", found["fix"].as_str().unwrap()]).ok();
            hosts.connect(2);
        }
        healthy(&hosts);
        lab.rebase();
    });
}

#[test]
fn blocked_and_damaged_tunnels() {
    lab::run("doctor-tunnel-paths", |lab| {
        let hosts = Hosts::build(lab);
        words(hosts.host(2), "nft add table inet fw");
        words(hosts.host(2), "nft add chain inet fw input { type filter hook input priority 0 ; }");
        words(hosts.host(2), "nft add rule inet fw input udp dport 8472 drop");
        let found = finds(&hosts, "vxlan-port-blocked", "n2");
        assert_eq!(found["where"]["rule"], "inet fw input handle 2");
        fix(&hosts, 2, &found);
        words(hosts.host(2), "nft delete table inet fw");

        words(hosts.host(2), "ip link set ovl down");
        let taken = hosts.host(2).run(|| UdpSocket::bind("0.0.0.0:8472").unwrap());
        let found = finds(&hosts, "vxlan-port-conflict", "n2");
        assert!(found["cause"].as_str().unwrap().starts_with("process packets-"), "{found:#}");
        drop(taken);
        words(hosts.host(2), found["fix"].as_str().unwrap());
        hosts.connect(2);
        healthy(&hosts);

        words(&hosts.switch, "nft add table bridge cut");
        words(&hosts.switch, "nft add chain bridge cut through { type filter hook forward priority 0 ; }");
        words(
            &hosts.switch,
            "nft add rule bridge cut through ip saddr 192.0.2.1 ip daddr 192.0.2.2 udp dport 8472 drop",
        );
        let found = finds(&hosts, "vxlan-path-blocked", "n1");
        assert!(
            found["cause"].as_str().unwrap().contains("UDP port 8472 is blocked on the way"),
            "{found:#}"
        );
        // Another fault of one of the two is another finding, unless it is about the same pair.
        let beside = |hosts: &Hosts| {
            let pair = |it: &Value| {
                format!("{}@{}", it["code"].as_str().unwrap(), it["where"]["node"].as_str().unwrap())
            };
            findings(hosts).iter().map(pair).collect::<Vec<_>>()
        };
        words(hosts.host(1), "bridge fdb replace 02:42:00:00:00:03 dev ovl dst 192.0.2.2");
        assert_eq!(beside(&hosts), ["fdb-stale@n1", "vxlan-path-blocked@n1"]);
        hosts.connect(1);
        words(hosts.host(1), "ip neigh replace 10.244.2.0 lladdr 02:42:00:00:00:77 dev ovl nud permanent");
        assert_eq!(beside(&hosts), ["neigh-stale@n1"]);
        hosts.connect(1);
        words(&hosts.switch, "nft delete table bridge cut");
        healthy(&hosts);

        words(hosts.host(2), "nft add table ip damage");
        words(hosts.host(2), "nft add chain ip damage out { type filter hook postrouting priority 300 ; }");
        words(
            hosts.host(2),
            "nft add rule ip damage out ip daddr 192.0.2.1 udp dport 8472 udp checksum set 0x1234",
        );
        finds(&hosts, "vxlan-bad-csum", "n1");
        words(hosts.host(2), "nft delete table ip damage");
        healthy(&hosts);
        lab.rebase();
    });
}
