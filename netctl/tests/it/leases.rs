//! Addresses that run out and leak: what the doctor finds and `ipam` gives back.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use serde_json::json;
use testenv::lab;

use crate::{
    doctor::with_fault,
    node::{Node, bridged},
};

#[test]
fn addresses_run_out() {
    lab::run("addresses_run_out", |lab| {
        let node = Node::new(lab);
        let mut conf = bridged();
        conf["plugins"][0]["ipam"]["ranges"] =
            json!([[{"subnet": "10.9.0.0/24", "rangeStart": "10.9.0.1", "rangeEnd": "10.9.0.3"}]]);
        node.conf(&conf);
        let _containers = ["c1", "c2"].map(|name| lab.netns(name));
        node.add("ovl", "c1");
        node.is_healthy();
        node.add("ovl", "c2");
        let file = node.scene.root.join("net.d/10-ovl.conflist");
        let found = node.finds("ipam-exhausted", &json!({"file": file}));
        assert_eq!(found["cause"], "2 of 2 are leased");
        // What is held for nobody is not exhausted.
        node.del("ovl", "c2");
        let lease = "/var/lib/cni/networks/ovl/10.9.0.3";
        lab.write(lease, "deadbeef\r\neth0");
        age(lease);
        node.finds("ipam-leak", &json!({"file": lease}));
        node.fix();
        node.add("ovl", "c2");
        node.leave();
    });
}

/// As if it were older than any ADD that is under way.
fn age(lease: &str) {
    let file = fs::File::options().write(true).open(lease).expect("a lease");
    let minute = Duration::from_secs(61);
    file.set_modified(SystemTime::now() - minute).expect("set its age");
}

#[test]
fn an_address_leaks() {
    with_fault("an_address_leaks", |lab, node, _| {
        let lease = "/var/lib/cni/networks/ovl/10.9.0.50";
        lab.write(lease, "deadbeef\r\neth0");
        // It may be of an ADD that is under way.
        node.is_healthy();
        age(lease);
        let found = node.finds("ipam-leak", &json!({"file": lease}));
        assert_eq!(found["fix"], "netctl ipam release ovl 10.9.0.50 --yes");
        let said = node.scene.netctl("ipam check ovl");
        assert_eq!(said.code, Some(1), "{said:#?}");
        assert!(said.stdout.contains("ovl      10.9.0.50  deadbeef   eth0  leaked"), "{said:#?}");
        let range = &node.items("ipam show", "Ranges")[0];
        assert_eq!((&range["used"], &range["live"], &range["leaked"]), (&json!(3), &json!(2), &json!(1)));
        let said = node.scene.netctl("ipam gc ovl").ok();
        assert!(said.stdout.contains("would-release") && fs::exists(lease).unwrap(), "{said:#?}");
        let said = node.scene.netctl("ipam gc ovl --yes").ok();
        assert!(said.stdout.contains("released") && !fs::exists(lease).unwrap(), "{said:#?}");
        assert_eq!(node.scene.netctl("ipam check -o name").ok().stdout, "10.9.0.2\n10.9.0.3\n");
        lab.write(lease, "deadbeef\r\neth0");
        assert_eq!(node.scene.netctl("ipam gc ovl --yes -o name").ok().stdout, "");
        age(lease);
        node.fix();
        assert!(!fs::exists(lease).unwrap());
    });
}

#[test]
fn only_what_a_report_names_and_still_leaks_is_given_back() {
    with_fault("only_what_a_report_names", |lab, node, _| {
        let lease = |host: u8| format!("/var/lib/cni/networks/ovl/10.9.0.{host}");
        let leak = |host: u8, owner: &str| {
            lab.write(lease(host), owner);
            age(&lease(host));
        };
        let is_there = |host: u8| fs::exists(lease(host)).unwrap();
        (50..=53).for_each(|host| leak(host, "deadbeef\r\neth0"));
        let (check, report) = (lab.dir().join("check.json"), lab.dir().join("report.json"));
        let said = node.scene.netctl("ipam check --node n1 -o json");
        fs::write(&check, said.stdout).unwrap();
        fs::write(&report, node.scene.netctl("report --node n1").ok().stdout).unwrap();
        // One that came later, one that somebody else has got since, one whose holder came back.
        leak(54, "deadbeef\r\neth0");
        leak(51, "cafe\r\neth0");
        leak(52, "c1\r\neth0");
        let gc = |file: &std::path::Path, node_and_more: &str| {
            node.scene.netctl(&format!("ipam gc --from-report {} --node {node_and_more}", file.display()))
        };
        // Of another node, and only a plan.
        assert_eq!(gc(&check, "n2 --yes -o name").ok().stdout, "");
        let said = gc(&check, "n1").ok();
        assert!(said.stdout.matches("would-release").count() == 2 && is_there(50), "{said:#?}");
        for host in [51, 52] {
            let why = format!("10.9.0.{host} of ovl is no leak any more");
            assert!(said.stderr.contains(&why), "{said:#?}");
        }
        assert_eq!(gc(&check, "n1 --yes -o name").ok().stdout, "10.9.0.50\n10.9.0.53\n");
        assert_eq!((50..=54).map(is_there).collect::<Vec<_>>(), [false, true, true, false, true]);
        leak(53, "deadbeef\r\neth0");
        assert_eq!(gc(&report, "n1 ovl --yes -o name").ok().stdout, "10.9.0.53\n");
        assert!(gc(&node.scene.root.join("net.d/10-ovl.conflist"), "n1").usage().contains("is not what"));
        for host in [51, 52, 54] {
            fs::remove_file(lease(host)).unwrap();
        }
    });
}
