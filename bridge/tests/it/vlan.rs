//! VLANs: access ports, trunks, the VLAN's gateway, and tags between two bridges. Needs a kernel that filters VLANs on bridges:
//! `cargo testenv vm test` has some.

use std::time::Duration;

use serde_json::{Value, json};
use testenv::{lab::Lab, ns::Ns};

use crate::net::{Container, attach, dual_stack, fixed, ip, run};
use crate::port::filters_vlans;

/// Long enough for an answer on one machine, an ARP exchange included, where the machine is emulated too.
const SHORT: Duration = Duration::from_secs(1);

fn needs_vlan_filtering(lab: &Lab) {
    if !filters_vlans(lab) {
        lab.skip("this kernel does not filter VLANs on bridges: `cargo testenv vm test` runs it on others");
    }
}

/// The VLANs of a port: number, and whether it is untagged and native.
fn vlans(lab: &Lab, port: &str) -> Vec<(u64, bool)> {
    let text = lab.exec(&["bridge", "-j", "vlan", "show", "dev", port]).ok();
    let ports: Value = serde_json::from_str(&text).unwrap();
    let entries = ports[0]["vlans"].as_array().cloned().unwrap_or_default();
    let native = |entry: &Value| entry["flags"] == json!(["PVID", "Egress Untagged"]);
    entries.iter().map(|entry| (entry["vlan"].as_u64().unwrap(), native(entry))).collect()
}

fn reaches(from: &Ns, to: &str) -> bool {
    from.ping(to.parse().unwrap(), SHORT).is_ok()
}

/// A container with one address on a bridge, in VLANs.
fn member(lab: &Lab, bridge: &str, name: &str, address: &str, vlans: Value) -> Container {
    let mut config = fixed(&[address], vlans);
    config["bridge"] = json!(bridge);
    attach(lab, &config, name)
}

#[test]
fn an_access_vlan_has_a_gateway_of_its_own() {
    run("vlan_gateway", |lab| {
        needs_vlan_filtering(lab);
        let config = dual_stack(json!({"vlan": 100}));
        let (one, two) = (attach(lab, &config, "one"), attach(lab, &config, "two"));
        assert_eq!(vlans(lab, &one.host_end()), [(100, true)]);
        let addresses = |link: &str| lab.host().addresses(link);
        assert!(addresses("cni0.100").contains(&"10.1.0.1/16".to_string()), "{:?}", addresses("cni0.100"));
        assert!(!addresses("cni0").contains(&"10.1.0.1/16".to_string()));
        let port = format!("vg100.{}", ip(lab.host(), "link show cni0")[0]["ifindex"]);
        assert_eq!(vlans(lab, &port), [(100, true)]);
        for from in [&one.ns, &two.ns] {
            assert!(from.pings("10.1.0.1".parse().unwrap()) && from.pings("fd00:1::1".parse().unwrap()));
        }
        assert!(one.ns.pings(two.ip(0)) && one.ns.pings(two.ip(1)));
        // Another VLAN of the same bridge, in the same subnet: nobody is there.
        let other = member(lab, "cni0", "other", "10.1.0.200/16", json!({"name": "other", "vlan": 200}));
        assert!(!reaches(&other.ns, "10.1.0.1") && !reaches(&other.ns, &two.ip(0).to_string()));
        one.check().ok();
        one.detach();
        assert!(
            two.ns.pings("10.1.0.1".parse().unwrap()),
            "the gateway is the network's, not one container's"
        );
        two.detach();
        assert!(!lab.host().has_link("cni0.100") && !lab.host().has_link(&port));
        other.detach();
    });
}

#[test]
fn the_default_vlan_is_kept_where_that_is_asked_for() {
    run("default_vlan", |lab| {
        needs_vlan_filtering(lab);
        let cases = [
            (json!({"vlan": 100}), vec![(100, true)]),
            (json!({"vlan": 100, "preserveDefaultVlan": true}), vec![(1, false), (100, true)]),
            (
                json!({"vlanTrunk": [{"id": 7}, {"minID": 20, "maxID": 21}]}),
                vec![(7, false), (20, false), (21, false)],
            ),
            (json!({"vlanTrunk": [{"id": 7}], "preserveDefaultVlan": true}), vec![(1, true), (7, false)]),
        ];
        for (more, expected) in cases {
            let one = member(lab, "cni0", "one", "10.9.0.1/24", more.clone());
            assert_eq!(vlans(lab, &one.host_end()), expected, "{more}");
            one.check().ok();
            one.detach();
            lab.remove_netns(one.ns);
        }
    });
}

/// Two bridges linked by a veth that lets through nothing but tagged frames of VLANs 100 and 200, and a trunk's container that
/// takes the tags off by itself: whoever is reached there was reached by tagged frames.
#[test]
fn tags_pass_between_two_bridges() {
    run("vlan_trunk", |lab| {
        needs_vlan_filtering(lab);
        let access = |vlan: u16| json!({"name": "net", "vlan": vlan});
        let near = member(lab, "cni0", "near", "10.9.1.1/24", access(100));
        let far = member(lab, "cni1", "far", "10.9.1.2/24", access(100));
        let stranger = member(lab, "cni1", "stranger", "10.9.1.3/24", access(200));
        let trunk = json!({"name": "other", "vlanTrunk": [{"id": 100}, {"minID": 199, "maxID": 200}]});
        let trunk = member(lab, "cni1", "trunk", "10.9.9.4/24", trunk);
        let own = lab.host();
        own.add_veth("link0", own, "link1");
        for (end, bridge) in [("link0", "cni0"), ("link1", "cni1")] {
            own.set_master(end, bridge);
            own.set_up(end);
            lab.exec(&["bridge", "vlan", "del", "dev", end, "vid", "1"]).ok();
            lab.exec(&["bridge", "vlan", "add", "dev", end, "vid", "100"]).ok();
            lab.exec(&["bridge", "vlan", "add", "dev", end, "vid", "200"]).ok();
        }
        own.wait_running("link0");
        own.wait_running("link1");
        for vlan in ["100", "200"] {
            let name = format!("eth0.{vlan}");
            trunk
                .ns
                .exec(&["ip", "link", "add", "link", "eth0", "name", &name, "type", "vlan", "id", vlan])
                .ok();
            trunk.ns.set_up(&name);
        }
        trunk.ns.add_address("eth0.100", "10.9.1.4/24");
        assert!(near.ns.pings("10.9.1.2".parse().unwrap()), "one VLAN on two bridges");
        assert!(!reaches(&near.ns, "10.9.1.3"), "another VLAN on the other bridge");
        assert!(near.ns.pings("10.9.1.4".parse().unwrap()), "a trunk on the other bridge");
        assert!(!reaches(&stranger.ns, "10.9.1.4"));
        trunk.ns.remove_link("eth0.100");
        trunk.ns.add_address("eth0.200", "10.9.1.4/24");
        assert!(trunk.ns.pings("10.9.1.3".parse().unwrap()) && !reaches(&near.ns, "10.9.1.4"));
        lab.exec(&["bridge", "vlan", "del", "dev", "link1", "vid", "100"]).ok();
        assert!(!reaches(&near.ns, "10.9.1.2"), "the only way was the tagged one");
        trunk.ns.remove_link("eth0.200");
        own.remove_link("link0");
        for container in [near, far, stranger, trunk] {
            container.detach();
        }
    });
}
