//! Three hosts with the overlay plugin and its agent: no finding while all is well, names and hops across hosts, and faults by node.

use std::{process::Child, time::Duration};

use serde_json::{Value, json};
use testenv::{
    cluster::{Cluster, Options},
    fleet::{Fleet, Network, SOON},
    lab::{self, Lab},
    plugin::built,
    wait,
};

const NETCTL: &str = env!("CARGO_BIN_EXE_netctl");

/// A fleet whose agents end with it.
struct Running {
    fleet: Fleet,
    agents: Vec<Child>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for agent in &mut self.agents {
            // What has ended already needs no ending.
            let _ = agent.kill().and_then(|()| agent.wait());
        }
        let _ = self.fleet.cluster.down();
    }
}

impl Running {
    fn up(lab: &Lab) -> Self {
        lab.needs_program("nsenter", "util-linux");
        lab.allow("/run/mount");
        let cluster = Cluster::up(Options { hosts: 3, mtu: 1500 }).expect("a cluster");
        let fleet = Fleet { cluster, network: Network::default(), programs: built(), logs: lab.dir() };
        let mut running = Self { fleet, agents: Vec::new() };
        running.agents = running.fleet.start_static().expect("agents");
        wait::wait_for("the fleet is complete", SOON, || running.fleet.is_complete());
        running
    }

    fn netctl(&self, host: u8, words: &[&str]) -> (Option<i32>, String) {
        let path = format!("CNI_PATH={}", built().display());
        let line = [&["env", &path, NETCTL], words].concat();
        let said = self.fleet.cluster.host(host).exec(&line).expect("run netctl");
        (said.code, said.stdout)
    }

    /// On the first host, with the others as peers.
    fn with_peers(&self, words: &[&str]) -> Value {
        let mut line: Vec<String> = words.iter().map(ToString::to_string).collect();
        for number in [2, 3] {
            let agent = self.fleet.cluster.host(number).command_line(&[NETCTL, "agent", "--stdio"]).join(" ");
            line.extend(["--peer".to_owned(), format!("h{number}={agent}")]);
        }
        line.extend(["--node", "h1", "-o", "json"].map(str::to_owned));
        let (_, stdout) = self.netctl(1, &line.iter().map(String::as_str).collect::<Vec<_>>());
        serde_json::from_str(&stdout).unwrap_or_else(|err| panic!("{err}: {stdout}"))
    }

    /// The verbs that only look do so on every host.
    fn looks_everywhere(&self) {
        let inspected = self.with_peers(&["inspect", "c1", "h2/c2"]);
        let of = |it: &Value| json!([it["node"], it["container"], it["network"]]);
        let found: Vec<_> = inspected["items"].as_array().expect("items").iter().map(of).collect();
        assert_eq!(json!(found), json!([["h1", "c1", "lab"], ["h2", "c2", "lab"]]), "{inspected:#}");
        let status = self.with_peers(&["status"]);
        let of = |it: &Value| (it["what"] == "network").then(|| json!([it["node"], it["name"], it["state"]]));
        let found: Vec<_> = status["items"].as_array().expect("items").iter().filter_map(of).collect();
        assert_eq!(
            json!(found),
            json!([["h1", "lab", "ok"], ["h2", "lab", "ok"], ["h3", "lab", "ok"]]),
            "{status:#}"
        );
        let routes = self.with_peers(&["network", "routes", "lab"]);
        assert!(routes["items"].as_array().expect("items").iter().any(|it| it["node"] == "h3"), "{routes:#}");
        let peer = self.fleet.cluster.host(2).command_line(&[NETCTL, "agent", "--stdio"]).join(" ");
        let peer = format!("h2={peer}");
        let (code, table) = self.netctl(1, &["fdb", "--node", "h1", "--peer", &peer]);
        assert_eq!(code, Some(0), "{table}");
        let nodes = |node: &str| table.lines().skip(1).filter(|line| line.starts_with(node)).count();
        assert!(table.starts_with("NODE ") && nodes("h1 ") > 0 && nodes("h2 ") > 0, "{table}");
        assert_eq!(self.netctl(1, &["inspect", "nobody", "--peer", &peer]).0, Some(2));
    }

    /// Code and node of each finding.
    fn findings(&self) -> Vec<Value> {
        let found = self.with_peers(&["doctor"]);
        let items = found["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|it| json!([it["code"], it["where"]["node"], it["where"]["device"]])).collect()
    }
}

#[test]
fn three_hosts_of_an_overlay() {
    lab::run("three_hosts_of_an_overlay", |lab| {
        lab.needs_program("nft", "nftables");
        let mut running = Running::up(lab);
        let conf =
            json!({"cniVersion": "1.1.0", "name": "lab", "plugins": [{"type": "overlay", "ipMasq": true}]});
        for number in 1..=3 {
            let (host, name) = (running.fleet.cluster.host(number), format!("c{number}"));
            host.write("/etc/cni/net.d/10-lab.conflist", &conf.to_string()).unwrap();
            host.run(&["ip", "netns", "add", &name]).unwrap();
            assert_eq!(
                running.netctl(number, &["exec", "add", "lab", &name, "--container-id", &name]).0,
                Some(0)
            );
        }
        assert_eq!(running.findings(), Vec::<Value>::new());
        let ps = running.with_peers(&["ps"]);
        let rows: Vec<_> = ps["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| json!([it["node"], it["container"], it["bridge"], it["state"]]))
            .collect();
        assert_eq!(
            json!(rows),
            json!([["h1", "c1", "ovb7", "ok"], ["h2", "c2", "ovb7", "ok"], ["h3", "c3", "ovb7", "ok"]])
        );
        running.looks_everywhere();
        let trace = running.with_peers(&["trace", "c1", "h2/c2", "--count", "1"]);
        assert_eq!(trace["verdict"], "delivered", "{trace:#}");

        let second = running.fleet.cluster.host(2);
        second.run(&["nft", "add table inet fw; add chain inet fw in { type filter hook input priority 0; }; add rule inet fw in udp dport 4789 drop"]).unwrap();
        assert_eq!(running.findings(), [json!(["vxlan-port-blocked", "h2", "ovl7"])]);
        let trace = running.with_peers(&["trace", "c1", "h2/c2", "--count", "1", "--patience", "300"]);
        assert_eq!(
            (&trace["verdict"], &trace["drop"]["node"]),
            (&json!("dropped"), &json!("h2")),
            "{trace:#}"
        );
        second.run(&["nft", "delete table inet fw"]).unwrap();
        second.run(&["sysctl", "-w", "net.ipv4.ip_forward=0"]).unwrap();
        assert_eq!(running.findings(), [json!(["ip-forward-off", "h2", null])]);
        second.run(&["sysctl", "-w", "net.ipv4.ip_forward=1"]).unwrap();
        // Without its agent the third host keeps what it has, and somebody takes an entry.
        let mut agent = running.agents.pop().unwrap();
        agent.kill().and_then(|()| agent.wait()).unwrap();
        assert_eq!(running.findings(), [json!(["agent-down", "h3", null])]);
        running.agents.push(running.fleet.start_agent(3).unwrap());
        wait::wait_for("the agent is back", Duration::from_secs(30), || running.findings().is_empty());
        for number in 1..=3 {
            let name = format!("c{number}");
            assert_eq!(
                running.netctl(number, &["exec", "del", "lab", &name, "--container-id", &name]).0,
                Some(0)
            );
            running.fleet.cluster.host(number).run(&["ip", "netns", "del", &name]).unwrap();
        }
    });
}
