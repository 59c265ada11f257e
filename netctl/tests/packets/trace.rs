//! `netctl trace` over three hosts: one fault at a time, and the place and the reason that it must name.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::Value;
use testenv::{lab, ns::Ns, wait};

use crate::hosts::{Hosts, NETCTL, PATIENCE, arguments, words};

const REQUEST: [&str; 10] = [
    "n1/c1/eth0 tx",
    "n1/host/v0 rx",
    "n1/host/cni0 rx",
    "n1/host/ovl tx",
    "n1/host/u0 tx",
    "n2/host/u0 rx",
    "n2/host/ovl rx",
    "n2/host/cni0 tx",
    "n2/host/v0 tx",
    "n2/c2/eth0 rx",
];
const REPLY: [&str; 10] = [
    "n2/c2/eth0 tx",
    "n2/host/v0 rx",
    "n2/host/cni0 rx",
    "n2/host/ovl tx",
    "n2/host/u0 tx",
    "n1/host/u0 rx",
    "n1/host/ovl rx",
    "n1/host/cni0 tx",
    "n1/host/v0 tx",
    "n1/c1/eth0 rx",
];

#[test]
fn every_hop_on_both_hosts_there_and_back() {
    lab::run("trace-hops", |lab| {
        let hosts = Hosts::build(lab);
        let traced = hosts.trace("netns:c1 n2/netns:c2");
        traced.verdict("delivered", 0);
        assert_eq!(traced.hops(), [&REQUEST[..], &REPLY].concat());
        assert_eq!(traced.document["drop"], Value::Null);
        assert_eq!((&traced.document["sent"], &traced.document["answered"]), (&3.into(), &3.into()));
        let wrapped = &traced.document["hops"][4];
        assert_eq!(wrapped["note"], "wrapped in VXLAN 42 to 192.0.2.2", "{wrapped}");
        // The destination is found by its address too, and on the third host.
        let traced = hosts.trace("netns:c1 10.244.3.10 --count 1");
        traced.verdict("delivered", 0);
        assert_eq!(traced.hops()[9], "n3/c3/eth0 rx");
    });
}

#[test]
fn closed_ports_refuse_and_open_ones_answer() {
    lab::run("trace-ports", |lab| {
        let hosts = Hosts::build(lab);
        hosts.trace("netns:c1 n2/netns:c2 --tcp 80").verdict("rejected", 1);
        hosts.trace("netns:c1 n2/netns:c2 --udp 53").verdict("rejected", 1);
        let listener = hosts.container(2).run(|| std::net::TcpListener::bind("10.244.2.10:80").unwrap());
        let traced = hosts.trace("netns:c1 n2/netns:c2 --tcp 80");
        traced.verdict("delivered", 0);
        assert_eq!(traced.hops(), [&REQUEST[..], &REPLY].concat());
        drop(listener);
        let socket = hosts.container(2).run(|| std::net::UdpSocket::bind("10.244.2.10:53").unwrap());
        hosts.trace("netns:c1 n2/netns:c2 --udp 53 --patience 200").verdict("delivered-no-reply", 1);
        drop(socket);
    });
}

#[test]
fn a_rule_on_the_second_host_is_named() {
    lab::run("trace-rule", |lab| {
        let hosts = Hosts::build(lab);
        words(hosts.host(2), "nft add table ip filter");
        words(hosts.host(2), "nft add chain ip filter FORWARD { type filter hook forward priority 0 ; }");
        words(hosts.host(2), "nft add rule ip filter FORWARD ip daddr 10.244.2.10 counter drop");
        lab.rebase();
        let traced = hosts.trace("netns:c1 n2/netns:c2 --tcp 80 --patience 300");
        traced.verdict("dropped", 1).dropped(["n2", "host", "ovl", "NETFILTER_DROP"]);
        traced.rule("ip filter FORWARD handle 2: ip daddr 10.244.2.10 counter drop");
        assert!(traced.document["drop"]["function"].as_str().unwrap().starts_with("nft_do_chain"));

        words(hosts.host(2), "nft flush chain ip filter FORWARD");
        words(hosts.host(2), "nft chain ip filter FORWARD { policy drop ; }");
        lab.rebase();
        let traced = hosts.trace("netns:c1 n2/netns:c2 --patience 300");
        traced.verdict("dropped", 1).dropped(["n2", "host", "ovl", "NETFILTER_DROP"]);
        traced.rule("ip filter FORWARD policy drop");

        // Without BPF the rule is still known, and what is missing is said.
        let traced = hosts.trace("netns:c1 n2/netns:c2 --patience 300 --no-bpf");
        traced.verdict("dropped", 1).rule("ip filter FORWARD policy drop");
        assert_eq!(traced.document["drop"]["node"], "n2");
        assert_eq!(traced.hops().first().map(String::as_str), Some("n1/c1/eth0 tx"));
        assert!(traced.stderr.contains("n2: no BPF"), "{}", traced.stderr);
    });
}

#[test]
fn a_reverse_path_filter_is_named() {
    lab::run("trace-rp-filter", |lab| {
        let hosts = Hosts::build(lab);
        hosts.host(2).set_sysctl("net.ipv4.conf.ovl.rp_filter", "1");
        words(hosts.host(2), "ip route replace 10.244.1.0/24 via 192.0.2.1 dev u0");
        lab.rebase();
        let traced = hosts.trace("netns:c1 n2/netns:c2 --patience 300");
        traced.verdict("dropped", 1).dropped(["n2", "host", "ovl", "IP_RPFILTER"]);
        assert_eq!(traced.document["findings"][0]["code"], "rp-filter");

        // Without BPF the place is still known, and a counter tells.
        let traced = hosts.trace("netns:c1 n2/netns:c2 --patience 300 --no-bpf");
        traced.verdict("lost", 1);
        assert_eq!(traced.document["between"][0], "n2/host/ovl");
        assert_eq!(traced.document["counters"]["n2/host"]["TcpExt.IPReversePathFilter"], 3);
    });
}

#[test]
fn a_blocked_or_dead_tunnel_end_is_named() {
    lab::run("trace-tunnel", |lab| {
        let hosts = Hosts::build(lab);
        words(hosts.host(2), "nft add table inet fw");
        words(hosts.host(2), "nft add chain inet fw input { type filter hook input priority 0 ; }");
        words(hosts.host(2), "nft add rule inet fw input udp dport 8472 drop");
        lab.rebase();
        let traced = hosts.trace("netns:c1 n2/netns:c2 --patience 300");
        traced.verdict("dropped", 1).dropped(["n2", "host", "u0", "NETFILTER_DROP"]);
        traced.rule("inet fw input handle 2: udp dport 8472 drop");

        words(hosts.host(2), "nft delete table inet fw");
        words(hosts.host(2), "ip link set ovl down");
        lab.rebase();
        let traced = hosts.trace("netns:c1 n2/netns:c2 --patience 300");
        traced.verdict("dropped", 1).dropped(["n2", "host", "u0", "NO_SOCKET"]);
    });
}

#[test]
fn what_is_lost_in_the_fabric_is_lost_between_two_places() {
    lab::run("trace-lost", |lab| {
        let hosts = Hosts::build(lab);
        let links: Value = serde_json::from_str(&words(hosts.host(2), "ip -j link show u0")).unwrap();
        let mac = links[0]["address"].as_str().unwrap();
        words(hosts.host(1), &format!("ip neigh replace 192.0.2.2 lladdr {mac} dev u0 nud permanent"));
        words(&hosts.switch, "ip link set p2 nomaster");
        lab.rebase();
        let traced = hosts.trace("netns:c1 n2/netns:c2 --patience 300 --count 1");
        traced.verdict("lost", 1);
        assert_eq!(traced.document["between"], serde_json::json!(["n1/host/u0", "n2"]));
        assert_eq!(traced.hops(), REQUEST[..5]);
    });
}

#[test]
fn what_is_not_decided_in_time_is_inconclusive() {
    lab::run("trace-timeout", |lab| {
        let hosts = Hosts::build(lab);
        let silent = hosts.container(1).run(|| std::net::UdpSocket::bind("10.244.1.10:53").unwrap());
        // The peer would still listen when it is told to end.
        let begun = Instant::now();
        let traced = hosts.trace("n2/netns:c2 netns:c1 --udp 53 --patience 60000 --timeout 1");
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
        traced.verdict("inconclusive", 3);
        let detail = traced.document["detail"].as_str().unwrap();
        assert_eq!(detail, "not decided within 1 s; so far: it arrived, and nothing came back");
        assert_eq!(traced.hops().len(), REQUEST.len());
        drop(silent);
        // What was seen counts, however long the answers are waited for.
        hosts.container(1).set_sysctl("net.ipv4.icmp_echo_ignore_all", "1");
        words(hosts.host(1), "nft add table ip filter");
        words(
            hosts.host(1),
            "nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
        );
        lab.rebase();
        let traced = hosts.trace("n2/netns:c2 netns:c1 --patience 60000 --timeout 1");
        traced.verdict("dropped", 1).dropped(["n1", "host", "ovl", "NETFILTER_DROP"]);
    });
}

#[test]
fn too_large_a_packet_is_refused_by_the_host_that_cannot_send_it() {
    lab::run("trace-mtu", |lab| {
        let hosts = Hosts::build(lab);
        let traced = hosts.trace("netns:c1 n2/netns:c2 --size 1440 --count 1");
        traced.verdict("rejected", 1).dropped(["n1", "host", "cni0", "PKT_TOO_BIG"]);
        assert!(traced.document["detail"].as_str().unwrap().contains("fragmentation needed"));
    });
}

#[test]
fn a_run_that_is_killed_leaves_nothing() {
    lab::run("trace-killed", |lab| {
        let hosts = Hosts::build(lab);
        words(&hosts.switch, "ip link set p2 down");
        lab.rebase();
        let argv = arguments("trace netns:c1 n2/netns:c2 --patience 60000");
        let mut run = hosts.host(1).run(|| {
            Command::new(&argv[0])
                .args(&argv[1..])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        });
        let tables = |ns: &Ns| words(ns, "nft list tables");
        let all: Vec<&Ns> = hosts.hosts.iter().chain(&hosts.containers[..2]).collect();
        wait::wait_for("a table in every namespace", PATIENCE, || {
            all.iter().all(|ns| tables(ns).contains("netctl-trace"))
        });
        run.kill().unwrap();
        run.wait().unwrap();
        wait::wait_for("no table in any namespace", PATIENCE, || all.iter().all(|ns| tables(ns).is_empty()));
    });
}

#[test]
fn names_that_mean_nothing_are_usage_errors() {
    lab::run("trace-names", |lab| {
        lab.netns("c1");
        for (words, told) in [
            ("netns:c1 nobody", "no node knows \"nobody\""),
            ("netns:c9 netns:c1", "c9"),
            ("netns:c1 netns:c1 --tcp 1 --udp 2", "cannot be used with"),
        ] {
            let mut argv = vec![NETCTL, "trace"];
            argv.extend(words.split_whitespace());
            let ran = lab.exec(&argv);
            assert_eq!(ran.code, Some(2), "{words}: {}", ran.stderr);
            assert!(ran.stderr.contains(told), "{words}: {}", ran.stderr);
        }
    });
}
