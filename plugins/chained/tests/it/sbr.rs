//! `sbr`: routes by the sender.

use serde_json::{Value, json};
use testenv::ns::Ns;

use crate::net::{attach, message, net, run, with};

fn sbr(more: Value) -> Value {
    with(json!({"type": "sbr"}), more)
}

fn ip(ns: &Ns, words: &str) -> String {
    let text = ns.exec(&[&["ip"], words.split(' ').collect::<Vec<_>>().as_slice()].concat());
    let lines = text.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn each_address_has_a_table() {
    run("sbr_tables", |lab| {
        let container = attach(lab, &net(&[sbr(json!({}))]), "c1");
        container.check(lab);
        let ns = &container.ns;
        assert!(ip(ns, "rule").contains("from 10.1.0.2 lookup 100"), "{}", ip(ns, "rule"));
        assert!(ip(ns, "-6 rule").contains("from fd00:1::2 lookup 101"), "{}", ip(ns, "-6 rule"));
        let v4 = ip(ns, "route show table 100");
        assert!(v4.contains("default via 10.1.0.1 dev eth0") && v4.contains("10.1.0.0/16 dev eth0"), "{v4}");
        let v6 = ip(ns, "-6 route show table 101");
        assert!(v6.contains("default via fd00:1::1 dev eth0") && v6.contains("fd00:1::/64 dev eth0"), "{v6}");
        assert_eq!(ip(ns, "route show table main"), "");
        assert!(!ip(ns, "-6 route show table main").contains("fd00:1::"));
        assert!(ns.exec(&["ping", "-c1", "-W2", "-I", "10.1.0.2", "10.1.0.1"]).succeeded());
        assert!(ns.exec(&["ping", "-c1", "-W2", "-I", "fd00:1::2", "fd00:1::1"]).succeeded());
        ns.exec(&["ip", "route", "del", "default", "table", "100"]).ok();
        let error = container.call(lab, 1).check().err(999);
        assert_eq!(message(&error), "sbr: the default route via 10.1.0.1 in table 100 is gone");
        for _ in 0..2 {
            container.call(lab, 1).del().ok();
            assert!(!ip(ns, "rule").contains("lookup 100") && !ip(ns, "-6 rule").contains("lookup 101"));
            assert_eq!(ip(ns, "route show table 100"), "");
        }
        container.detach(lab);
    });
}

#[test]
fn a_table_of_somebody_else_only_gets_rules() {
    run("sbr_table", |lab| {
        let container = attach(lab, &net(&[sbr(json!({"table": 3000}))]), "c1");
        container.check(lab);
        assert!(ip(&container.ns, "rule").contains("from 10.1.0.2 lookup 3000"));
        assert!(ip(&container.ns, "route show table main").contains("default via 10.1.0.1"));
        container.detach(lab);
    });
}

#[test]
fn gateways_and_hints() {
    run("sbr_gateways", |lab| {
        let plugin = sbr(json!({"gateways": ["10.1.0.9", "fd00:1::9"], "addSourceHints": true}));
        let container = attach(lab, &net(&[plugin]), "c1");
        container.check(lab);
        let ns = &container.ns;
        assert!(ip(ns, "route show table 100").contains("default via 10.1.0.9 dev eth0"));
        assert!(ip(ns, "-6 route show table 101").contains("default via fd00:1::9 dev eth0"));
        let main = ip(ns, "route show table main");
        assert!(
            main.contains("10.1.0.0/16 dev eth0")
                && main.contains("src 10.1.0.2")
                && !main.contains("default"),
            "{main}"
        );
        let main = ip(ns, "-6 route show table main");
        assert!(main.contains("fd00:1::/64 dev eth0 src fd00:1::2") && !main.contains("default"), "{main}");
        container.detach(lab);
    });
}

#[test]
fn two_interfaces_have_different_tables() {
    run("sbr_two", |lab| {
        let first = attach(lab, &net(&[sbr(json!({}))]), "c1");
        let bridge = json!({"cniVersion": "1.1.0", "name": "other", "type": "bridge", "bridge": "cni1", "isDefaultGateway": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.2.0.0/16"}]]}});
        let call = |kind: &str, config: &Value| {
            lab.plugin(kind).config(config).container("c1").netns(&first.ns).ifname("eth1")
        };
        let result = call("bridge", &bridge).add().ok();
        let config =
            with(sbr(json!({})), json!({"cniVersion": "1.1.0", "name": "other", "prevResult": result}));
        call("sbr", &config).add().ok();
        call("sbr", &config).check().ok();
        first.check(lab);
        assert!(ip(&first.ns, "rule").contains("from 10.2.0.2 lookup 102"));
        for (from, to) in [("10.1.0.2", "10.1.0.1"), ("10.2.0.2", "10.2.0.1")] {
            assert!(first.ns.exec(&["ping", "-c1", "-W2", "-I", from, to]).succeeded(), "{from}");
        }
        call("sbr", &config).del().ok();
        call("bridge", &bridge).del().ok();
        first.check(lab);
        first.detach(lab);
    });
}

/// Bug of the reference: DEL makes a file of the namespace's name where that is gone, and fails.
#[test]
fn bug_del_without_a_namespace() {
    run("sbr_gone", |lab| {
        let container = attach(lab, &net(&[sbr(json!({}))]), "c1");
        let call = container.call(lab, 1);
        container.call(lab, 1).netns_path("/run/netns/gone").del().ok();
        assert!(!std::path::Path::new("/run/netns/gone").exists());
        call.netns_path("").del().ok();
        container.detach(lab);
    });
}

#[test]
fn what_can_t_be() {
    run("sbr_config", |lab| {
        let ns = lab.netns("c1");
        let result = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}]});
        for (more, expected) in [
            (json!({"gateways": ["x"]}), "gateways[0]: \"x\": is not an IP address"),
            (
                json!({"gateways": ["10.0.0.1", "fd00::1", "10.0.0.2"]}),
                "gateways[2]: \"10.0.0.2\": is a second one of its IP version",
            ),
            (json!({"table": 0}), "table: 0: is no table"),
            (json!({}), "prevResult.ips: []: has no address of eth0"),
        ] {
            let config = with(sbr(more), json!({"cniVersion": "1.1.0", "name": "net", "prevResult": result}));
            let error = lab.plugin("sbr").config(&config).netns(&ns).add().err(7);
            assert_eq!(message(&error), format!("sbr: {expected}"));
        }
    });
}
