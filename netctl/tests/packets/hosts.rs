//! The scene: three hosts with a bridge, a container and a VXLAN device each, joined by a switch; and runs of netctl on
//! the first, with the two others as peers.

use std::time::Duration;

use serde_json::Value;
use testenv::{
    lab::Lab,
    ns::{Ns, Ran},
};

pub(crate) const NETCTL: &str = env!("CARGO_BIN_EXE_netctl");
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Hosts n1, n2, n3, each with a container c1, c2, c3.
pub(crate) struct Hosts {
    pub(crate) hosts: Vec<Ns>,
    pub(crate) containers: Vec<Ns>,
    pub(crate) switch: Ns,
}

impl Hosts {
    pub(crate) fn build(lab: &Lab) -> Self {
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
        (1..=3).for_each(|number| all.connect(number));
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
        self.add_tunnel(number, 42, 8472);
    }

    /// The VXLAN device of a host.
    pub(crate) fn add_tunnel(&self, number: usize, vni: u32, port: u16) {
        let host = self.host(number);
        // Without a checksum, a wrong one can be put in that nobody corrects on the way out.
        let vxlan = format!("type vxlan id {vni} dstport {port} nolearning noudpcsum local");
        words(host, &format!("ip link add ovl address 02:42:00:00:00:0{number} {vxlan} 192.0.2.{number}"));
        words(host, &format!("ip addr add 10.244.{number}.0/32 dev ovl"));
        words(host, "ip link set ovl up mtu 1450");
    }

    /// What a host knows of the two others.
    pub(crate) fn connect(&self, from: usize) {
        let host = self.host(from);
        for to in (1..=3).filter(|to| *to != from) {
            let mac = format!("02:42:00:00:00:0{to}");
            words(host, &format!("ip route replace 10.244.{to}.0/24 via 10.244.{to}.0 dev ovl onlink"));
            words(host, &format!("ip neigh replace 10.244.{to}.0 lladdr {mac} dev ovl nud permanent"));
            words(host, &format!("bridge fdb replace {mac} dev ovl dst 192.0.2.{to}"));
        }
    }

    pub(crate) fn host(&self, number: usize) -> &Ns {
        &self.hosts[number - 1]
    }

    pub(crate) fn container(&self, number: usize) -> &Ns {
        &self.containers[number - 1]
    }

    /// Runs netctl on host 1, with the two others as peers.
    pub(crate) fn netctl(&self, words: &str) -> Ran {
        self.host(1).exec(&words_of(&arguments(words)))
    }

    /// Runs `netctl trace` there.
    pub(crate) fn trace(&self, words: &str) -> Traced {
        Traced::of(self.netctl(&format!("-o json trace {words}")))
    }
}

/// The command line on host 1.
pub(crate) fn arguments(words: &str) -> Vec<String> {
    let mut argv = vec![NETCTL.to_owned(), "--node".to_owned(), "n1".to_owned()];
    for peer in ["n2", "n3"] {
        argv.push("--peer".to_owned());
        argv.push(format!("{peer}=ip netns exec {peer} {NETCTL} agent --stdio"));
    }
    argv.extend(words.split_whitespace().map(ToOwned::to_owned));
    argv
}

fn words_of(argv: &[String]) -> Vec<&str> {
    argv.iter().map(String::as_str).collect()
}

/// Runs a command that must succeed.
#[track_caller]
pub(crate) fn words(ns: &Ns, line: &str) -> String {
    ns.exec(&line.split_whitespace().collect::<Vec<_>>()).ok()
}

/// A trace's document, exit status and warnings.
pub(crate) struct Traced {
    pub(crate) document: Value,
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

impl Traced {
    /// What `netctl -o json trace` said.
    #[track_caller]
    pub(crate) fn of(ran: Ran) -> Self {
        let document = serde_json::from_str(&ran.stdout)
            .unwrap_or_else(|err| panic!("{err}: {}\n{}", ran.stdout, ran.stderr));
        Self { document, code: ran.code, stderr: ran.stderr }
    }

    #[track_caller]
    pub(crate) fn verdict(&self, expected: &str, code: i32) -> &Self {
        assert_eq!(self.document["verdict"], expected, "{:#}", self.document);
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        self
    }

    /// Node, namespace, device, reason of the drop.
    #[track_caller]
    pub(crate) fn dropped(&self, expected: [&str; 4]) -> &Self {
        let drop = &self.document["drop"];
        let found = ["node", "netns", "device", "reason"].map(|key| drop[key].as_str().unwrap_or_default());
        assert_eq!(found, expected, "{:#}", self.document);
        self
    }

    #[track_caller]
    pub(crate) fn rule(&self, expected: &str) {
        let rule = self.document["drop"]["rule"].as_str().unwrap_or_default();
        assert!(rule.contains(expected), "{:#}", self.document);
    }

    /// `n1/c1/eth0 tx`, a line a hop.
    pub(crate) fn hops(&self) -> Vec<String> {
        let hop = |hop: &Value| {
            let [node, netns, device, event] =
                ["node", "netns", "device", "event"].map(|key| hop[key].as_str().unwrap_or_default());
            format!("{node}/{netns}/{device} {event}")
        };
        self.document["hops"].as_array().into_iter().flatten().map(hop).collect()
    }

    /// Of `--explain`, what a probe would have been seen at.
    pub(crate) fn way(&self) -> Vec<String> {
        self.hops().into_iter().filter(|hop| hop.ends_with(" rx") || hop.ends_with(" tx")).collect()
    }

    /// Of `--explain`, the answers of one kind: `n1/host/ovl fdb` and what it says.
    pub(crate) fn answers(&self, event: &str) -> Vec<String> {
        let notes = self.document["hops"].as_array().into_iter().flatten().map(|hop| hop["note"].as_str());
        let all = self.hops().into_iter().zip(notes).filter(|(hop, _)| hop.ends_with(event));
        all.map(|(hop, note)| format!("{hop}: {}", note.unwrap_or_default())).collect()
    }
}
