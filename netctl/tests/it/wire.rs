//! Faults that show in what containers send: names, full packets, translated flows, fixed entries; and the overlay's agent.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::Path,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use testenv::{
    lab::{self, Lab},
    ns::Ns,
    plugin::built,
    wait,
};

use crate::node::{Node, bridged};

const SHORT: Duration = Duration::from_millis(300);
const SOON: Duration = Duration::from_secs(30);
const SERVER: &str = "198.51.100.254";
const HOST: &str = "198.51.100.1";

/// Containers with a name server outside; c1 has published ports.
struct Wired {
    node: Node,
    containers: [Ns; 2],
    outside: Ns,
}

impl Wired {
    fn new(lab: &Lab) -> Self {
        lab.needs_program("nft", "nftables");
        let node = Node::new(lab);
        let outside = lab.outside("up0");
        let mut conf = bridged();
        conf["plugins"][0]["hairpinMode"] = json!(true);
        conf["plugins"][0]["dns"] = json!({"nameservers": [SERVER]});
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        conf["plugins"].as_array_mut().expect("a list").push(portmap);
        node.conf(&conf);
        lab.allow("route_localnet");
        let containers = ["c1", "c2"].map(|name| lab.netns(name));
        let ports = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"},
            {"hostPort":5353,"containerPort":53,"protocol":"udp"}]}"#;
        node.scene.netctl_with(&[("CAP_ARGS", ports)], "exec add ovl c1 --container-id c1").ok();
        node.add("ovl", "c2");
        Self { node, containers, outside }
    }
}

#[track_caller]
fn run(lab: &Lab, line: &str) -> String {
    lab.exec(&line.split(' ').collect::<Vec<_>>()).ok()
}

#[track_caller]
fn do_fix(lab: &Lab, found: &Value) {
    lab.exec(&["sh", "-c", found["fix"].as_str().expect("a command")]).ok();
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

#[test]
fn names_are_asked_for() {
    lab::run("names_are_asked_for", |lab| {
        let wired = Wired::new(lab);
        let serves = wired.outside.udp_echo(at(SERVER, 53));
        wired.node.is_healthy();
        // Who is not answered soon asks again.
        assert!(serves.seen().len() >= 4, "two containers, two looks");
        drop(serves);
        wired.node.finds("dns-unserved", &json!({"netns": "c1", "device": "eth0"}));
        assert_eq!(wired.node.items("doctor --passive", "Findings").len(), 0);
        let serves = wired.outside.udp_echo(at(SERVER, 53));
        run(lab, "nft add table inet fw");
        run(lab, "nft add chain inet fw through { type filter hook forward priority 0 ; }");
        run(lab, "nft add rule inet fw through udp dport 53 drop");
        let place = json!({"netns": "c1", "device": "eth0", "rule": "inet fw through handle 2"});
        let found = wired.node.finds("dns-blocked", &place);
        assert_eq!(found["evidence"], json!(["asked by ovl/c1/eth0", "asked by ovl/c2/eth0"]));
        do_fix(lab, &found);
        wired.node.is_healthy();
        run(lab, "nft delete table inet fw");
        drop(serves);
        wired.node.leave();
    });
}

/// A fault, what the doctor finds of it and where, and whether it mends it by itself.
struct Fault<'a> {
    /// Run by the shell: in this namespace, or on the host.
    inject: String,
    within: Option<&'a Ns>,
    code: &'static str,
    place: Value,
    /// By `--fix`; else the finding's command does.
    is_fixed: bool,
}

impl Wired {
    /// Nothing comes to c1 from where it should; one finding says why, and not that names are not answered either; then all is well.
    #[track_caller]
    fn suffers(&self, lab: &Lab, fault: &Fault<'_>) {
        let Fault { inject, within, code, place, is_fixed } = fault;
        within.unwrap_or(lab.host()).exec(&["sh", "-c", inject]).ok();
        let found = self.node.finds(code, place);
        assert!(self.unheard(SHORT).is_some(), "{inject}: traffic flows");
        if *is_fixed {
            self.node.fix();
        } else {
            let said = self.node.scene.netctl("doctor --fix --yes");
            let command = found["fix"].as_str().expect("a command");
            assert!(said.code == Some(1) && said.stderr.contains("left to you: "), "{inject}: {said:#?}");
            assert!(said.stderr.contains(command), "{inject}: {said:#?}");
            do_fix(lab, &found);
            // Neighbours may have learned of it meanwhile.
            self.node.fix();
        }
        self.flows(inject);
    }

    #[track_caller]
    fn flows(&self, after: &str) {
        // A packet may get lost.
        let all = wait::poll(SOON, || self.unheard(SHORT).is_none().then_some(()));
        assert!(all.is_some(), "{after}: {:?}", self.unheard(SHORT));
    }

    /// Who of them is not answered: c1 by the server and by c2, and c2 by the server.
    fn unheard(&self, patience: Duration) -> Option<String> {
        let [c1, c2] = &self.containers;
        [(c1, SERVER), (c1, "10.9.0.3"), (c2, SERVER)].into_iter().find_map(|(from, to)| {
            let asked = from.ping(to.parse().expect("an address"), patience);
            asked.err().map(|err| format!("{} to {to}: {err}", from.name()))
        })
    }
}

/// Of the host.
fn host<'a>(inject: &str, code: &'static str, place: Value) -> Fault<'a> {
    Fault { inject: inject.to_owned(), within: None, code, place, is_fixed: true }
}

#[test]
fn faults_of_the_host_cut_containers_off() {
    lab::run("faults_of_the_host_cut_containers_off", |lab| {
        let wired = Wired::new(lab);
        let _serves = wired.outside.udp_echo(at(SERVER, 53));
        wired.node.is_healthy();
        wired.flows("");
        let veth = wired.node.host_link("c1");
        let on = |device: &str| json!({"netns": "host", "device": device});
        wired.suffers(
            lab,
            &host(
                "sysctl -w net.ipv4.ip_forward=0",
                "ip-forward-off",
                json!({"netns": "host", "device": null}),
            ),
        );
        let inject = format!("ip link set {veth} nomaster");
        wired.suffers(lab, &host(&inject, "bridge-port-missing", on(&veth)));
        wired.suffers(lab, &host("ip addr flush dev cni0 scope global", "bridge-addr-mismatch", on("cni0")));
        wired.suffers(lab, &host("ip route del 10.9.0.0/24 dev cni0", "route-missing", on("cni0")));
        let inject = "ip neigh replace 10.9.0.2 lladdr 02:00:00:00:00:99 dev cni0 nud permanent";
        wired.suffers(lab, &host(inject, "neigh-stale", on("cni0")));
        // A frame of c2's own would move an entry that is not sticky (`br_fdb_update`).
        let mac = wired.node.items("ps", "Attachments")[1]["mac"].as_str().unwrap().to_owned();
        let inject = format!("bridge fdb replace {mac} dev {veth} master static sticky");
        wired.suffers(lab, &host(&inject, "fdb-stale", on(&veth)));
        // Without its bridge no container has anything; it comes back in several steps.
        run(lab, "ip link del cni0");
        let codes: Vec<_> = wired.node.findings().iter().map(|it| it["code"].clone()).collect();
        assert_eq!(codes, ["bridge-port-missing", "bridge-port-missing"]);
        wired.node.fix();
        wired.flows("");

        wired.node.leave();
    });
}

#[test]
fn what_others_made_is_left_to_them() {
    lab::run("what_others_made_is_left_to_them", |lab| {
        let wired = Wired::new(lab);
        let _serves = wired.outside.udp_echo(at(SERVER, 53));
        wired.node.is_healthy();
        let on = |device: &str| json!({"netns": "host", "device": device});
        let left = |inject: &str, code, place| Fault { is_fixed: false, ..host(inject, code, place) };
        let inject = "nft add table ip fw && nft add chain ip fw through '{ type filter hook forward priority 0 ; policy drop ; }'";
        wired.suffers(lab, &left(inject, "forward-drop", on("cni0")));
        run(lab, "nft delete table ip fw");
        wired.suffers(lab, &left("ip route add 10.9.0.2/32 dev up0", "route-missing", on("cni0")));
        let inject = "ip route add 10.9.0.2/32 dev up0 && sysctl -w net.ipv4.conf.cni0.rp_filter=1";
        wired.suffers(lab, &left(inject, "rp-filter", on("cni0")));
        run(lab, "nft flush ruleset");
        let codes: Vec<_> = wired.node.findings().iter().map(|it| it["code"].clone()).collect();
        assert_eq!(codes, ["masq-missing", "masq-missing", "portmap-missing"]);
        wired.node.fix();
        wired.flows("");
        wired.node.leave();
    });
}

#[test]
fn faults_in_containers_cut_them_off() {
    lab::run("faults_in_containers_cut_them_off", |lab| {
        let wired = Wired::new(lab);
        let _serves = wired.outside.udp_echo(at(SERVER, 53));
        wired.node.is_healthy();
        let [c1, c2] = &wired.containers;
        let in_c1 = json!({"netns": "c1", "device": "eth0"});
        let inside = |inject: &str, code| Fault { within: Some(c1), ..host(inject, code, in_c1.clone()) };
        wired.suffers(lab, &inside("ip route del default", "container-no-default-route"));
        wired.suffers(lab, &inside("ip addr flush dev eth0 scope global", "container-no-default-route"));
        for neighbour in ["10.9.0.1", "10.9.0.3"] {
            let inject =
                format!("ip neigh replace {neighbour} lladdr 02:00:00:00:00:99 dev eth0 nud permanent");
            wired.suffers(lab, &inside(&inject, "neigh-stale"));
        }
        // c1's is the right one, by what it was given.
        let twice = |inject: &str, code| Fault {
            within: Some(c2),
            is_fixed: false,
            ..host(inject, code, json!({"netns": "c2", "device": "eth0"}))
        };
        let mac = wired.node.items("ps", "Attachments")[0]["mac"].as_str().unwrap().to_owned();
        let inject = format!("ip link set eth0 address {mac} && ping -c1 -W1 10.9.0.1");
        wired.suffers(lab, &twice(&inject, "dup-mac"));
        c2.exec(&["ip", "addr", "add", "10.9.0.2/24", "dev", "eth0"]).ok();
        let found = wired.node.finds("dup-ip", &json!({"netns": "c2", "device": "eth0"}));
        assert_eq!(found["evidence"], json!(["c1/eth0: 10.9.0.2", "c2/eth0: 10.9.0.2"]));
        do_fix(lab, &found);
        wired.node.fix();
        wired.node.leave();
    });
}

#[test]
fn flows_and_answers_go_elsewhere() {
    lab::run("flows_and_answers_go_elsewhere", |lab| {
        let wired = Wired::new(lab);
        let _serves = wired.outside.udp_echo(at(SERVER, 53));
        let ([c1, c2], node) = (&wired.containers, &wired.node);
        let _names = c1.udp_echo(at("10.9.0.2", 53));
        let _web = c1.tcp_echo(at("10.9.0.2", 80));
        node.is_healthy();
        // A flow that a former rule has sent to a former container.
        run(lab, "nft add table ip former");
        run(lab, "nft add chain ip former pre { type nat hook prerouting priority -150 ; }");
        run(lab, "nft add rule ip former pre udp dport 5353 dnat to 10.9.0.77:53");
        let client = wired.outside.run(|| UdpSocket::bind((SERVER, 4000)).unwrap());
        client.set_read_timeout(Some(SHORT)).unwrap();
        client.send_to(b"one", (HOST, 5353)).unwrap();
        run(lab, "nft delete table ip former");
        let mut bytes = [0; 8];
        client.send_to(b"two", (HOST, 5353)).unwrap();
        assert!(client.recv(&mut bytes).is_err());
        let found = node.finds("conntrack-stale", &json!({"netns": "host", "device": null}));
        assert_eq!(found["cause"], "the port is now ovl/c1/eth0's, port 53");
        node.fix();
        client.send_to(b"three", (HOST, 5353)).unwrap();
        let heard = wait::poll(SOON, || client.recv(&mut bytes).ok());
        assert_eq!(&bytes[..heard.unwrap()], b"three");
        // The container calls its own published port.
        c1.tcp_talk(at(HOST, 8080), "to myself").unwrap();
        let sets = run(lab, "nft list sets inet");
        let set =
            sets.split_whitespace().find(|word| word.starts_with("hairpin") && word.contains('4')).unwrap();
        run(lab, &format!("nft flush set inet tenon {set}"));
        assert!(c1.tcp_talk(at(HOST, 8080), "to myself").is_err());
        let veth = node.host_link("c1");
        node.finds("hairpin-no-masq", &json!({"netns": "host", "device": veth}));
        node.fix();
        c1.tcp_talk(at(HOST, 8080), "to myself").unwrap();
        run(lab, &format!("bridge link set dev {veth} hairpin off"));
        assert!(c1.tcp_talk(at(HOST, 8080), "to myself").is_err());
        node.finds("hairpin-off", &json!({"netns": "host", "device": veth}));
        node.fix();
        c1.tcp_talk(at(HOST, 8080), "to myself").unwrap();
        run(lab, "sysctl -w net.bridge.bridge-nf-call-iptables=0");
        node.finds("br-netfilter-off", &json!({"netns": "host", "device": "cni0"}));
        node.fix();
        c2.tcp_talk(at(HOST, 8080), "to a neighbour").unwrap();
        wired.node.leave();
    });
}

#[test]
fn full_packets_disappear() {
    lab::run("full_packets_disappear", |lab| {
        let wired = Wired::new(lab);
        let _serves = wired.outside.udp_echo(at(SERVER, 53));
        lab.host().set_mtu("up0", 1400);
        wired.node.is_healthy();
        // That told the container, which remembers for ten minutes.
        wired.containers[0].exec(&["ip", "route", "flush", "cache"]).ok();
        run(lab, "nft add table inet fw");
        run(lab, "nft add chain inet fw out { type filter hook output priority 0 ; }");
        run(lab, "nft add rule inet fw out icmp type destination-unreachable drop");
        let place = json!({"netns": "host", "device": "up0", "rule": "inet fw out handle 2"});
        let found = wired.node.finds("pmtud-blackhole", &place);
        do_fix(lab, &found);
        wired.node.is_healthy();
        run(lab, "nft delete table inet fw");
        lab.host().set_mtu("up0", 1500);
        wired.node.leave();
    });
}

#[test]
fn the_agent_is_watched() {
    lab::run("the_agent_is_watched", |lab| {
        let node = Node::new(lab);
        lab.outside("eth0");
        lab.allow("ovl7");
        lab.allow("tenon-overlay");
        let (peers, config) = (lab.dir().join("lab.json"), lab.dir().join("overlayd.toml"));
        let of = |number: u8| json!({"node": format!("h{number}"), "underlay": format!("198.51.100.{number}"), "subnets": [format!("10.244.{number}.0/24")]});
        let text = json!({"name": "lab", "vni": 7, "pools": ["10.244.0.0/16"], "peers": [of(1)]});
        fs::write(&peers, text.to_string()).unwrap();
        let lib = lab.dir().join("lib");
        let start = |network: &str| {
            let text =
                format!("node = 'h1'\nlib = '{}'\nmetrics = ''\n[[network]]\n{network}", lib.display());
            fs::write(&config, text).unwrap();
            let program = built().join("overlayd");
            assert!(program.is_file(), "{} is not built: cargo build --workspace", program.display());
            lab.daemon(lab.host(), &[program.to_str().unwrap(), "--config", config.to_str().unwrap()])
        };
        let status = || node.scene.netctl("overlay status lab -o json").stdout;
        let agent = start(&format!("file = '{}'\n", peers.display()));
        wait::wait_for("the agent follows the file", SOON, || status().contains("\"following\""));
        let keeps = || Path::new(overlay::config::RUN).join("lab.json").exists();
        wait::wait_for("the agent keeps the network", SOON, keeps);
        node.is_healthy();
        kill(Pid::from_raw(i32::try_from(agent.pid()).unwrap()), Signal::SIGKILL).unwrap();
        drop(agent);
        node.finds("agent-down", &json!({"netns": "host", "file": "/run/tenon/overlayd.sock"}));
        let agent = start(&format!("file = '{}'\n", peers.display()));
        wait::wait_for("the agent follows the file", SOON, || status().contains("\"following\""));
        node.is_healthy();
        drop(agent);
        let etcd = "name = 'lab'\nvni = 7\npools = ['10.244.0.0/16']\n[network.etcd]\nendpoints = ['http://127.0.0.1:1']\n";
        let agent = start(etcd);
        wait::wait_for("the agent has lost etcd", SOON, || status().contains("\"lost\""));
        node.finds("directory-unreachable", &json!({"netns": "host", "device": "ovl7"}));
        drop(agent);
    });
}
