//! The bridge's port, and the bridge's own flags: hairpinMode, promiscMode, portIsolation, macspoofchk, VLANs.

use std::time::Duration;

use serde_json::{Value, json};
use testenv::{lab::Lab, ping};

use crate::net::{attach, call, dual_stack, elements, ip, layer2, message, run};

/// Long enough for an answer on one machine, an ARP exchange included.
const SHORT: Duration = Duration::from_millis(300);

fn port_option(lab: &Lab, link: &str, option: &str) -> Value {
    ip(lab.host(), &format!("link show {link}"))[0]["linkinfo"]["info_slave_data"][option].clone()
}

fn is_promiscuous(lab: &Lab) -> bool {
    let flags = ip(lab.host(), "link show cni0")[0]["flags"].clone();
    flags.as_array().unwrap().contains(&json!("PROMISC"))
}

#[test]
fn hairpin_and_isolation_are_the_ports() {
    run("port_options", |lab| {
        for (key, option) in [("hairpinMode", "hairpin"), ("portIsolation", "isolated")] {
            for on in [true, false] {
                let one = attach(lab, &layer2(json!({key: on})), "one");
                assert_eq!(port_option(lab, &one.host_end(), option), on, "{key}");
                one.check().ok();
                one.detach();
                lab.remove_netns(one.ns);
            }
        }
    });
}

#[test]
fn isolated_siblings_reach_the_gateway_and_not_each_other() {
    run("isolation", |lab| {
        let config = dual_stack(json!({"portIsolation": true}));
        let (one, two) = (attach(lab, &config, "one"), attach(lab, &config, "two"));
        assert!(one.ns.pings("10.1.0.1".parse().unwrap()) && two.ns.pings("fd00:1::1".parse().unwrap()));
        assert!(one.ns.ping(two.ip(0), SHORT).is_err() && one.ns.ping(two.ip(1), SHORT).is_err());
        let three = attach(lab, &dual_stack(json!({})), "three");
        assert!(one.ns.pings(three.ip(0)));
        for container in [one, two, three] {
            container.detach();
        }
    });
}

/// The reference never switches it off again (ensureBridge).
#[test]
fn promiscuous_mode_is_on_when_it_is_asked_for_and_off_when_that_is() {
    run("promiscuous", |lab| {
        for (asked, expected) in
            [(json!(true), true), (json!(null), true), (json!(false), false), (json!(null), false)]
        {
            let one = attach(lab, &layer2(json!({"promiscMode": asked})), "one");
            assert_eq!(is_promiscuous(lab), expected, "{asked}");
            one.detach();
            lab.remove_netns(one.ns);
        }
    });
}

#[test]
fn hairpin_and_promiscuous_mode_exclude_each_other() {
    run("hairpin_promiscuous", |lab| {
        let ns = lab.netns("one");
        let config = layer2(json!({"hairpinMode": true, "promiscMode": true}));
        let error = call(lab, &config, &ns).add().err(7);
        assert_eq!(message(&error), "bridge: hairpinMode: true: can't be set together with promiscMode");
        assert!(!lab.host().has_link("cni0"));
    });
}

/// The container sends from an address that is not its own: that neither reaches the gateway nor teaches the bridge.
#[test]
fn spoofed_frames_are_dropped() {
    run("spoof_check", |lab| {
        let gateway = "10.1.0.1".parse().unwrap();
        for (checked, passes) in [(true, false), (false, true)] {
            let one = attach(lab, &dual_stack(json!({"macspoofchk": checked})), "one");
            assert!(one.ns.pings(gateway));
            let own = one.result["interfaces"][2]["mac"].as_str().unwrap();
            one.ns.exec(&["ip", "link", "set", "eth0", "address", "02:00:00:00:66:66"]).ok();
            lab.exec(&["ip", "neigh", "flush", "dev", "cni0"]).ok();
            let patience = if passes { ping::PATIENCE } else { SHORT };
            assert_eq!(one.ns.ping(gateway, patience).is_ok(), passes, "macspoofchk {checked}");
            let learned = lab.exec(&["bridge", "fdb", "show", "br", "cni0"]).ok();
            assert_eq!(learned.contains("02:00:00:00:66:66"), passes, "{learned}");
            one.ns.exec(&["ip", "link", "set", "eth0", "address", own]).ok();
            assert!(one.ns.pings(gateway));
            one.check().ok();
            one.detach();
            assert!(elements(lab).is_empty());
            lab.remove_netns(one.ns);
        }
    });
}

/// The check is of each port's own address: a sibling's is as wrong as any.
#[test]
fn a_siblings_address_is_spoofed_too() {
    run("spoof_sibling", |lab| {
        let config = dual_stack(json!({"macspoofchk": true}));
        let (one, two) = (attach(lab, &config, "one"), attach(lab, &config, "two"));
        assert!(one.ns.pings(two.ip(0)));
        let theirs = two.result["interfaces"][2]["mac"].as_str().unwrap();
        two.ns.set_down("eth0");
        one.ns.exec(&["ip", "link", "set", "eth0", "address", theirs]).ok();
        assert!(one.ns.ping("10.1.0.1".parse().unwrap(), SHORT).is_err());
        one.detach();
        two.detach();
        two.ns.rebase();
    });
}

/// Whether this kernel filters VLANs on bridges, tried out.
pub(crate) fn filters_vlans(lab: &Lab) -> bool {
    lab.exec(&["ip", "link", "add", "try0", "type", "bridge"]).ok();
    let option = "/sys/class/net/try0/bridge/vlan_filtering";
    let filters = lab.exec(&["sh", "-c", &format!("echo 1 > {option} && grep -q 1 {option}")]).succeeded();
    lab.exec(&["ip", "link", "del", "try0"]).ok();
    filters
}

#[test]
fn a_kernel_without_vlan_filtering_is_told_in_one_error() {
    run("no_vlan_filtering", |lab| {
        if filters_vlans(lab) {
            lab.skip("this kernel filters VLANs on bridges");
        }
        let ns = lab.netns("one");
        let expected = "bridge: vlan: on bridge cni0: this kernel has no bridge VLAN filtering \
                        (CONFIG_BRIDGE_VLAN_FILTERING)";
        let vlans = [json!({"vlan": 100}), json!({"vlanTrunk": [{"id": 101}, {"minID": 200, "maxID": 210}]})];
        for more in vlans.clone() {
            assert_eq!(message(&call(lab, &dual_stack(more), &ns).add().err(2)), expected);
            assert!(!lab.host().has_link("cni0"));
        }
        // A bridge that was there before stays as it was.
        lab.host().add_bridge("cni0");
        for more in vlans {
            assert_eq!(message(&call(lab, &dual_stack(more), &ns).add().err(2)), expected);
        }
        assert!(lab.host().addresses("cni0").is_empty());
    });
}

#[test]
fn vlans_that_are_none_are_refused() {
    run("bad_vlans", |lab| {
        let ns = lab.netns("one");
        let cases = [
            (json!({"vlan": 4095}), "vlan: 4095: is not a VLAN ID from 0 to 4094"),
            (json!({"vlan": -1}), "vlan: -1: is not a VLAN ID from 0 to 4094"),
            (json!({"vlanTrunk": [{"id": 0}]}), "vlanTrunk[0].id: 0: is not a VLAN ID from 1 to 4094"),
            (json!({"vlanTrunk": [{"minID": 5}]}), "vlanTrunk[0].minID: 5: needs maxID beside it"),
        ];
        for (more, expected) in cases {
            assert_eq!(message(&call(lab, &layer2(more), &ns).add().err(7)), format!("bridge: {expected}"));
        }
        assert!(!lab.host().has_link("cni0"));
    });
}
