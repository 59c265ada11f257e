//! GC and STATUS.

use serde_json::{Value, json};

use crate::net::{attach, dual_stack, elements, everything, layer2, leases, message, other_network, run};

fn with_valid(mut config: Value, key: &str, valid: Value) -> Value {
    config[key] = valid;
    config
}

#[test]
fn gc_keeps_the_valid_and_other_networks() {
    run("gc", |lab| {
        let config = everything();
        let [keep, drop] = ["keep", "drop"].map(|name| attach(lab, &config, name));
        let other = attach(lab, &other_network(json!({"ipMasq": true})), "drop2");
        // The same container on the same network under another name goes too.
        let second = keep.call.clone().ifname("eth1").config(&dual_stack(json!({"isDefaultGateway": false})));
        second.add().ok();
        let valid = json!([{"containerID": "keep", "ifname": "eth0"}]);
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            lab.plugin("bridge").config(&with_valid(config.clone(), key, valid.clone())).gc().ok();
            keep.check().ok();
            other.check().ok();
            assert_eq!(keep.ns.links(), ["eth0", "lo"].map(String::from).into());
            assert!(!drop.ns.has_link("eth0"));
            assert_eq!(leases("net").len(), 2);
        }
        keep.detach();
        other.detach();
    });
}

#[test]
fn gc_takes_null_for_an_empty_list() {
    run("gc_null", |lab| {
        for list in [json!(null), json!([])] {
            let one = attach(lab, &everything(), "one");
            let config = with_valid(everything(), "cni.dev/valid-attachments", list);
            lab.plugin("bridge").config(&config).gc().ok();
            assert!(leases("net").is_empty() && elements(lab).is_empty() && !one.ns.has_link("eth0"));
            lab.remove_netns(one.ns);
        }
    });
}

/// No list is not an empty list.
#[test]
fn gc_without_a_list_does_nothing_and_says_so() {
    run("gc_absent", |lab| {
        let one = attach(lab, &everything(), "one");
        let reply = lab.plugin("bridge").config(&everything()).gc();
        assert!(reply.stderr.contains("GC without cni.dev/valid-attachments: nothing done"), "{reply}");
        reply.ok();
        one.check().ok();
        one.detach();
    });
}

#[test]
fn gc_refuses_a_list_that_it_does_not_understand() {
    run("gc_bad", |lab| {
        let one = attach(lab, &everything(), "one");
        for bad in
            [json!("one"), json!([{"containerID": "../x", "ifname": "eth0"}]), json!([{"ifname": "eth0"}])]
        {
            let config = with_valid(everything(), "cni.dev/valid-attachments", bad);
            lab.plugin("bridge").config(&config).gc().err(7);
            one.check().ok();
        }
        one.detach();
    });
}

#[test]
fn gc_finds_what_has_no_record() {
    run("gc_unrecorded", |lab| {
        let (keep, _drop) = (attach(lab, &everything(), "keep"), attach(lab, &everything(), "drop"));
        std::fs::remove_dir_all("/run/tenon/attach/net").unwrap();
        let valid = json!([{"containerID": "keep", "ifname": "eth0"}]);
        let config = with_valid(everything(), "cni.dev/valid-attachments", valid);
        lab.plugin("bridge").config(&config).gc().ok();
        keep.check().ok();
        assert_eq!(leases("net").len(), 2);
        keep.detach();
    });
}

#[test]
fn gc_knows_names_of_odd_characters() {
    run("gc_odd", |lab| {
        for network in ["a.b-c_d", "a.b"] {
            lab.allow_state(network);
        }
        let config = |name: &str| dual_stack(json!({"name": name, "ipMasq": true}));
        let ns = lab.netns("one");
        let odd = lab.plugin("bridge").config(&config("a.b-c_d")).container("x.y_z-1").ifname("e-0.1_\u{e9}");
        let odd = odd.netns(&ns);
        odd.add().ok();
        // A network whose name this one's begins with.
        let config_of_less = with_valid(config("a.b"), "cni.dev/valid-attachments", json!([]));
        lab.plugin("bridge").config(&config_of_less).gc().ok();
        assert_eq!((leases("a.b-c_d").len(), ns.links().len()), (2, 2));
        let config = with_valid(config("a.b-c_d"), "cni.dev/valid-attachments", json!([]));
        lab.plugin("bridge").config(&config).gc().ok();
        assert_eq!((leases("a.b-c_d").len(), ns.links().len()), (0, 1));
    });
}

#[test]
fn status_tells_a_full_range() {
    run("status", |lab| {
        let mut config = dual_stack(json!({}));
        config["ipam"]["ranges"] = json!([[{"subnet": "10.1.0.0/30"}]]);
        let status = || lab.plugin("bridge").config(&config).status();
        status().ok();
        let one = attach(lab, &config, "one");
        let error = status().err(50);
        assert!(message(&error).contains("no IP addresses available in range set"), "{error}");
        one.detach();
        status().ok();
        lab.plugin("bridge").config(&layer2(json!({}))).status().ok();
        lab.plugin("bridge").config(&layer2(json!({"mtu": "large"}))).status().err(7);
    });
}
