//! `netctl repair` after a flush, and after a rollback to the Go plugins.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};
use testenv::{
    lab::{self, Lab},
    ns::Ns,
};

use crate::{
    doctor::sorted,
    node::{Node, bridged},
};

/// A network with all that chained plugins have in the host's nftables, on a host whose FORWARD drops.
fn guarded() -> Value {
    let mut conf = bridged();
    let chained = [
        json!({"type": "portmap", "capabilities": {"portMappings": true}}),
        json!({"type": "firewall", "ingressPolicy": "same-bridge"}),
        json!({"type": "bandwidth", "egressRate": 1_000_000_000, "egressBurst": 100_000_000}),
    ];
    conf["cniVersion"] = json!("1.0.0");
    conf["plugins"].as_array_mut().expect("a list of plugins").extend(chained);
    conf
}

const PORTS: &str = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;

fn drop_by_default(lab: &Lab) {
    lab.needs_program("iptables-nft", "iptables");
    lab.exec(&["iptables-nft", "-P", "FORWARD", "DROP"]).ok();
}

#[test]
fn what_firewall_shares_is_flushed_and_repaired() {
    lab::run("what_firewall_shares_is_flushed_and_repaired", |lab| {
        lab.needs_program("nft", "nftables");
        drop_by_default(lab);
        let node = Node::new(lab);
        let mut conf = guarded();
        conf["plugins"][2] = json!({"type": "firewall", "internal": true});
        node.conf(&conf);
        lab.allow("route_localnet");
        let _c1 = lab.netns("c1");
        node.scene.netctl_with(&[("CAP_ARGS", PORTS)], "exec add ovl c1 --container-id c1").ok();
        let ruleset = || lab.exec(&["nft", "-s", "list", "ruleset"]).ok();
        let before = ruleset();
        assert!(before.contains("tenon ovl") && before.contains("elements = { \"cni0\" }"), "{before}");
        lab.exec(&["nft", "flush", "ruleset"]).ok();
        // The host's own rules come back with whoever made them.
        drop_by_default(lab);
        let plan = node.items("repair", "RepairPlan");
        assert_eq!(plan.len(), 2, "{plan:#?}");
        assert_eq!((&plan[0]["attachment"], &plan[1]["network"]), (&json!("ovl/c1/eth0"), &json!("ovl")));
        assert_eq!(plan[1]["missing"].as_array().unwrap().len(), 4, "{plan:#?}");
        let findings = node.findings();
        assert!(findings.iter().any(|found| found["message"].as_str().unwrap().contains("network ovl")));
        node.scene.netctl("repair --yes").ok();
        assert_eq!(sorted(&ruleset()), sorted(&before));
        assert_eq!(node.items("repair", "RepairPlan").len(), 0);
        node.del("ovl", "c1");
        lab.allow("nft table ip filter");
    });
}

/// Our ADD, a rollback, the Go plugins' DEL.
#[test]
fn what_the_go_plugins_del_leaves_is_removed() {
    lab::run("what_the_go_plugins_del_leaves_is_removed", |lab| {
        let go = Path::new("/usr/lib/cni");
        for plugin in ["bridge", "host-local", "portmap", "firewall", "bandwidth"] {
            if !go.join(plugin).is_file() {
                lab.skip(&format!("needs the Go plugin {plugin}"));
            }
        }
        drop_by_default(lab);
        let node = Node::new(lab);
        node.conf(&guarded());
        lab.allow("route_localnet");
        let containers = ["c1", "c2"].map(|name| lab.netns(name));
        node.scene.netctl_with(&[("CAP_ARGS", PORTS)], "exec add ovl c1 --container-id c1").ok();
        node.add("ovl", "c2");
        let rolled_back = [("CNI_PATH", "/usr/lib/cni")];
        // Debian's Go bridge fails where the masquerade that it is to remove is not there.
        let mut conf = guarded();
        conf["plugins"][0]["ipMasq"] = json!(false);
        node.conf(&conf);
        let of_c1 = |lab: &Lab| {
            let lines = lab.host().snapshot().lines.into_iter();
            lines.filter(|line| line.contains("ovl/c1/") || line.starts_with("link bwp")).count()
        };
        assert!(of_c1(lab) > 2);
        for (index, name) in ["c1", "c2"].iter().enumerate() {
            let del = format!("exec del ovl {name} --container-id {name}");
            node.scene.netctl_with(&rolled_back, &del).ok();
            let key = format!("ovl/{name}/eth0");
            let findings = node.findings();
            assert!(findings.iter().any(|found| found["message"].as_str().unwrap().contains(&key)));
            let plan = node.items("repair", "RepairPlan");
            assert!(plan.iter().all(|row| row["action"] == "remove" && row["attachment"] == key.as_str()));
            assert_eq!(plan.len(), 1, "{plan:#?}");
            let rows = |line: &str| {
                let rows = node.items(line, "Released").into_iter();
                rows.map(|row| json!([row["network"], row["container"], row["ifname"], row["state"]]))
                    .collect::<Vec<_>>()
            };
            assert_eq!(rows("ipam gc"), [json!(["ovl", name, "eth0", "would-remove"])]);
            // The one or the other.
            if index == 0 {
                node.scene.netctl("repair --yes").ok();
            } else {
                assert_eq!(rows("ipam gc ovl --yes"), [json!(["ovl", name, "eth0", "removed"])]);
            }
            assert_eq!(node.items("repair", "RepairPlan").len(), 0);
            assert_eq!(rows("ipam gc"), [Value::Null; 0]);
            assert_eq!(of_c1(lab), 1 - index, "of c1 nothing, of c2 its own");
        }
        assert!(containers.iter().all(|ns| !ns.has_link("eth0")));
        let records = fs::read_dir("/run/tenon/attach").unwrap().count();
        assert_eq!(records, 0);
        // What the Go firewall made when it looked for its chains.
        for table in ["nft table ip filter", "nft table ip6 filter", "nft table ip nat", "nft table ip6 nat"]
        {
            lab.allow(table);
        }
    });
}

/// Every file of the attachment records, with what is in it.
fn records() -> BTreeMap<String, Value> {
    fn files(dir: &Path, all: &mut BTreeMap<String, Value>) {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files(&path, all);
            } else {
                let text = fs::read_to_string(&path).expect("read a record");
                all.insert(path.display().to_string(), serde_json::from_str(&text).expect("JSON"));
            }
        }
    }
    let mut all = BTreeMap::new();
    files(Path::new("/run/tenon/attach"), &mut all);
    all
}

/// Published ports and masquerade, of a container on a bridge and of one behind a veth alone.
fn works(outside: &Ns, containers: &[Ns]) -> bool {
    let echo = outside.tcp_echo(([198, 51, 100, 254], 9000).into());
    containers.iter().zip([8080, 8081]).all(|(container, port)| {
        outside.tcp_talk(([198, 51, 100, 1], port).into(), "in").is_ok()
            && container.tcp_talk(echo.address(), "out").is_ok()
    })
}

/// Ports for `c1` on the bridge, `c2` behind a veth alone; `c3` is on a macvlan that the host reaches.
fn add_all(node: &Node) {
    node.conf(&guarded());
    let ipam = |subnet: &str| json!({"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]});
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let routed = json!({"name": "routed", "cniVersion": "1.0.0", "plugins": [
        {"type": "ptp", "ipMasq": true, "ipam": ipam("10.8.0.0/24")}, portmap,
    ]});
    node.scene.conf("20-routed.conflist", &routed);
    let lan = json!({"name": "lan", "cniVersion": "1.0.0", "plugins": [
        {"type": "macvlan", "hostAccess": true, "master": "up0", "ipam": ipam("198.51.100.0/25")},
        {"type": "firewall"},
    ]});
    node.scene.conf("30-lan.conflist", &lan);
    let ports = [("CAP_ARGS", PORTS)];
    node.scene.netctl_with(&ports, "exec add ovl c1 --container-id c1").ok();
    let ports = PORTS.replace("8080", "8081");
    node.scene.netctl_with(&[("CAP_ARGS", &ports)], "exec add routed c2 --container-id c2").ok();
    node.add("lan", "c3");
}

/// The rules and the records, both of them.
#[test]
fn what_is_lost_comes_back_from_the_result_cache() {
    lab::run("what_is_lost_comes_back_from_the_result_cache", |lab| {
        lab.needs_program("nft", "nftables");
        let outside = lab.outside("up0");
        lab.rebase();
        drop_by_default(lab);
        let node = Node::new(lab);
        for allowed in ["route_localnet", "nft table ip filter", "nft table ip6 filter"] {
            lab.allow(allowed);
        }
        let containers = ["c1", "c2", "c3"].map(|name| lab.netns(name));
        let servers = containers.each_ref().map(|ns| ns.tcp_echo("0.0.0.0:80".parse().unwrap()));
        add_all(&node);
        // Of routed, which has no firewall, nothing is let through but by this.
        let let_through = || {
            drop_by_default(lab);
            lab.exec(&["iptables-nft", "-A", "FORWARD", "-s", "10.8.0.0/24", "-j", "ACCEPT"]).ok();
            lab.exec(&["iptables-nft", "-A", "FORWARD", "-d", "10.8.0.0/24", "-j", "ACCEPT"]).ok();
        };
        let_through();
        assert!(works(&outside, &containers[..2]));
        let (rules, written) = (lab.exec(&["nft", "-s", "list", "ruleset"]).ok(), records());
        assert_eq!(written.len(), 8, "{written:#?}");

        lab.exec(&["nft", "flush", "ruleset"]).ok();
        fs::remove_dir_all("/run/tenon").unwrap();
        let_through();
        assert!(!works(&outside, &containers[..2]));
        let findings = node.findings();
        for code in ["masq-missing", "portmap-missing"] {
            let found = findings.iter().filter(|found| found["code"] == code);
            let fixes: Vec<_> = found.map(|found| &found["fix"]).collect();
            assert!(
                fixes.len() >= 2 && fixes.iter().all(|fix| *fix == "netctl repair --yes"),
                "{findings:#?}"
            );
        }
        node.scene.netctl("repair --yes").ok();
        assert_eq!(records(), written);
        assert_eq!(sorted(&lab.exec(&["nft", "-s", "list", "ruleset"]).ok()), sorted(&rules));
        assert!(works(&outside, &containers[..2]));
        assert_eq!(node.items("repair", "RepairPlan").len(), 0);

        // The records alone, then DEL by them.
        fs::remove_dir_all("/run/tenon/attach").unwrap();
        assert_eq!(node.items("repair", "RepairPlan").len(), 3);
        node.scene.netctl("repair --yes").ok();
        assert_eq!(records(), written);
        for (network, container) in [("ovl", "c1"), ("routed", "c2"), ("lan", "c3")] {
            node.scene.netctl(&format!("exec check {network} {container} --container-id {container}")).ok();
            node.del(network, container);
        }
        drop(servers);
        assert_eq!(records(), BTreeMap::new());
        lab.exec(&["iptables-nft", "-F", "FORWARD"]).ok();
        let rules = lab.exec(&["nft", "list", "ruleset"]).ok();
        assert!(!rules.contains("elements =") && !rules.contains("tenon ovl"), "{rules}");
    });
}
