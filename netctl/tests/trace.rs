//! `netctl trace` over real packets: three hosts with a bridge, a container and a VXLAN device each, joined by a
//! switch; one fault at a time, and the place and the reason that trace must name.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use testenv::{
    lab::{self, Lab},
    ns::Ns,
    wait,
};

const NETCTL: &str = env!("CARGO_BIN_EXE_netctl");
const PATIENCE: Duration = Duration::from_secs(10);

/// Hosts n1, n2, n3, each with a container c1, c2, c3.
struct Hosts {
    hosts: Vec<Ns>,
    containers: Vec<Ns>,
    switch: Ns,
}

impl Hosts {
    fn build(lab: &Lab) -> Self {
        for (program, package) in [("ip", "iproute2"), ("bridge", "iproute2"), ("nft", "nftables")] {
            lab.needs_program(program, package);
        }
        let switch = lab.netns("sw");
        switch.add_bridge("br0");
        switch.set_up("br0");
        let hosts: Vec<Ns> = (1..=3).map(|number| lab.netns(&format!("n{number}"))).collect();
        let containers: Vec<Ns> = (1..=3).map(|number| lab.netns(&format!("c{number}"))).collect();
        let all = Self { hosts, containers, switch };
        for number in 1..=3 {
            all.build_host(number);
        }
        for (from, to) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
            let mac = format!("02:42:00:00:00:0{to}");
            let host = all.host(from);
            words(host, &format!("ip route add 10.244.{to}.0/24 via 10.244.{to}.0 dev ovl onlink"));
            words(host, &format!("ip neigh add 10.244.{to}.0 lladdr {mac} dev ovl nud permanent"));
            words(host, &format!("bridge fdb append {mac} dev ovl dst 192.0.2.{to}"));
        }
        // Neighbours learn of each other once, so that a probe changes nothing.
        for (from, to) in [(1, 2_u8), (2, 3), (3, 1)] {
            assert!(all.container(from).pings([10, 244, to, 10].into()));
        }
        lab.rebase();
        all
    }

    fn build_host(&self, number: usize) {
        let (host, container) = (self.host(number), self.container(number));
        self.switch.add_veth(&format!("p{number}"), host, "u0");
        words(&self.switch, &format!("ip link set p{number} up master br0"));
        host.add_address("u0", &format!("192.0.2.{number}/24"));
        host.add_bridge("cni0");
        host.add_address("cni0", &format!("10.244.{number}.1/24"));
        host.add_veth("v0", container, "eth0");
        for link in ["u0", "cni0"] {
            host.set_up(link);
        }
        words(host, "ip link set v0 up master cni0");
        container.add_address("eth0", &format!("10.244.{number}.10/24"));
        container.set_up("eth0");
        let third = u8::try_from(number).expect("three hosts");
        container.add_route("0.0.0.0/0", [10, 244, third, 1].into());
        host.set_sysctl("net.ipv4.ip_forward", "1");
        let vxlan = "type vxlan id 42 dstport 8472 nolearning local";
        words(host, &format!("ip link add ovl address 02:42:00:00:00:0{number} {vxlan} 192.0.2.{number}"));
        words(host, &format!("ip addr add 10.244.{number}.0/32 dev ovl"));
        words(host, "ip link set ovl up mtu 1450");
    }

    fn host(&self, number: usize) -> &Ns {
        &self.hosts[number - 1]
    }

    fn container(&self, number: usize) -> &Ns {
        &self.containers[number - 1]
    }

    /// Runs `netctl trace` on host 1, with the two others as peers.
    fn trace(&self, words: &str) -> Traced {
        let ran = self.host(1).exec(&words_of(&arguments(words)));
        let document = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|err| panic!("{err}: {}\n{}", ran.stdout, ran.stderr));
        Traced { document, code: ran.code, stderr: ran.stderr }
    }
}

fn arguments(words: &str) -> Vec<String> {
    let mut argv = vec![NETCTL.to_owned(), "-o".to_owned(), "json".to_owned()];
    argv.extend(["--node", "n1"].map(ToOwned::to_owned));
    for peer in ["n2", "n3"] {
        argv.push("--peer".to_owned());
        argv.push(format!("{peer}=ip netns exec {peer} {NETCTL} agent --stdio"));
    }
    argv.push("trace".to_owned());
    argv.extend(words.split_whitespace().map(ToOwned::to_owned));
    argv
}

fn words_of(argv: &[String]) -> Vec<&str> {
    argv.iter().map(String::as_str).collect()
}

#[track_caller]
fn words(ns: &Ns, line: &str) -> String {
    ns.exec(&line.split_whitespace().collect::<Vec<_>>()).ok()
}

struct Traced {
    document: Value,
    code: Option<i32>,
    stderr: String,
}

impl Traced {
    #[track_caller]
    fn verdict(&self, expected: &str, code: i32) -> &Self {
        assert_eq!(self.document["verdict"], expected, "{:#}", self.document);
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        self
    }

    /// Node, namespace, device, reason of the drop.
    #[track_caller]
    fn dropped(&self, expected: [&str; 4]) -> &Self {
        let drop = &self.document["drop"];
        let found = ["node", "netns", "device", "reason"].map(|key| drop[key].as_str().unwrap_or_default());
        assert_eq!(found, expected, "{:#}", self.document);
        self
    }

    #[track_caller]
    fn rule(&self, expected: &str) {
        let rule = self.document["drop"]["rule"].as_str().unwrap_or_default();
        assert!(rule.contains(expected), "{:#}", self.document);
    }

    /// `n1/c1/eth0 tx`, a line a hop.
    fn hops(&self) -> Vec<String> {
        let hop = |hop: &Value| {
            let [node, netns, device, event] =
                ["node", "netns", "device", "event"].map(|key| hop[key].as_str().unwrap_or_default());
            format!("{node}/{netns}/{device} {event}")
        };
        self.document["hops"].as_array().into_iter().flatten().map(hop).collect()
    }
}

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
        let argv = arguments("netns:c1 n2/netns:c2 --patience 60000");
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
