//! Faults put into a lab one at a time: the doctor finds each by its code and place, and nothing else that is an error.

use std::{fs, time::Duration};

use serde_json::json;
use testenv::{
    lab::{self, Lab},
    ns::Ns,
};

use crate::node::{Node, bridged};

/// A healthy node, the fault, and a healthy node again where the test does not undo it itself.
pub(crate) fn with_fault(name: &'static str, body: fn(&Lab, &Node, &[Ns; 2])) {
    lab::run(name, move |lab| {
        let (node, containers) = Node::running(lab);
        node.is_healthy();
        body(lab, &node, &containers);
        node.leave();
    });
}

#[test]
fn forwarding_off() {
    with_fault("forwarding_off", |lab, node, _| {
        lab.host().set_sysctl("net.ipv4.ip_forward", "0");
        let found = node.finds("ip-forward-off", &json!({"netns": "host", "device": null}));
        assert_eq!(found["fix"], "sysctl -w net.ipv4.ip_forward=1");
        // Without --yes nothing changes.
        let said = node.scene.netctl("doctor --fix");
        assert_eq!(said.code, Some(1), "{said:#?}");
        assert!(said.stderr.contains("would do: sysctl -w net.ipv4.ip_forward=1"), "{said:#?}");
        node.fix();
        assert_eq!(lab.host().sysctl("net.ipv4.ip_forward"), "1");
    });
}

#[test]
fn a_firewall_drops() {
    with_fault("a_firewall_drops", |lab, node, _| {
        lab.needs_program("nft", "nftables");
        let nft = |line: &str| lab.exec(&[&["nft"], &line.split(' ').collect::<Vec<_>>()[..]].concat()).ok();
        nft("add table ip filter");
        nft("add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }");
        let found = node.finds("forward-drop", &json!({"device": "cni0", "rule": "ip filter FORWARD"}));
        assert!(found["cause"].as_str().unwrap().contains("policy drop"), "{found:#}");
        // What the fix says helps.
        lab.exec(&["sh", "-c", found["fix"].as_str().unwrap()]).ok();
        node.is_healthy();
        nft("flush chain ip filter FORWARD");
        nft("add rule ip filter FORWARD ip saddr 10.9.0.0/16 accept");
        node.is_healthy();
        nft("delete table ip filter");
        // A rule in its own table, before an accept.
        nft("add table inet mine");
        nft("add chain inet mine through { type filter hook forward priority 0 ; }");
        nft("add rule inet mine through tcp dport 25 drop");
        node.is_healthy();
        nft("add rule inet mine through ip daddr 10.9.0.0/24 drop");
        let found = node.finds("forward-drop", &json!({"device": "cni0"}));
        assert!(
            found["where"]["rule"].as_str().unwrap().starts_with("inet mine through handle "),
            "{found:#}"
        );
        nft("delete table inet mine");
    });
}

/// A container on two bridges, whose first address the host reaches by the second.
#[test]
fn the_way_back_is_another() {
    with_fault("the_way_back_is_another", |lab, node, [c1, _]| {
        let mut second = bridged();
        second["name"] = json!("second");
        second["plugins"][0]["bridge"] = json!("cni1");
        second["plugins"][0]["ipMasq"] = json!(false);
        second["plugins"][0]["ipam"] = json!({"type": "host-local", "dataDir": "/var/lib/cni/networks",
            "ranges": [[{"subnet": "10.8.0.0/24"}]]});
        node.scene.conf("20-second.conflist", &second);
        lab.allow_bridge("cni1");
        let second = "exec add second c1 --container-id c1 --ifname eth1";
        node.scene.netctl(second).ok();
        node.is_healthy();
        let answers = || c1.ping("10.9.0.1".parse().unwrap(), Duration::from_millis(300)).is_ok();
        let before = lab.host().sysctl("net.ipv4.conf.cni0.rp_filter");
        lab.host().add_device_route("10.9.0.2/32", "cni1");
        node.is_healthy();
        assert!(answers());
        lab.host().set_sysctl("net.ipv4.conf.cni0.rp_filter", "1");
        let found = node.finds("rp-filter", &json!({"netns": "host", "device": "cni0"}));
        assert_eq!(found["fix"], "sysctl -w net.ipv4.conf.cni0.rp_filter=2");
        assert!(!answers());
        node.fix();
        assert!(answers());
        lab.host().set_sysctl("net.ipv4.conf.cni0.rp_filter", &before);
        lab.exec(&["ip", "route", "del", "10.9.0.2/32", "dev", "cni1"]).ok();
        // A route of the result, which `ip addr flush` does not take.
        c1.exec(&["ip", "route", "del", "default"]).ok();
        node.finds("container-no-default-route", &json!({"netns": "c1", "device": "eth0"}));
        node.fix();
        node.scene.netctl("exec del second c1 --container-id c1 --ifname eth1").ok();
        fs::remove_file(node.scene.root.join("net.d/20-second.conflist")).unwrap();
    });
}

#[test]
fn routes_are_gone() {
    lab::run("routes_are_gone", |lab| {
        let node = Node::new(lab);
        let mut conf = bridged();
        conf["plugins"][0]["ipam"]["routes"] =
            json!([{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "mtu": 1400}]);
        node.conf(&conf);
        let (c1, far) = (lab.netns("c1"), lab.netns("far"));
        node.add("ovl", "c1");
        lab.host().add_veth("up0", &far, "eth0");
        lab.host().add_address("up0", "192.0.2.1/24");
        lab.host().set_up("up0");
        node.is_healthy();
        let routes = || c1.exec(&["ip", "route"]).ok();
        let before = routes();
        assert!(before.contains("mtu 1400"), "{before}");
        c1.exec(&["ip", "route", "del", "192.0.2.0/24"]).ok();
        let found = node.finds("route-missing", &json!({"netns": "c1", "device": "eth0"}));
        let command = "nsenter --net=/run/netns/c1 ip route add 192.0.2.0/24 via 10.9.0.1 dev eth0 mtu 1400";
        assert_eq!(found["fix"], command);
        node.fix();
        c1.exec(&["ip", "route", "del", "default"]).ok();
        c1.exec(&["ip", "route", "del", "192.0.2.0/24"]).ok();
        assert!(c1.ping("192.0.2.1".parse().unwrap(), Duration::from_millis(300)).is_err());
        node.fix();
        assert_eq!(routes(), before);
        assert!(c1.pings("192.0.2.1".parse().unwrap()));
        node.del("ovl", "c1");
        lab.host().remove_link("up0");
        lab.remove_netns(far);
    });
}

#[test]
fn subnets_overlap() {
    with_fault("subnets_overlap", |lab, node, _| {
        let mut second = bridged();
        second["name"] = json!("second");
        second["plugins"][0]["bridge"] = json!("cni1");
        second["plugins"][0]["ipam"]["ranges"] = json!([[{"subnet": "10.9.0.128/25"}]]);
        node.scene.conf("20-second.conflist", &second);
        let file = node.scene.root.join("net.d/20-second.conflist");
        let found = node.finds("subnet-overlap", &json!({"file": file}));
        assert_eq!(found["fix"], format!("sed -i 's#10.9.0.128/25#10.9.1.0/25#' {}", file.display()));
        lab.exec(&["sh", "-c", found["fix"].as_str().unwrap()]).ok();
        node.is_healthy();
        fs::remove_file(file).unwrap();
        let office = lab.netns("office");
        lab.host().add_veth("up0", &office, "eth0");
        lab.host().set_up("up0");
        lab.host().add_address("up0", "10.9.0.200/25");
        let file = node.scene.root.join("net.d/10-ovl.conflist");
        node.finds("subnet-overlap", &json!({"file": file, "device": "up0"}));
        lab.host().remove_link("up0");
        lab.remove_netns(office);
    });
}

#[test]
fn a_container_is_gone() {
    lab::run("a_container_is_gone", |lab| {
        let (node, [c1, _c2]) = Node::running(lab);
        lab.remove_netns(c1);
        let file = node.scene.root.join("results/ovl-c1-eth0");
        let found = node.finds("stale-attachment", &json!({"netns": "c1", "device": "eth0", "file": file}));
        assert_eq!(found["evidence"], json!(["holds 10.9.0.2/24"]));
        node.fix();
        assert_eq!(node.scene.results(), ["ovl-c2-eth0"]);
        assert_eq!(node.scene.netctl("ipam check -o name").ok().stdout, "10.9.0.3\n");
        node.del("ovl", "c2");
    });
}

#[test]
fn an_interface_is_gone() {
    with_fault("an_interface_is_gone", |_, node, [_, c2]| {
        c2.remove_link("eth0");
        let found = node.finds("stale-attachment", &json!({"netns": "c2", "device": "eth0"}));
        // Its runtime has to know of what it gets.
        let said = node.scene.netctl("doctor --fix --yes");
        assert!(
            said.code == Some(1) && said.stderr.contains("left to you: netctl exec del ovl id:c2"),
            "{said:#?}"
        );
        for line in found["fix"].as_str().unwrap().split(" && ") {
            node.scene.netctl(line.strip_prefix("netctl ").unwrap()).ok();
        }
        node.is_healthy();
        assert!(c2.pings("10.9.0.2".parse().unwrap()));
    });
}

#[test]
fn a_port_is_out_of_its_bridge() {
    with_fault("a_port_is_out_of_its_bridge", |lab, node, _| {
        let veth = node.host_link("c1");
        lab.exec(&["ip", "link", "set", &veth, "nomaster"]).ok();
        node.finds("bridge-port-missing", &json!({"netns": "host", "device": veth}));
        node.fix();
        lab.exec(&["ip", "link", "set", &veth, "down"]).ok();
        node.finds("bridge-port-missing", &json!({"device": veth}));
        node.fix();
    });
}

#[test]
fn the_bridge_has_another_address() {
    with_fault("the_bridge_has_another_address", |lab, node, [c1, c2]| {
        lab.exec(&["ip", "addr", "flush", "dev", "cni0"]).ok();
        lab.host().add_address("cni0", "10.8.0.1/24");
        let found = node.finds("bridge-addr-mismatch", &json!({"netns": "host", "device": "cni0"}));
        assert_eq!(found["cause"], "cni0 has 10.8.0.1/24");
        node.fix();
        assert!(c1.pings("10.9.0.1".parse().unwrap()));
        // It is not taken from a container that has it.
        lab.exec(&["ip", "addr", "flush", "dev", "cni0"]).ok();
        c2.exec(&["ip", "addr", "add", "10.9.0.1/24", "dev", "eth0"]).ok();
        let said = node.scene.netctl("doctor --fix --yes");
        assert!(said.stderr.contains("left to you: ip addr add 10.9.0.1/24 dev cni0"), "{said:#?}");
        c2.exec(&["ip", "addr", "del", "10.9.0.1/24", "dev", "eth0"]).ok();
        node.fix();
    });
}

#[test]
fn masquerading_is_flushed_and_repaired() {
    with_fault("masquerading_is_flushed_and_repaired", |lab, node, _| {
        lab.needs_program("nft", "nftables");
        let ruleset = || lab.exec(&["nft", "-s", "list", "ruleset"]).ok();
        let before = ruleset();
        assert!(before.contains("10.9.0.2"), "{before}");
        lab.exec(&["nft", "flush", "ruleset"]).ok();
        let findings = node.findings();
        let codes: Vec<_> = findings.iter().map(|found| found["code"].as_str().unwrap()).collect();
        assert_eq!(codes, ["masq-missing", "masq-missing"], "{findings:#?}");
        let plan = node.items("repair", "RepairPlan");
        assert_eq!((plan.len(), &plan[0]["action"]), (2, &json!("restore")), "{plan:#?}");
        assert_eq!(ruleset(), "");
        node.scene.netctl("repair --yes").ok();
        assert_eq!(sorted(&ruleset()), sorted(&before));
        node.is_healthy();
        assert_eq!(node.items("repair", "RepairPlan").len(), 0);
    });
}

#[test]
fn published_ports_are_flushed_and_repaired() {
    lab::run("published_ports_are_flushed_and_repaired", |lab| {
        lab.needs_program("nft", "nftables");
        let node = Node::new(lab);
        let mut conf = bridged();
        conf["plugins"][0]["ipMasq"] = json!(false);
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        conf["plugins"].as_array_mut().unwrap().push(portmap);
        node.conf(&conf);
        lab.allow("route_localnet");
        let _c1 = lab.netns("c1");
        let ports = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;
        node.scene.netctl_with(&[("CAP_ARGS", ports)], "exec add ovl c1 --container-id c1").ok();
        assert_eq!(node.scene.netctl("doctor").code, Some(0));
        let ruleset = || lab.exec(&["nft", "-s", "list", "ruleset"]).ok();
        let before = ruleset();
        assert!(before.contains("8080"), "{before}");
        lab.exec(&["nft", "flush", "ruleset"]).ok();
        node.finds("portmap-missing", &json!({"netns": "host", "device": "cni0", "rule": "inet tenon"}));
        node.scene.netctl("repair --yes").ok();
        assert_eq!(sorted(&ruleset()), sorted(&before));
        assert_eq!(node.scene.netctl("doctor").code, Some(0));
        node.del("ovl", "c1");
    });
}

/// Sets list their elements in any order.
pub(crate) fn sorted(ruleset: &str) -> Vec<String> {
    let mut words: Vec<_> =
        ruleset.split_whitespace().map(|word| word.trim_matches(',').to_owned()).collect();
    words.sort();
    words
}

#[test]
fn a_bridge_is_too_narrow() {
    with_fault("a_bridge_is_too_narrow", |lab, node, [c1, _]| {
        let veth = node.host_link("c2");
        lab.exec(&["ip", "link", "set", &veth, "mtu", "1400"]).ok();
        node.finds("mtu-blackhole", &json!({"netns": "host", "device": veth}));
        let full = || c1.exec(&["ping", "-c1", "-W1", "-M", "do", "-s", "1472", "10.9.0.3"]).code == Some(0);
        assert!(!full());
        node.fix();
        assert!(full());
    });
}

#[test]
fn a_namespace_leaks() {
    with_fault("a_namespace_leaks", |lab, node, _| {
        let stray = lab.netns("stray");
        lab.host().add_veth("vethx", &stray, "eth0");
        lab.host().set_master("vethx", "cni0");
        lab.host().set_up("vethx");
        stray.set_up("eth0");
        stray.add_address("eth0", "10.9.0.66/24");
        let found = node.finds("netns-leak", &json!({"netns": "stray", "device": "eth0"}));
        assert_eq!(found["evidence"], json!(["has 10.9.0.66/24"]));
        lab.host().remove_link("vethx");
        lab.remove_netns(stray);
    });
}

#[test]
fn configurations_are_broken() {
    with_fault("configurations_are_broken", |_, node, _| {
        let file = node.scene.root.join("net.d/20-broken.conflist");
        fs::write(&file, "{\n \"name\": 1}").unwrap();
        let found = node.finds("config-invalid", &json!({"file": file}));
        assert!(found["message"].as_str().unwrap().contains(":2:10: name: 1 is not a string"), "{found:#}");
        assert_eq!(node.items("config lint", "Findings").len(), 1);
        let mut second = bridged();
        second["name"] = json!("second");
        second["plugins"][0]["ipam"]["ranges"] = json!([[{"subnet": "10.8.0.7/24"}]]);
        fs::write(&file, second.to_string()).unwrap();
        node.finds("config-invalid", &json!({"file": file}));
        second["plugins"][0]["ipam"]["ranges"] = json!([[{"subnet": "10.8.0.0/24"}]]);
        second["plugins"].as_array_mut().unwrap().push(json!({"type": "nosuch"}));
        fs::write(&file, second.to_string()).unwrap();
        let found = node.finds("plugin-missing", &json!({"file": file}));
        assert_eq!(found["message"], "network second needs the plugin nosuch");
        fs::remove_file(file).unwrap();
    });
}

#[test]
fn published_ports_and_the_bridge() {
    lab::run("published_ports_and_the_bridge", |lab| {
        let node = Node::new(lab);
        let mut conf = bridged();
        conf["plugins"][0]["hairpinMode"] = json!(true);
        conf["plugins"][0]["capabilities"] = json!({"portMappings": true});
        node.conf(&conf);
        let _c1 = lab.netns("c1");
        let ports = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;
        node.scene.netctl_with(&[("CAP_ARGS", ports)], "exec add ovl c1 --container-id c1").ok();
        node.is_healthy();
        let ps = node.scene.netctl("ps").ok().stdout;
        assert!(ps.contains("8080→80/tcp"), "{ps}");
        let veth = node.host_link("c1");
        lab.exec(&["bridge", "link", "set", "dev", &veth, "hairpin", "off"]).ok();
        node.finds("hairpin-off", &json!({"netns": "host", "device": veth}));
        node.fix();
        lab.exec(&["sysctl", "-w", "net.bridge.bridge-nf-call-iptables=0"]).ok();
        node.finds("br-netfilter-off", &json!({"netns": "host", "device": "cni0"}));
        node.fix();
        node.del("ovl", "c1");
    });
}

#[test]
fn a_macvlan_and_its_host() {
    lab::run("a_macvlan_and_its_host", |lab| {
        let node = Node::new(lab);
        let (lan, _c1) = (lab.netns("lan"), lab.netns("c1"));
        lab.host().add_veth("up0", &lan, "eth0");
        lab.host().set_up("up0");
        lan.set_up("eth0");
        let conf = json!({"name": "lan", "cniVersion": "1.0.0", "plugins": [{"type": "macvlan", "master": "up0",
            "ipam": {"type": "host-local", "dataDir": "/var/lib/cni/networks", "subnet": "192.0.2.0/24"}}]});
        node.scene.conf("20-lan.conflist", &conf);
        node.add("lan", "c1");
        node.is_healthy();
        lab.host().add_address("up0", "192.0.2.77/24");
        let found = node.finds("macvlan-host-isolation", &json!({"netns": "c1", "device": "eth0"}));
        assert_eq!(found["severity"], "info");
        assert_eq!(node.scene.netctl("doctor").code, Some(0));
        node.del("lan", "c1");
        lab.host().remove_link("up0");
        lab.remove_netns(lan);
    });
}

#[test]
fn codes_are_explained() {
    lab::run("codes_are_explained", |lab| {
        let node = Node::new(lab);
        let said = node.scene.netctl("explain rp-filter").ok().stdout;
        assert!(said.starts_with("rp-filter: ") && said.contains("net.ipv4.conf.all"), "{said}");
        let all = node.scene.netctl("explain -o name").ok().stdout;
        assert_eq!(all.lines().count(), 38, "{all}");
        assert!(node.scene.netctl("explain nosuch").usage().contains("no code \"nosuch\""));
        assert!(node.scene.netctl("doctor --only nosuch").usage().contains("no rule \"nosuch\""));
    });
}

/// Source based routing takes the routes out of the main table, as a VRF does.
#[test]
fn routes_in_a_table_of_their_own_are_no_fault() {
    lab::run("own_table", |lab| {
        let node = Node::new(lab);
        let mut list = bridged();
        list["plugins"].as_array_mut().unwrap().push(json!({"type": "sbr"}));
        node.conf(&list);
        let c1 = lab.netns("c1");
        node.add("ovl", "c1");
        assert_eq!(c1.exec(&["ip", "route", "show", "default"]).ok(), "");
        node.is_healthy();
        node.del("ovl", "c1");
    });
}
