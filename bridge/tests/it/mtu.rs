//! `mtu`.

use serde_json::{Value, json};
use testenv::lab::Lab;

use crate::net::{attach, call, ip, layer2, message, run};

/// Attaches with `mtu` and expects it of both ends, the bridge and the result.
#[track_caller]
fn check(lab: &Lab, mtu: Value, [ends, bridge]: [u32; 2]) {
    let one = attach(lab, &layer2(json!({"mtu": mtu})), "one");
    let of = |ns, link: &str| ip(ns, &format!("link show {link}"))[0]["mtu"].clone();
    assert_eq!(of(&one.ns, "eth0"), ends, "{mtu}");
    assert_eq!(of(lab.host(), &one.host_end()), ends, "{mtu}");
    assert_eq!(of(lab.host(), "cni0"), bridge, "{mtu}");
    for (interface, expected) in [(0, bridge), (1, ends), (2, ends)] {
        assert_eq!(one.result["interfaces"][interface]["mtu"], expected, "{mtu}: interface {interface}");
    }
    one.check().ok();
    one.detach();
    lab.remove_netns(one.ns);
    lab.exec(&["ip", "link", "del", "cni0"]).ok();
}

#[test]
fn without_a_default_route() {
    run("mtu", |lab| {
        check(lab, json!(null), [1500, 1500]);
        check(lab, json!(0), [1500, 1500]);
        check(lab, json!("auto"), [1500, 1500]);
        check(lab, json!(1400), [1400, 1400]);
        check(lab, json!(9000), [9000, 9000]);
        check(lab, json!(68), [68, 68]);
        check(lab, json!(65535), [65535, 65535]);
    });
}

#[test]
fn behind_a_narrow_uplink() {
    run("mtu_narrow", |lab| {
        lab.outside("up0");
        lab.host().set_mtu("up0", 1320);
        check(lab, json!(null), [1320, 1320]);
        check(lab, json!(0), [1320, 1320]);
        check(lab, json!("auto"), [1320, 1320]);
        // Who names a number gets it: the way out may not be where this network's packets go.
        check(lab, json!(1400), [1400, 1400]);
    });
}

#[test]
fn behind_a_wide_uplink() {
    run("mtu_wide", |lab| {
        lab.outside("up0");
        lab.host().set_mtu("up0", 9000);
        check(lab, json!(null), [1500, 1500]);
        check(lab, json!("auto"), [9000, 9000]);
    });
}

#[test]
fn the_way_out_may_be_ipv6_alone() {
    run("mtu_v6", |lab| {
        lab.outside("up0");
        lab.exec(&["ip", "route", "del", "default"]).ok();
        lab.rebase();
        lab.host().set_mtu("up0", 1300);
        check(lab, json!("auto"), [1300, 1300]);
    });
}

#[test]
fn what_is_no_mtu_is_refused() {
    run("mtu_bad", |lab| {
        let ns = lab.netns("one");
        for bad in [json!(-1), json!(67), json!(65536), json!(1.5), json!("1400"), json!(true), json!([])] {
            let error = call(lab, &layer2(json!({"mtu": bad})), &ns).add().err(7);
            let expected = format!(
                "bridge: mtu: {bad}: is neither \"auto\" nor 0 nor a number of bytes from 68 to 65535"
            );
            assert_eq!(message(&error), expected);
        }
        assert!(!lab.host().has_link("cni0"));
    });
}
