//! `netctl trace` on one host with a bridge and two containers: what a bridge, a route and a filter do to packets.

use testenv::{
    lab::{self, Lab},
    ns::Ns,
};

use crate::hosts::{NETCTL, Traced, words};

struct Host {
    c1: Ns,
    c2: Ns,
    host: Ns,
}

impl Host {
    fn build(lab: &Lab) -> Self {
        for (program, package) in [("ip", "iproute2"), ("nft", "nftables")] {
            lab.needs_program(program, package);
        }
        let (host, c1, c2) = (lab.host().clone(), lab.netns("c1"), lab.netns("c2"));
        host.add_bridge("cni0");
        host.add_address("cni0", "10.1.0.1/16");
        host.add_address("cni0", "fd01::1/64");
        host.set_up("cni0");
        for (container, port, last) in [(&c1, "v1", 11), (&c2, "v2", 12)] {
            host.add_veth(port, container, "eth0");
            words(&host, &format!("ip link set {port} up master cni0"));
            container.add_address("eth0", &format!("10.1.0.{last}/16"));
            words(container, &format!("ip addr add fd01::{last}/64 dev eth0 nodad"));
            container.set_up("eth0");
            container.add_route("0.0.0.0/0", [10, 1, 0, 1].into());
        }
        host.set_sysctl("net.ipv4.ip_forward", "1");
        assert!(
            c1.pings([10, 1, 0, 12].into())
                && c2.pings([10, 1, 0, 1].into())
                && c1.pings([10, 1, 0, 1].into())
        );
        lab.rebase();
        Self { c1, c2, host }
    }

    fn trace(&self, line: &str) -> Traced {
        let mut argv = vec![NETCTL, "--node", "n1", "-o", "json", "trace"];
        argv.extend(line.split_whitespace());
        Traced::of(self.host.exec(&argv))
    }

    fn nft(&self, rules: &[&str]) {
        for rule in rules {
            words(&self.host, &format!("nft {rule}"));
        }
    }
}

#[track_caller]
fn has_finding(traced: &Traced, code: &str) {
    let findings = &traced.document["findings"];
    assert_eq!(findings[0]["code"], code, "{:#}", traced.document);
    assert_eq!(findings[0]["where"]["node"], "n1");
}

#[test]
fn over_a_bridge_by_name_address_and_ipv6() {
    lab::run("trace-bridge", |lab| {
        let host = Host::build(lab);
        let way = [
            "n1/c1/eth0 tx",
            "n1/host/v1 rx",
            "n1/host/v2 tx",
            "n1/c2/eth0 rx",
            "n1/c2/eth0 tx",
            "n1/host/v2 rx",
            "n1/host/v1 tx",
            "n1/c1/eth0 rx",
        ];
        for ends in ["netns:c1 netns:c2", "netns:/run/netns/c1 10.1.0.12", "10.1.0.11 netns:c2"] {
            let traced = host.trace(&format!("{ends} --count 1"));
            traced.verdict("delivered", 0);
            assert_eq!(traced.hops(), way, "{ends}");
            assert_eq!(host.trace(&format!("{ends} --explain")).way(), way, "{ends}");
        }
        // A bridge that knows nobody sends to all.
        words(&host.host, "ip link set v2 type bridge_slave fdb_flush");
        let told = host.trace("netns:c1 netns:c2 -6 --explain");
        told.verdict("delivered", 0);
        assert_eq!(told.way(), way);
        assert!(told.answers("fdb")[0].ends_with("is not known, to all ports: v2"), "{:#}", told.document);
        words(&host.c1, "ip -6 route add default via fd01::1");
        words(&host.host, "ip -6 route add fd02::/64 via fd01::12 dev cni0");
        host.host.set_sysctl("net.ipv6.conf.all.forwarding", "0");
        let told = host.trace("netns:c1 fd02::1 --explain");
        told.verdict("dropped", 1).dropped(["n1", "host", "cni0", "NOT_SPECIFIED"]);
        lab.rebase();
        let traced = host.trace("netns:c1 netns:c2 -6");
        traced.verdict("delivered", 0);
        assert!(traced.document["detail"].as_str().unwrap().contains("fd01::12"));
        host.trace("netns:c1 netns:c2 -6 --tcp 9").verdict("rejected", 1);
        host.trace("netns:c1 netns:c2 -6 --udp 9").verdict("rejected", 1);
        let own = host.trace("netns:c1 host");
        own.verdict("delivered", 0);
        assert_eq!(own.hops()[2], "n1/host/cni0 rx");
    });
}

#[test]
fn nat_is_shown_and_a_missing_hairpin_named() {
    lab::run("trace-hairpin", |lab| {
        let host = Host::build(lab);
        host.nft(&[
            "add table ip nat",
            "add chain ip nat pre { type nat hook prerouting priority -100 ; }",
            "add chain ip nat post { type nat hook postrouting priority 100 ; }",
            "add rule ip nat pre ip daddr 10.1.0.1 tcp dport 8080 dnat to 10.1.0.11:80",
            "add rule ip nat post ip saddr 10.1.0.0/16 masquerade",
        ]);
        lab.rebase();
        let listener = host.c1.run(|| std::net::TcpListener::bind("10.1.0.11:80").unwrap());
        let traced = host.trace("netns:c2 10.1.0.1 --tcp 8080");
        traced.verdict("delivered", 0);
        let note = |index: usize| traced.document["hops"][index]["note"].as_str().unwrap();
        assert_eq!(note(2), "destination NAT 10.1.0.1:8080 to 10.1.0.11:80");
        assert!(note(3).starts_with("source NAT 10.1.0.12:"), "{}", note(3));

        let traced = host.trace("netns:c1 10.1.0.1 --tcp 8080 --patience 300");
        traced.verdict("dropped", 1).dropped(["n1", "host", "v1", "NOT_SPECIFIED"]);
        has_finding(&traced, "hairpin-off");
        // What it says mends it.
        words(&host.host, traced.document["findings"][0]["fix"].as_str().unwrap());
        lab.rebase();
        host.trace("netns:c1 10.1.0.1 --tcp 8080").verdict("delivered", 0);
        drop(listener);
    });
}

#[test]
fn a_bridge_port_with_a_small_mtu_is_named() {
    lab::run("trace-port-mtu", |lab| {
        let host = Host::build(lab);
        words(&host.host, "ip link set v2 mtu 1000");
        lab.rebase();
        host.trace("netns:c1 netns:c2 --size 900").verdict("delivered", 0);
        let traced = host.trace("netns:c1 netns:c2 --size 1200 --patience 300");
        traced.verdict("dropped", 1).dropped(["n1", "host", "v2", "NOT_SPECIFIED"]);
        has_finding(&traced, "mtu-blackhole");
        let told = host.trace("netns:c1 netns:c2 --size 1200 --explain");
        told.verdict("dropped", 1).dropped(["n1", "host", "v2", "NOT_SPECIFIED"]);
        has_finding(&told, "mtu-blackhole");
    });
}

#[test]
fn routes_forwarding_and_neighbours_that_are_missing_are_named() {
    lab::run("trace-routes", |lab| {
        let host = Host::build(lab);
        let traced = host.trace("netns:c1 203.0.113.9 --patience 300");
        traced.verdict("rejected", 1).dropped(["n1", "host", "cni0", "IP_INNOROUTES"]);
        has_finding(&traced, "route-missing");

        words(&host.host, "ip route add 203.0.113.0/24 dev cni0");
        host.host.set_sysctl("net.ipv4.ip_forward", "0");
        lab.rebase();
        let traced = host.trace("netns:c1 203.0.113.9 --patience 300");
        traced.verdict("dropped", 1).dropped(["n1", "host", "cni0", "IP_INADDRERRORS"]);
        has_finding(&traced, "ip-forward-off");

        let traced = host.trace("netns:c1 10.1.0.99 --count 1 --patience 300");
        traced.verdict("dropped", 1).dropped(["n1", "c1", "eth0", "NEIGH_FAILED"]);
        lab.rebase();
    });
}

#[test]
fn rules_at_both_ends_and_refusals_are_told() {
    lab::run("trace-ends", |lab| {
        let host = Host::build(lab);
        host.nft(&[
            "add table inet f",
            "add chain inet f i { type filter hook input priority 0 ; }",
            "add rule inet f i ip protocol icmp reject",
        ]);
        lab.rebase();
        let traced = host.trace("netns:c1 host");
        traced.verdict("rejected", 1).dropped(["n1", "host", "cni0", "NETFILTER_DROP"]);
        traced.rule("inet f i handle 2: ip protocol icmp reject");

        words(&host.c1, "nft add table ip f");
        words(&host.c1, "nft add chain ip f o { type filter hook output priority 0 ; policy drop ; }");
        lab.rebase();
        let traced = host.trace("netns:c1 netns:c2 --patience 300");
        traced.verdict("dropped", 1).dropped(["n1", "c1", "", "NETFILTER_DROP"]);
        traced.rule("ip f o policy drop");
        words(&host.c1, "nft delete table ip f");

        host.c2.set_sysctl("net.ipv4.icmp_echo_ignore_all", "1");
        lab.rebase();
        host.trace("netns:c1 netns:c2 --patience 300").verdict("delivered-no-reply", 1);
    });
}

#[test]
fn an_answer_from_the_wrong_container_and_what_is_too_large_to_send_are_told() {
    lab::run("trace-impostor", |lab| {
        let host = Host::build(lab);
        let c3 = lab.netns("c3");
        host.host.add_veth("v3", &c3, "eth0");
        words(&host.host, "ip link set v3 up master cni0");
        c3.add_address("eth0", "10.1.0.12/16");
        c3.set_up("eth0");
        let links: serde_json::Value = serde_json::from_str(&words(&c3, "ip -j link show eth0")).unwrap();
        let mac = links[0]["address"].as_str().unwrap();
        words(&host.c1, &format!("ip neigh replace 10.1.0.12 lladdr {mac} dev eth0 nud permanent"));
        lab.rebase();
        let traced = host.trace("netns:c1 netns:c2");
        traced.verdict("consumed", 1);
        assert!(
            traced.document["detail"].as_str().unwrap().starts_with("by n1/c3/eth0"),
            "{:#}",
            traced.document
        );

        let traced = host.trace("netns:c1 host --size 2000 --count 1");
        traced.verdict("dropped", 1);
        assert!(traced.document["drop"]["reason"].as_str().unwrap().contains("Message too long"));
        lab.rebase();
    });
}

#[test]
fn without_the_right_to_bpf_the_rest_still_works() {
    lab::run("trace-no-cap", |lab| {
        lab.needs_program("setpriv", "util-linux");
        let host = Host::build(lab);
        let mut argv = vec!["setpriv", "--bounding-set", "-bpf,-perfmon,-sys_admin"];
        argv.extend(["--inh-caps", "-bpf,-perfmon,-sys_admin", NETCTL, "--node", "n1", "-o", "json"]);
        let traced = Traced::of(host.host.exec(&[&argv[..], &["trace", "host", "10.1.0.12"]].concat()));
        traced.verdict("delivered", 0);
        assert_eq!(traced.hops()[0], "n1/host/cni0 tx");
        assert!(
            traced.stderr.contains("n1: no BPF (make BPF scratch space: Operation not permitted"),
            "{}",
            traced.stderr
        );
        // What it may not enter is no unknown name.
        let ran = host.host.exec(&[&argv[..], &["trace", "netns:c1", "netns:c2"]].concat());
        assert_eq!(ran.code, Some(3), "{}", ran.stderr);
        assert!(ran.stderr.contains("enter network namespace /run/netns/c1"), "{}", ran.stderr);
    });
}

#[test]
fn a_rule_of_a_bridge_is_named() {
    lab::run("trace-bridge-rule", |lab| {
        let host = Host::build(lab);
        host.nft(&[
            "add table bridge b",
            "add chain bridge b f { type filter hook forward priority 0 ; }",
            "add rule bridge b f ip daddr 10.1.0.12 drop",
        ]);
        lab.rebase();
        let traced = host.trace("netns:c1 netns:c2 --patience 300");
        traced.verdict("dropped", 1);
        assert_eq!(traced.document["drop"]["reason"], "NETFILTER_DROP", "{:#}", traced.document);
        traced.rule("bridge b f handle 2: ip daddr 10.1.0.12 drop");
    });
}
