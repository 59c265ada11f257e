//! The verbs that show: what they say of containers that our plugins attached.

use std::fs;

use serde_json::json;
use testenv::lab;

use crate::node::{Node, bridged};

#[test]
fn ps_joins_container_address_and_veth() {
    lab::run("ps_joins_container_address_and_veth", |lab| {
        let (node, [c1, _c2]) = Node::running(lab);
        let items = node.items("ps --node n1", "Attachments");
        assert_eq!(items.len(), 2, "{items:#?}");
        let first = &items[0];
        let expected = json!(["n1", "c1", "ovl", "eth0", ["10.9.0.2/24"], "cni0", "ok", 1500]);
        let keys = ["node", "container", "network", "ifname", "ips", "bridge", "state", "mtu"];
        assert_eq!(json!(keys.map(|key| first[key].clone())), expected, "{first:#}");
        let veth = first["hostInterface"].as_str().unwrap();
        assert!(lab.host().has_link(veth), "{first:#}");
        let mac = first["mac"].as_str().unwrap();
        assert!(c1.exec(&["ip", "link", "show", "eth0"]).ok().contains(mac));

        let table = node.scene.netctl("ps --node n1").ok().stdout;
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("NODE  CONTAINER  NETWORK  IF    IP "), "{table}");
        assert!(lines[1].starts_with("n1    c1         ovl      eth0  10.9.0.2/24  "), "{table}");
        assert!(lines[1].ends_with("cni0    -      ok"), "{table}");
        assert_eq!(node.scene.netctl("ps -o name").ok().stdout, "ovl/c1/eth0\novl/c2/eth0\n");
        assert_eq!(node.items("ps other", "Attachments").len(), 0);
        node.leave();
    });
}

#[test]
fn ps_tells_what_is_not_as_it_was_made() {
    lab::run("ps_tells_what_is_not_as_it_was_made", |lab| {
        let (node, [c1, c2]) = Node::running(lab);
        let state = |container: &str| {
            let items = node.items("ps", "Attachments");
            let item = items.iter().find(|item| item["container"] == container);
            item.map(|item| item["state"].as_str().unwrap().to_owned())
        };
        c1.exec(&["ip", "addr", "flush", "dev", "eth0"]).ok();
        assert_eq!(state("c1").as_deref(), Some("no-address"));
        c1.set_down("eth0");
        assert_eq!(state("c1").as_deref(), Some("down"));
        c1.remove_link("eth0");
        assert_eq!(state("c1").as_deref(), Some("no-interface"));
        let path = c2.path().to_owned();
        lab.remove_netns(c2);
        assert!(!path.exists());
        assert_eq!(state("c2").as_deref(), Some("netns-gone"));
        node.leave();
    });
}

#[test]
fn a_port_without_an_attachment_is_an_orphan() {
    lab::run("a_port_without_an_attachment_is_an_orphan", |lab| {
        let (node, _containers) = Node::running(lab);
        let stray = lab.netns("stray");
        lab.host().add_veth("vethx", &stray, "eth0");
        lab.host().set_master("vethx", "cni0");
        lab.host().set_up("vethx");
        stray.set_up("eth0");
        stray.add_address("eth0", "10.9.0.66/24");
        let items = node.items("ps", "Attachments");
        let orphan = items.last().unwrap();
        assert_eq!((items.len(), &orphan["state"]), (3, &json!("orphan")), "{items:#?}");
        assert_eq!(orphan["ips"], json!(["10.9.0.66/24"]));
        assert_eq!((&orphan["hostInterface"], &orphan["container"]), (&json!("vethx"), &json!(null)));
        lab.host().remove_link("vethx");
        lab.remove_netns(stray);
        node.leave();
    });
}

#[test]
fn networks_are_listed_and_inspected() {
    lab::run("networks_are_listed_and_inspected", |lab| {
        let (node, _containers) = Node::running(lab);
        let item = &node.items("network ls", "Networks")[0];
        let expected = json!(["ovl", "bridge", ["10.9.0.0/24"], ["10.9.0.1"], 1500, "cni0", 2]);
        let keys = ["name", "driver", "subnets", "gateways", "mtu", "bridge", "attached"];
        assert_eq!(json!(keys.map(|key| item[key].clone())), expected, "{item:#}");
        assert_eq!(item["ipam"], json!({"type": "host-local", "leased": 2, "capacity": 253}));
        let table = node.scene.netctl("network ls").ok().stdout;
        assert!(
            table.contains("ovl   bridge  10.9.0.0/24  10.9.0.1  1500  2         2/253  cni0"),
            "{table}"
        );

        let item = &node.items("network inspect ovl", "Network")[0];
        assert_eq!(item["device"]["ips"], json!(["10.9.0.1/24"]), "{item:#}");
        assert_eq!(item["attachments"].as_array().unwrap().len(), 2);
        assert_eq!(item["config"]["name"], "ovl");
        assert!(
            node.scene.netctl("network inspect none").usage().contains("no network \"none\"; there are: ovl")
        );
        // A file that is not understood does not hide the others.
        fs::write(node.scene.root.join("net.d/00-broken.conflist"), "{").unwrap();
        assert_eq!(node.scene.netctl("network ls -o name").ok().stdout, "ovl\n");
        node.leave();
    });
}

#[test]
fn a_container_is_inspected_by_any_name() {
    lab::run("a_container_is_inspected_by_any_name", |lab| {
        let (node, _containers) = Node::running(lab);
        let veth = node.items("ps", "Attachments")[0]["hostInterface"].as_str().unwrap().to_owned();
        for selector in ["c1", "ovl/c1", "10.9.0.2", "netns:c1", "id:c1", &veth] {
            let items = node.items(&format!("inspect {selector}"), "Attachment");
            assert_eq!((items.len(), &items[0]["container"]), (1, &json!("c1")), "{selector}: {items:#?}");
        }
        let item = &node.items("inspect c1", "Attachment")[0];
        let default = json!({"dst": "0.0.0.0/0", "gateway": "10.9.0.1", "device": "eth0"});
        assert!(item["routes"].as_array().unwrap().contains(&default), "{item:#}");
        assert_eq!(item["hostLink"]["name"], veth.as_str());
        assert_eq!(item["record"], json!({"plugin": "bridge", "missingRules": []}));
        assert!(node.scene.netctl("inspect c").usage().contains("several containers: c1, c2"));
        assert!(node.scene.netctl("inspect zzz").usage().contains("no container \"zzz\""));
        node.leave();
    });
}

#[test]
fn tables_have_names_in_them() {
    lab::run("tables_have_names_in_them", |lab| {
        let (node, [c1, _c2]) = Node::running(lab);
        c1.exec(&["ping", "-c1", "-W5", "10.9.0.3"]).ok();
        let neigh = node.items("neigh", "Neighbours");
        let found = neigh.iter().find(|it| it["netns"] == "c1" && it["address"] == "10.9.0.3");
        assert_eq!(found.expect("c2's address")["container"], "c2", "{neigh:#?}");
        let fdb = node.items("fdb", "ForwardingEntries");
        let learned = fdb.iter().find(|it| it["container"] == "c1").expect("c1's address");
        assert_eq!((&learned["bridge"], &learned["state"]), (&json!("cni0"), &json!("learned")), "{fdb:#?}");
        c1.exec(&["ping", "-c1", "-W5", "10.9.0.1"]).ok();
        let flows = node.items("flows", "Flows");
        let seen = |it: &&serde_json::Value| it["original"]["destination"] == "10.9.0.1";
        let flow = flows.iter().find(seen).expect("the echo");
        assert_eq!((&flow["protocol"], &flow["container"]), (&json!("icmp"), &json!("c1")), "{flows:#?}");

        let status = node.scene.netctl("status --node n1").ok().stdout;
        assert!(status.contains("2 of 2 attachments live, 2 of 253 addresses"), "{status}");
        assert!(status.contains("0 errors, 0 warnings"), "{status}");
        node.leave();
    });
}

#[test]
fn containers_have_names_in_traces_and_peers_list_their_own() {
    lab::run("containers_have_names_in_traces", |lab| {
        let (node, _containers) = Node::running(lab);
        let veth = node.items("ps", "Attachments")[1]["hostInterface"].as_str().unwrap().to_owned();
        for (from, to) in [("c1", "ovl/c2"), ("id:c1", &veth), ("netns:c1", "10.9.0.3")] {
            let said = node.scene.netctl(&format!("trace {from} {to} --count 1 -o json"));
            let trace = said.json();
            assert_eq!(trace["verdict"], "delivered", "{from} {to}: {said:#?}");
            assert_eq!(trace["hops"][0]["netns"], "c1", "{trace:#}");
        }
        assert!(node.scene.netctl("trace c c1").stderr.contains("means several containers: c1, c2"));

        // Another node on the same kernel, with state of its own.
        let (n2, _far) = (lab.netns("n2"), lab.netns("far"));
        let root = lab.dir().join("n2");
        fs::create_dir_all(root.join("net.d")).unwrap();
        let mut conf = bridged();
        conf["name"] = json!("there");
        conf["plugins"][0]["ipMasq"] = json!(false);
        conf["plugins"][0]["ipam"]["ranges"] = json!([[{"subnet": "10.8.0.0/24"}]]);
        fs::write(root.join("net.d/10.conflist"), conf.to_string()).unwrap();
        let path = std::env::join_paths(&node.scene.path).unwrap().into_string().unwrap();
        let netctl =
            format!("env CNI_PATH={path} {} --root {}", env!("CARGO_BIN_EXE_netctl"), root.display());
        let there = |line: &str| {
            n2.exec(&format!("{netctl} {line}").split(' ').collect::<Vec<_>>()).ok();
        };
        there("exec add there far --container-id far");
        let peer = format!("n2=ip netns exec n2 {netctl} agent --stdio");
        let said = node.scene.netctl_words(&["ps", "-o", "json", "--node", "n1", "--peer", &peer]);
        let items = said.json()["items"].as_array().unwrap().clone();
        let seen: Vec<_> = items.iter().map(|it| (it["node"].clone(), it["container"].clone())).collect();
        assert_eq!(
            seen,
            [("n1", "c1"), ("n1", "c2"), ("n2", "far")].map(|(a, b)| (json!(a), json!(b))),
            "{said:#?}"
        );
        n2.set_sysctl("net.ipv4.ip_forward", "0");
        let said = node.scene.netctl_words(&["doctor", "-o", "json", "--node", "n1", "--peer", &peer]);
        let found = said.json()["items"].clone();
        assert_eq!(
            (&found[0]["code"], &found[0]["where"]["node"]),
            (&json!("ip-forward-off"), &json!("n2")),
            "{said:#?}"
        );
        assert_eq!(found.as_array().unwrap().len(), 1);
        let said = node.scene.netctl_words(&["doctor", "--peer", "n3=false"]);
        assert!(said.code == Some(4) && said.stderr.contains("n3"), "{said:#?}");
        there("exec del there far --container-id far");
        node.leave();
    });
}
