//! `netctl trace --explain` over three hosts: what it says a packet would do is what a probe then does, and nothing is sent.

use testenv::lab;

use crate::hosts::{Hosts, words};

#[test]
fn a_packet_that_is_not_sent_would_go_the_way_of_a_probe() {
    lab::run("explain-way", |lab| {
        let hosts = Hosts::build(lab);
        words(hosts.container(2), "nft add table ip watch");
        words(hosts.container(2), "nft add chain ip watch input { type filter hook input priority 0 ; }");
        words(hosts.container(2), "nft add rule ip watch input ip protocol icmp counter");
        lab.rebase();
        let told = hosts.trace("netns:c1 n2/netns:c2 --explain");
        told.verdict("delivered", 0);
        let listing = words(hosts.container(2), "nft list chain ip watch input");
        assert!(listing.contains("counter packets 0"), "{listing}");
        assert_eq!((&told.document["simulated"], &told.document["sent"]), (&true.into(), &0.into()));
        assert_eq!(told.way(), hosts.trace("netns:c1 n2/netns:c2 --count 1").hops());

        let route = &told.answers("route")[1];
        assert_eq!(route, "n1/host/ovl route: 10.244.2.0/24 via 10.244.2.0 dev ovl, table 254, rule 32766");
        let neighbour = &told.answers("neighbour")[1];
        assert_eq!(neighbour, "n1/host/ovl neighbour: 10.244.2.0 has 02:42:00:00:00:02 (permanent)");
        let fdb = &told.answers("fdb")[0];
        assert_eq!(fdb, "n1/host/ovl fdb: 02:42:00:00:00:02 is behind 192.0.2.2, VXLAN 42");
        assert!(told.answers("fdb")[1].starts_with("n2/host/v0 fdb: "), "{:#}", told.document);
        assert_eq!(told.answers("nft"), ["n2/c2/eth0 nft: not simulated, input: ip watch input"]);
        let detail = told.document["detail"].as_str().unwrap();
        assert!(detail.ends_with("if nftables lets it: its chains are not simulated"), "{detail}");

        let table = hosts.netctl("trace netns:c1 n2/netns:c2 --explain --udp 53").ok();
        assert!(table.contains("10.244.2.10 UDP to port 53  (simulated, nothing sent)"), "{table}");
        assert!(table.contains("not simulated, input: ip watch input"), "{table}");
    });
}

#[test]
fn what_would_stop_a_packet_is_named_where_a_probe_finds_it() {
    lab::run("explain-faults", |lab| {
        let hosts = Hosts::build(lab);
        let explain = |line: &str| hosts.trace(&format!("{line} --explain"));
        let told = explain("netns:c1 203.0.113.9");
        told.verdict("dropped", 1).dropped(["n1", "host", "cni0", "IP_INNOROUTES"]);
        assert_eq!(told.document["findings"][0]["code"], "route-missing");
        words(hosts.host(1), "ip route add default via 192.0.2.99 dev u0");
        let told = explain("netns:c1 203.0.113.9");
        told.verdict("inconclusive", 3);
        let detail = told.document["detail"].as_str().unwrap();
        assert!(detail.starts_with("it would leave at n1/host/u0 for 192.0.2.99"), "{detail}");

        let told = explain("netns:c1 n2/netns:c2 --size 1440");
        told.verdict("rejected", 1).dropped(["n1", "host", "cni0", "PKT_TOO_BIG"]);

        // A wrong neighbour leads to a host that is not meant.
        words(hosts.host(1), "ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:99 dev u0 nud permanent");
        explain("netns:c1 n2/netns:c2").verdict("dropped", 1).dropped(["n2", "host", "u0", "OTHERHOST"]);
        words(hosts.host(1), "ip neigh del 192.0.2.2 dev u0");

        words(hosts.host(1), "bridge fdb del 02:42:00:00:00:02 dev ovl dst 192.0.2.2");
        explain("netns:c1 n2/netns:c2").verdict("dropped", 1).dropped(["n1", "host", "ovl", "NO_TX_TARGET"]);
        words(hosts.host(1), "bridge fdb replace 02:42:00:00:00:02 dev ovl dst 192.0.2.2");
        explain("netns:c1 n2/netns:c2").verdict("delivered", 0);

        hosts.host(1).set_sysctl("net.ipv4.ip_forward", "0");
        let told = explain("netns:c1 n2/netns:c2");
        told.verdict("dropped", 1).dropped(["n1", "host", "cni0", "IP_INADDRERRORS"]);
        assert_eq!(told.document["findings"][0]["code"], "ip-forward-off");
        hosts.host(1).set_sysctl("net.ipv4.ip_forward", "1");

        hosts.host(2).set_sysctl("net.ipv4.conf.ovl.rp_filter", "1");
        words(hosts.host(2), "ip route replace 10.244.1.0/24 via 192.0.2.1 dev u0");
        lab.rebase();
        let told = explain("netns:c1 n2/netns:c2");
        told.verdict("dropped", 1).dropped(["n2", "host", "ovl", "IP_RPFILTER"]);
        assert_eq!(told.document["findings"][0]["code"], "rp-filter");
        let sent = hosts.trace("netns:c1 n2/netns:c2 --patience 300");
        assert_eq!(sent.document["drop"]["reason"], told.document["drop"]["reason"]);
    });
}
