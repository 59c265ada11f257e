//! The doctor on a network that the Go plugins made: a dozen faults, found by the same codes and places.

use std::{fs, path::PathBuf};

use serde_json::json;
use testenv::{
    lab::{self, Lab},
    ns::Ns,
};

use crate::node::{Node, bridged};

#[test]
fn a_dozen_faults_of_a_foreign_network() {
    lab::run("a_dozen_faults_of_a_foreign_network", |lab| {
        lab.needs_program("nft", "nftables");
        lab.needs_program("iptables", "iptables");
        let go = PathBuf::from("/usr/lib/cni");
        if !go.join("bridge").is_file() {
            lab.skip("needs the Go plugins (package containernetworking-plugins)");
        }
        // Tables of iptables stay, empty.
        for what in [
            "table ip",
            "table ip6",
            "chain ip",
            "chain ip6",
            "/run/xtables.lock",
            "route_localnet",
            "/run/cni",
        ] {
            lab.allow(what);
        }
        let mut node = Node::new(lab);
        node.scene.path = vec![go];
        let mut conf = bridged();
        conf["plugins"][0]["hairpinMode"] = json!(true);
        conf["plugins"][0]["ipam"]["dataDir"] = json!("/var/lib/cni/networks");
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        conf["plugins"].as_array_mut().expect("a list").push(portmap);
        conf["cniVersion"] = json!("1.0.0");
        node.conf(&conf);
        let [c1, c2] = ["c1", "c2"].map(|name| lab.netns(name));
        let ports = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;
        node.scene.netctl_with(&[("CAP_ARGS", ports)], "exec add ovl c1 --container-id c1").ok();
        node.add("ovl", "c2");
        node.is_healthy();
        faults_of_the_host(lab, &node);
        faults_of_containers(lab, &node, &c1, &c2);
        fs::write(node.scene.root.join("net.d/20-x.conflist"), "{").expect("write a broken file");
        node.finds("config-invalid", &json!({"file": node.scene.root.join("net.d/20-x.conflist")}));
        fs::remove_file(node.scene.root.join("net.d/20-x.conflist")).expect("remove it");
        lab.remove_netns(c2);
        let file = node.scene.root.join("results/ovl-c2-eth0");
        node.finds("stale-attachment", &json!({"netns": "c2", "file": file}));
        node.fix();
        assert_eq!(node.scene.netctl("ipam check -o name").ok().stdout, "10.9.0.2\n");
        node.del("ovl", "c1");
    });
}

fn faults_of_the_host(lab: &Lab, node: &Node) {
    let (veth, veth2) = (node.host_link("c1"), node.host_link("c2"));

    lab.host().set_sysctl("net.ipv4.ip_forward", "0");
    node.finds("ip-forward-off", &json!({"netns": "host"}));
    node.fix();
    run(lab, "iptables -P FORWARD DROP");
    node.finds("forward-drop", &json!({"device": "cni0", "rule": "ip filter FORWARD"}));
    run(lab, "iptables -P FORWARD ACCEPT");
    run(lab, "sysctl -w net.bridge.bridge-nf-call-iptables=0");
    node.finds("br-netfilter-off", &json!({"device": "cni0"}));
    node.fix();
    run(lab, &format!("bridge link set dev {veth} hairpin off"));
    node.finds("hairpin-off", &json!({"device": veth}));
    node.fix();
    run(lab, &format!("ip link set {veth} nomaster"));
    node.finds("bridge-port-missing", &json!({"device": veth}));
    node.fix();
    run(lab, &format!("ip link set {veth2} mtu 1400"));
    node.finds("mtu-blackhole", &json!({"device": veth2}));
    node.fix();
}

fn faults_of_containers(lab: &Lab, node: &Node, c1: &Ns, c2: &Ns) {
    c1.exec(&["ip", "route", "del", "default"]).ok();
    let found = node.finds("container-no-default-route", &json!({"netns": "c1"}));
    lab.exec(&["sh", "-c", found["fix"].as_str().expect("a command")]).ok();
    run(lab, "ip route del 10.9.0.0/24 dev cni0");
    node.finds("route-missing", &json!({"device": "cni0"}));
    run(lab, "ip route add 10.9.0.0/24 dev cni0");
    c2.exec(&["ip", "addr", "add", "10.9.0.2/24", "dev", "eth0"]).ok();
    node.finds("dup-ip", &json!({"netns": "c2"}));
    c2.exec(&["ip", "addr", "del", "10.9.0.2/24", "dev", "eth0"]).ok();
    c1.exec(&[
        "ip",
        "neigh",
        "replace",
        "10.9.0.3",
        "lladdr",
        "02:00:00:00:00:99",
        "dev",
        "eth0",
        "nud",
        "permanent",
    ])
    .ok();
    node.finds("neigh-stale", &json!({"netns": "c1", "device": "eth0"}));
    node.fix();
    run(lab, "ip addr del 10.9.0.1/24 dev cni0");
    node.finds("bridge-addr-mismatch", &json!({"device": "cni0"}));
    run(lab, "ip addr add 10.9.0.1/24 dev cni0");
    node.is_healthy();
}

#[track_caller]
fn run(lab: &Lab, line: &str) {
    lab.exec(&line.split(' ').collect::<Vec<_>>()).ok();
}
