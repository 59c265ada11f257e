//! A bridge that is there already: reconciled where the configuration names a value, unless a live network names another.

use serde_json::{Value, json};

use crate::net::{attach, call, ip, layer2, message, run};

fn other(more: Value) -> Value {
    let mut config = layer2(more);
    config["name"] = json!("other");
    config
}

/// The reference leaves an existing bridge's MTU and promiscuous mode as they are (ensureBridge).
#[test]
fn is_brought_to_what_is_named() {
    run("reconciled", |lab| {
        lab.host().add_bridge("cni0");
        lab.allow("net.ipv6.conf.cni0.mtu");
        let one = attach(lab, &layer2(json!({"mtu": 1400, "promiscMode": true})), "one");
        let bridge = &ip(lab.host(), "link show cni0")[0];
        assert_eq!(bridge["mtu"], 1400);
        assert!(bridge["flags"].as_array().unwrap().contains(&json!("PROMISC")), "{bridge}");
        assert!(bridge["flags"].as_array().unwrap().contains(&json!("UP")), "{bridge}");
        assert_eq!(one.result["interfaces"][0]["mtu"], 1400);
        one.detach();
    });
}

#[test]
fn is_left_alone_where_nothing_is_named() {
    run("left_alone", |lab| {
        lab.exec(&["ip", "link", "add", "cni0", "type", "bridge"]).ok();
        // From then on the kernel leaves its MTU alone, whatever the ports have.
        lab.exec(&["ip", "link", "set", "cni0", "mtu", "1450"]).ok();
        lab.exec(&["ip", "link", "set", "cni0", "up", "promisc", "on"]).ok();
        let before = ip(lab.host(), "link show cni0")[0]["flags"].clone();
        let one = attach(lab, &layer2(json!({})), "one");
        let bridge = &ip(lab.host(), "link show cni0")[0];
        assert_eq!(bridge["mtu"], 1450);
        assert!(before.as_array().unwrap().contains(&json!("PROMISC")));
        assert!(bridge["flags"].as_array().unwrap().contains(&json!("PROMISC")), "{bridge}");
        one.detach();
    });
}

#[test]
fn is_refused_while_a_live_network_names_another_value() {
    run("disagreement", |lab| {
        let ns = lab.netns("two");
        for (key, has, wants) in
            [("mtu", json!(1400), json!(1300)), ("promiscMode", json!(true), json!(false))]
        {
            let one = attach(lab, &layer2(json!({key: has})), "one");
            let error = call(lab, &other(json!({key: wants})), &ns).add().err(7);
            let expected =
                format!("bridge: {key}: {wants}: bridge cni0 has {has}, which network net on it asks for");
            assert_eq!(message(&error), expected);
            one.check().ok();
            // Who names nothing is welcome, and so is who names the same.
            for more in [json!({}), json!({key: has})] {
                let call = call(lab, &other(more), &ns);
                call.add().ok();
                call.del().ok();
            }
            one.detach();
            // Nobody is left to mind.
            let call = call(lab, &other(json!({key: wants})), &ns);
            call.add().ok();
            call.del().ok();
            lab.remove_netns(one.ns);
            lab.exec(&["ip", "link", "del", "cni0"]).ok();
        }
    });
}

/// A network may change its own mind: the newest configuration counts.
#[test]
fn follows_its_own_networks_new_configuration() {
    run("own_mind", |lab| {
        let one = attach(lab, &layer2(json!({"mtu": 1400})), "one");
        let two = attach(lab, &layer2(json!({"mtu": 1300})), "two");
        assert_eq!(ip(lab.host(), "link show cni0")[0]["mtu"], 1300);
        one.detach();
        two.detach();
    });
}

/// Without an address of its own it would take its lowest port's, and change it as containers come and go.
#[test]
fn keeps_its_address_as_ports_come_and_go() {
    run("stable_mac", |lab| {
        let mac = || ip(lab.host(), "link show cni0")[0]["address"].clone();
        let one = attach(lab, &layer2(json!({})), "one");
        let before = mac();
        assert_eq!(one.result["interfaces"][0]["mac"], before);
        for name in ["two", "three", "four"] {
            let next = attach(lab, &layer2(json!({})), name);
            assert_eq!(mac(), before);
            next.detach();
        }
        one.detach();
        assert_eq!(mac(), before);
    });
}

/// One that somebody else made without an address follows its ports, and the result tells what it is then.
#[test]
fn is_told_as_it_is() {
    run("told", |lab| {
        lab.host().add_bridge("cni0");
        let one = attach(lab, &layer2(json!({})), "one");
        assert_eq!(one.result["interfaces"][0]["mac"], ip(lab.host(), "link show cni0")[0]["address"]);
        one.detach();
    });
}
