//! The macvlan plugin as a runtime sees it: the real binary against the real kernel, in labs.

mod reference;

use std::net::IpAddr;

use serde_json::{Value, json};
use testenv::{
    lab::{self, Lab},
    ns::Ns,
    plugin::PluginCall,
};

/// A network on the lab's uplink, beside the outside, with `more` over it.
fn network(more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0",
        "name": "lan",
        "type": "macvlan",
        "master": "up0",
        "ipam": {
            "type": "host-local",
            "ranges": [
                [{"subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10", "gateway": "198.51.100.254"}],
                [{"subnet": "2001:db8:1::/64", "rangeStart": "2001:db8:1::10", "gateway": "2001:db8:1::254"}],
            ],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    let (Value::Object(to), Value::Object(more)) = (&mut config, more) else { panic!("not objects") };
    to.extend(more);
    config
}

fn with_result(mut config: Value, result: &Value) -> Value {
    config["prevResult"] = result.clone();
    config
}

/// A lab with an uplink, and the network outside.
fn lan(name: &str, body: impl FnOnce(&Lab, &Ns) + Send + 'static) {
    lab::run(name, |lab| {
        let outside = lab.outside("up0");
        lab.rebase();
        lab.allow_state("lan");
        body(lab, &outside);
    });
}

fn macvlan(lab: &Lab, config: &Value) -> PluginCall {
    lab.plugin("macvlan").config(config)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn two_containers_reach_each_other_and_the_lan() {
    lan("macvlan", |lab, outside| {
        let config = network(json!({}));
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let call = macvlan(lab, &config);
        let first = call.clone().container("one").netns(&c1);
        let second = call.container("two").netns(&c2);
        let (one, two) = (first.add().ok(), second.add().ok());
        assert_eq!(one["interfaces"].as_array().expect("interfaces").len(), 1);
        assert_eq!(one["interfaces"][0]["sandbox"], c1.path().to_str().expect("a path"));
        assert_eq!(two["ips"][0]["address"], "198.51.100.11/24");
        for address in ["198.51.100.11", "198.51.100.254", "2001:db8:1::11", "2001:db8:1::254"] {
            assert!(c1.pings(ip(address)), "{address}");
        }
        assert!(outside.pings(ip("198.51.100.10")));
        // By design: the kernel does not deliver between a macvlan and the link that it is on.
        assert!(!c1.pings(ip("198.51.100.1")));
        for (call, result) in [(&first, &one), (&second, &two)] {
            call.clone().config(&with_result(config.clone(), result)).check().ok();
            call.del().ok();
            call.del().ok();
        }
    });
}

#[test]
fn the_default_routes_link_is_the_master_that_nobody_named() {
    lan("macvlan_default", |lab, _| {
        let c1 = lab.netns("c1");
        let call = macvlan(lab, &network(json!({"master": null}))).netns(&c1);
        call.add().ok();
        assert!(c1.pings(ip("198.51.100.254")));
        // plugins#953: the reference's DEL wants a master.
        call.config(&network(json!({"master": "gone"}))).del().ok();
    });
}

#[test]
fn modes_and_macs() {
    lan("macvlan_modes", |lab, _| {
        let c1 = lab.netns("c1");
        for mode in ["bridge", "private", "vepa", "passthru"] {
            let call = macvlan(lab, &network(json!({"mode": mode, "bcqueuelen": 200}))).netns(&c1);
            call.add().ok();
            let links: Value =
                serde_json::from_str(&c1.exec(&["ip", "-d", "-j", "link", "show", "eth0"]).ok())
                    .expect("JSON");
            assert_eq!(links[0]["linkinfo"]["info_data"]["mode"], mode);
            call.del().ok();
        }
        let mac = |call: &PluginCall| {
            let result = call.add().ok();
            call.del().ok();
            result["interfaces"][0]["mac"].as_str().expect("a MAC").to_owned()
        };
        let configured = network(json!({"mac": "02:00:00:00:00:01"}));
        let call = macvlan(lab, &configured).netns(&c1);
        assert_eq!(mac(&call), "02:00:00:00:00:01");
        let call = call.args("MAC=02:00:00:00:00:02");
        assert_eq!(mac(&call), "02:00:00:00:00:02");
        let runtime = network(json!({"runtimeConfig": {"mac": "02:00:00:00:00:03"}}));
        assert_eq!(mac(&call.config(&runtime)), "02:00:00:00:00:03");
    });
}

#[test]
fn only_the_listed_senders_get_through_in_source_mode() {
    lan("macvlan_source", |lab, outside| {
        let c1 = lab.netns("c1");
        let links: Value =
            serde_json::from_str(&outside.exec(&["ip", "-j", "link", "show", "in0"]).ok()).expect("JSON");
        let friend = links[0]["address"].as_str().expect("a MAC").to_owned();
        for (sources, reached) in [(json!([friend]), true), (json!(["02:00:00:00:00:99"]), false)] {
            let config = network(json!({"mode": "source", "sourceMACs": sources}));
            let call = macvlan(lab, &config).netns(&c1);
            call.add().ok();
            assert_eq!(c1.pings(ip("198.51.100.254")), reached);
            call.del().ok();
        }
    });
}

#[test]
fn the_host_reaches_its_containers_through_a_shim() {
    lan("macvlan_shim", |lab, _| {
        let config = network(json!({"hostAccess": true}));
        lab.allow("file /run/tenon/lock");
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let call = macvlan(lab, &config);
        let first = call.clone().container("one").netns(&c1);
        let second = call.container("two").netns(&c2);
        first.add().ok();
        let two = second.add().ok();
        for address in ["198.51.100.10", "198.51.100.11", "2001:db8:1::11"] {
            assert!(lab.host().pings(ip(address)), "{address}");
        }
        assert!(c1.pings(ip("198.51.100.1")) && c2.pings(ip("2001:db8:1::1")));
        first.del().ok();
        assert!(lab.host().pings(ip("198.51.100.11")));
        second.clone().config(&with_result(config, &two)).check().ok();
        second.netns_path("").del().ok();
        assert!(!lab.host().links().iter().any(|link| link.starts_with("mvs")));
        c2.remove_link("eth0");
    });
}

#[test]
fn an_address_in_use_is_refused() {
    lan("macvlan_dad", |lab, outside| {
        outside.add_address("in0", "198.51.100.10/24");
        let c1 = lab.netns("c1");
        let call = macvlan(lab, &network(json!({"dad": true}))).netns(&c1);
        let message = call.add().err(999)["msg"].as_str().expect("a message").to_owned();
        assert!(message.contains("address 198.51.100.10 is in use on the network, by "), "{message}");
        // The reference leaves the interface when a late step fails: its error is shadowed.
        assert!(!c1.has_link("eth0"));
        call.add().ok();
        call.del().ok();
    });
}

#[test]
fn without_addresses_and_on_a_link_of_the_container() {
    lan("macvlan_in_container", |lab, _| {
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        c1.add_veth("net0", &c2, "net0");
        for (ns, link) in [(&c1, "net0"), (&c2, "net0")] {
            ns.set_up(link);
            ns.rebase();
        }
        let config = network(json!({"ipam": null, "master": "net0", "linkInContainer": true}));
        let call = macvlan(lab, &config).netns(&c1);
        let result = call.add().ok();
        assert!(result.get("ips").is_none());
        call.clone().config(&with_result(config, &result)).check().ok();
        call.del().ok();
        // In a chain: the interface that an earlier plugin made is the master.
        let previous = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net0", "sandbox": c1.path().to_str().expect("a path")}],
            "ips": [{"address": "10.9.0.2/24", "interface": 0}],
        });
        let chained = with_result(network(json!({"ipam": null, "master": null})), &previous);
        let call = macvlan(lab, &chained).netns(&c1);
        assert_eq!(call.add().ok()["ips"][0]["address"], "10.9.0.2/24");
        assert_eq!(c1.addresses("eth0")[0], "10.9.0.2/24");
        call.del().ok();
    });
}

#[test]
fn a_host_whose_uplink_is_called_as_the_containers_interface() {
    lab::run("macvlan_eth0", |lab| {
        lab.outside("eth0");
        lab.rebase();
        lab.allow_state("lan");
        let c1 = lab.netns("c1");
        let call = macvlan(lab, &network(json!({"master": "eth0"}))).netns(&c1);
        call.add().ok();
        assert!(c1.pings(ip("198.51.100.254")));
        call.del().ok();
    });
}

#[test]
fn what_can_not_be_is_refused_and_leaves_nothing() {
    lan("macvlan_refused", |lab, _| {
        let c1 = lab.netns("c1");
        for (config, message) in [
            (network(json!({"master": "nope"})), "macvlan: master: nope: the host has no such link"),
            (network(json!({"mtu": 9000})), "macvlan: mtu: 9000: is more than the 1500 of up0"),
            (
                network(json!({"ipam": {"type": "nope"}})),
                "macvlan: ipam.type: \"nope\": no such plugin in CNI_PATH",
            ),
        ] {
            let reply = macvlan(lab, &config).netns(&c1).add().err(7);
            assert!(reply["msg"].as_str().expect("a message").starts_with(message), "{reply}");
        }
        let full = json!([[{"subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10", "rangeEnd": "198.51.100.10"}]]);
        let mut config = network(json!({}));
        config["ipam"]["ranges"] = full;
        let c2 = lab.netns("c2");
        let first = macvlan(lab, &config).container("one").netns(&c1);
        first.add().ok();
        macvlan(lab, &config).container("two").netns(&c2).add().err(999);
        assert!(!c2.has_link("eth0"));
        macvlan(lab, &config).container("one").netns(&c1).add().err(7);
        assert!(c1.pings(ip("198.51.100.254")));
        first.del().ok();
    });
}

#[test]
fn gc_removes_what_is_not_valid_and_status_wants_the_master() {
    lan("macvlan_gc", |lab, _| {
        let config = network(json!({}));
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let call = macvlan(lab, &config);
        let (one, two) = (call.clone().container("one").netns(&c1), call.clone().container("two").netns(&c2));
        one.add().ok();
        two.add().ok();
        let valid = json!([{"containerID": "one", "ifname": "eth0"}]);
        call.clone().config(&network(json!({"cni.dev/valid-attachments": valid}))).gc().ok();
        assert!(c1.has_link("eth0") && !c2.has_link("eth0"));
        call.clone().config(&network(json!({"cni.dev/valid-attachments": null}))).gc().ok();
        assert!(!c1.has_link("eth0"));
        call.status().ok();
        call.config(&network(json!({"master": "gone"}))).status().err(50);
    });
}
