//! `netctl repair` after a flush, and after a rollback to the Go plugins.

use std::fs;

use serde_json::{Value, json};
use testenv::lab::{self, Lab};

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
        let go = std::path::Path::new("/usr/lib/cni");
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
            node.scene.netctl("repair --yes").ok();
            assert_eq!(node.items("repair", "RepairPlan").len(), 0);
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
