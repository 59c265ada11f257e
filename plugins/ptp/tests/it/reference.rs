//! What the reference's ptp gets wrong, each once. Others of its mistakes are where the matter is tested: masquerading that
//! DEL leaves.

use std::fs;

use serde_json::{Value, json};

use crate::{network, ptp, with_result};
use testenv::lab;

/// It waits for two seconds until IPv6 addresses have been probed for.
#[test]
fn no_address_is_waited_for() {
    lab::run("ptp_no_wait", |lab| {
        let c1 = lab.netns("c1");
        let call = ptp(lab, &network(json!({}))).netns(&c1);
        call.add().ok();
        let said = c1.exec(&["ip", "-j", "address", "show", "dev", "eth0", "scope", "global"]).ok();
        assert!(said.contains("fd00:1::2") && !said.contains("tentative"), "{said}");
        assert!(c1.pings("fd00:1::1".parse().unwrap()));
        call.del().ok();
    });
}

/// It leaves the pair when a later step fails, and the lease when what it was given is of no use.
#[test]
fn an_add_that_fails_leaves_nothing() {
    lab::run("ptp_failed", |lab| {
        let c1 = lab.netns("c1");
        let mut config = network(json!({"ipMasq": true}));
        config["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}]);
        ptp(lab, &config).netns(&c1).add().err(999);
        assert_eq!(c1.links().len(), 1);

        let dir = lab.plugin_dir(&["ptp"], &[]);
        let calls = lab.empty_plugin(&dir);
        let config = network(json!({"ipam": {"type": "empty"}}));
        lab.peer(&dir, "ptp").config(&config).netns(&c1).add().err(7);
        assert_eq!(fs::read_to_string(calls).unwrap(), "ADD\nDEL\n");
    });
}

/// Its chain is named after network and container alone: what one interface leaves, the other loses.
#[test]
fn two_interfaces_of_a_container_are_masqueraded_each_for_itself() {
    lab::run("ptp_two", |lab| {
        let outside = lab.outside("up0");
        lab.rebase();
        let mut config = network(json!({"ipMasq": true}));
        config["ipam"]["routes"] = json!([]);
        let c1 = lab.netns("c1");
        let call = |ifname: &str| ptp(lab, &config).netns(&c1).ifname(ifname);
        call("eth0").add().ok();
        call("eth1").add().ok();
        call("eth1").del().ok();
        c1.exec(&["ip", "route", "replace", "198.51.100.0/24", "via", "10.1.0.1"]).ok();
        let echo = outside.tcp_echo("198.51.100.254:8080".parse().unwrap());
        c1.tcp_talk(echo.address(), "hello").unwrap();
        assert_eq!(echo.seen()[0].ip().to_string(), "198.51.100.1");
        call("eth0").del().ok();
    });
}

/// Its CHECK is content with any default route, MTU and MSS of routes are left out, and GC does nothing.
#[test]
fn routes_are_as_the_result_says_and_gc_removes() {
    lab::run("ptp_routes", |lab| {
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let mut config = network(json!({"ipMasq": true}));
        config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0", "mtu": 1300, "advmss": 1200}]);
        let one = ptp(lab, &config).netns(&c1).container("one");
        let two = ptp(lab, &config).netns(&c2).container("two");
        let checked = one.clone().config(&with_result(config.clone(), &one.add().ok()));
        two.add().ok();
        checked.check().ok();
        let route = c1.exec(&["ip", "route", "show", "default"]).ok();
        assert!(route.contains("mtu 1300") && route.contains("advmss 1200"), "{route}");
        c1.exec(&["ip", "route", "replace", "default", "via", "10.1.0.9", "dev", "eth0", "onlink"]).ok();
        let error = checked.check().err(999);
        assert_eq!(error["msg"], "ptp: the route to 0.0.0.0/0 via 10.1.0.1 in table 254 is gone");

        config["cni.dev/valid-attachments"] = json!([{"containerID": "two", "ifname": "eth0"}]);
        ptp(lab, &config).gc().ok();
        assert!(!c1.has_link("eth0") && c2.has_link("eth0"));
        config["cni.dev/valid-attachments"] = Value::Null;
        ptp(lab, &config).gc().ok();
        assert!(!c2.has_link("eth0"));
    });
}
