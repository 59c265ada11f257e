//! The vlan plugin as a runtime sees it: the real binary against the real kernel, in labs. Its steps refused or killed are
//! seen with dummy, which shares them.

mod reference;

use std::net::IpAddr;

use serde_json::{Value, json};
use testenv::{
    lab::{self, Lab},
    ns::Ns,
    plugin::{PluginCall, Reply},
};

/// A network of VLAN 100 on the lab's uplink, with `more` over it.
fn network(more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0",
        "name": "lan",
        "type": "vlan",
        "master": "up0",
        "vlanId": 100,
        "ipam": {
            "type": "host-local",
            "ranges": [
                [{"subnet": "10.100.0.0/24", "rangeStart": "10.100.0.10", "gateway": "10.100.0.254"}],
                [{"subnet": "fd00:100::/64", "rangeStart": "fd00:100::10", "gateway": "fd00:100::fe"}],
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

/// A lab with an uplink whose other end is in VLAN 100 too, as 10.100.0.254, on a kernel with VLANs.
fn lan(name: &str, body: impl FnOnce(&Lab, &Ns) + Send + 'static) {
    lab::run(name, |lab| {
        lab.needs_link_kind("vlan");
        let outside = lab.outside("up0");
        join(&outside, "100");
        lab.rebase();
        lab.allow_state("lan");
        body(lab, &outside);
    });
}

/// Puts the outside into a VLAN.
fn join(outside: &Ns, vlan: &str) {
    let name = format!("in0.{vlan}");
    outside.exec(&["ip", "link", "add", "link", "in0", "name", &name, "type", "vlan", "id", vlan]).ok();
    outside.set_sysctl(&format!("net/ipv6/conf/{name}/accept_dad"), "0");
    outside.set_up(&name);
    outside.add_address(&name, "10.100.0.254/24");
    outside.add_address(&name, "fd00:100::fe/64");
    outside.rebase();
}

fn vlan(lab: &Lab, config: &Value) -> PluginCall {
    lab.plugin("vlan").config(config)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[track_caller]
fn message(reply: Reply, code: u64) -> String {
    reply.err(code)["msg"].as_str().expect("a message").to_owned()
}

/// What iproute2 says of the container's interface.
fn described(container: &Ns) -> Value {
    let said = container.exec(&["ip", "-d", "-j", "link", "show", "eth0"]).ok();
    serde_json::from_str::<Value>(&said).expect("JSON")[0].take()
}

fn nft(lab: &Lab, words: &str) -> String {
    lab.exec(&[&["nft"], &words.split(' ').collect::<Vec<_>>()[..]].concat()).ok()
}

#[test]
fn a_kernel_without_vlans_is_told() {
    lab::run("vlan_unknown", |lab| {
        // Known, it wants a number that there is.
        let words = ["ip", "link", "add", "link", "lo", "name", "try0", "type", "vlan", "id", "4095"];
        if !lab.exec(&words).stderr.contains("Unknown device type") {
            lab.skip("this kernel has VLANs");
        }
        lab.outside("up0");
        lab.rebase();
        lab.allow_state("lan");
        let c1 = lab.netns("c1");
        let call = vlan(lab, &network(json!({}))).netns(&c1);
        let why = "vlan: this kernel makes no links of kind vlan, nor has a module that does";
        assert_eq!(message(call.status(), 50), why);
        let said = message(call.add(), 999);
        assert!(said.starts_with(why) && said.contains("add vlan eth0: "), "{said}");
        call.del().ok();
    });
}

/// The master's own packets are counted by their tags, as they leave and as they come.
#[test]
fn packets_pass_the_master_with_the_tag() {
    lan("vlan", |lab, outside| {
        let config = network(json!({}));
        let c1 = lab.netns("c1");
        let call = vlan(lab, &config).netns(&c1);
        call.status().ok();
        let result = call.add().ok();
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(1));
        assert_eq!(result["interfaces"][0]["sandbox"], c1.path().to_str().expect("a path"));
        assert_eq!(result["ips"][0]["address"], "10.100.0.10/24");
        let link = described(&c1);
        assert_eq!(
            (&link["linkinfo"]["info_kind"], &link["linkinfo"]["info_data"]["id"]),
            (&json!("vlan"), &json!(100))
        );
        assert_eq!(link["address"], result["interfaces"][0]["mac"]);
        nft(lab, "add table netdev seen");
        for way in ["egress", "ingress"] {
            nft(
                lab,
                &format!("add chain netdev seen {way} {{ type filter hook {way} device up0 priority 0 ; }}"),
            );
            nft(lab, &format!("add rule netdev seen {way} vlan id 100 counter"));
        }
        assert!(c1.pings(ip("10.100.0.254")) && c1.pings(ip("fd00:100::fe")));
        for way in ["egress", "ingress"] {
            let said = nft(lab, &format!("list chain netdev seen {way}"));
            assert!(said.contains("counter packets") && !said.contains("counter packets 0 "), "{said}");
        }
        nft(lab, "delete table netdev seen");
        assert!(outside.pings(ip("10.100.0.10")) && outside.pings(ip("fd00:100::10")));
        call.clone().config(&with_result(config, &result)).check().ok();
        let other = with_result(network(json!({"vlanId": 7})), &result);
        let said = message(call.clone().config(&other).check(), 999);
        assert_eq!(said, "vlan: eth0 is Some(Vlan(VlanId(100))), not Vlan(VlanId(7))");
        // Another VLAN, where nobody is.
        let c2 = lab.netns("c2");
        let address = json!({"type": "static", "addresses": [{"address": "10.100.0.99/24"}]});
        let stranger =
            vlan(lab, &network(json!({"vlanId": 200, "ipam": address}))).container("two").netns(&c2);
        stranger.add().ok();
        assert!(!c2.pings(ip("10.100.0.254")) && !c2.pings(ip("10.100.0.10")));
        stranger.del().ok();
        call.del().ok();
        call.del().ok();
        assert!(!c1.has_link("eth0"));
        call.add().ok();
        let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
        call.clone().config(&network(json!({"cni.dev/valid-attachments": valid}))).gc().ok();
        assert!(c1.has_link("eth0"));
        call.clone().config(&network(json!({"cni.dev/valid-attachments": null}))).gc().ok();
        assert!(!c1.has_link("eth0"));
        let said = message(call.config(&network(json!({"master": "gone"}))).status(), 50);
        assert_eq!(said, "vlan: master: gone: the host has no such link");
    });
}

#[test]
fn on_a_link_of_the_container_and_in_a_chain() {
    lan("vlan_in_container", |lab, _| {
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        c1.add_veth("net0", &c2, "in0");
        c1.set_up("net0");
        c2.set_up("in0");
        join(&c2, "100");
        c1.rebase();
        let address = json!({"type": "static", "addresses": [{"address": "10.100.0.2/24"}]});
        let config = network(json!({"ipam": address, "master": "net0", "linkInContainer": true}));
        let call = vlan(lab, &config).netns(&c1);
        let result = call.add().ok();
        assert!(c1.pings(ip("10.100.0.254")));
        call.clone().config(&with_result(config, &result)).check().ok();
        assert!(
            message(call.clone().container("again").ifname("eth1").add(), 7)
                .contains("vlanId: 100: net0 has")
        );
        call.del().ok();
        let previous = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net0", "sandbox": c1.path().to_str().expect("a path")}],
            "ips": [{"address": "10.100.0.3/24", "interface": 0}],
        });
        let chained = with_result(network(json!({"ipam": null, "master": null})), &previous);
        let call = vlan(lab, &chained).netns(&c1);
        assert_eq!(call.add().ok()["ips"][0]["address"], "10.100.0.3/24");
        assert!(c1.pings(ip("10.100.0.254")));
        call.del().ok();
    });
}

/// On a host whose uplink is called as the container's interface.
#[test]
fn the_default_routes_link_is_the_master_that_nobody_named() {
    lab::run("vlan_default", |lab| {
        lab.needs_link_kind("vlan");
        join(&lab.outside("eth0"), "100");
        lab.rebase();
        lab.allow_state("lan");
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let call = vlan(lab, &network(json!({"master": null, "mtu": 1400}))).netns(&c1);
        let result = call.add().ok();
        assert_eq!((&described(&c1)["mtu"], &result["interfaces"][0]["mtu"]), (&json!(1400), &json!(1400)));
        assert!(c1.pings(ip("10.100.0.254")));
        let said = message(call.clone().container("two").netns(&c2).add(), 7);
        assert!(said.contains("vlanId: 100: eth0 has an interface for this VLAN already"), "{said}");
        call.del().ok();
    });
}

/// What is refused leaves nothing, and harms nobody.
#[test]
fn what_can_not_be() {
    lan("vlan_refused", |lab, _| {
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        values_that_can_not_be_are_refused(lab, &c1);
        a_vlan_that_somebody_has_is_refused(lab, &c1, &c2);
    });
}

fn values_that_can_not_be_are_refused(lab: &Lab, c1: &Ns) {
    lab.host().add_bridge("down0");
    lab.host().set_down("down0");
    for (more, expected) in [
        (json!({"vlanId": 4095}), "vlan: vlanId: 4095: is not within 0..=4094"),
        (json!({"master": "nope"}), "vlan: master: nope: the host has no such link"),
        (json!({"mtu": 9000}), "vlan: mtu: 9000: is more than the 1500 of up0"),
        (json!({"master": "down0"}), "vlan: master: down0: is down, and a VLAN's interface"),
        (json!({"ipam": null}), "vlan: ipam: null: an address plugin is needed"),
        (json!({"ipam": {"type": "nope"}}), "vlan: ipam.type: \"nope\": no such plugin in CNI_PATH"),
    ] {
        let reply = vlan(lab, &network(more)).netns(c1).add();
        assert!(!reply.succeeded(), "{expected}");
        let said = message(reply, 7);
        assert!(said.starts_with(expected), "{said}");
        assert!(!c1.has_link("eth0"));
    }
}

/// The name is free: what the kernel refuses is a second interface for the VLAN, wherever the first is.
fn a_vlan_that_somebody_has_is_refused(lab: &Lab, c1: &Ns, c2: &Ns) {
    let first = vlan(lab, &network(json!({}))).container("one").netns(c1);
    first.add().ok();
    assert_eq!(
        message(vlan(lab, &network(json!({}))).container("two").netns(c2).add(), 7),
        "vlan: vlanId: 100: up0 has an interface for this VLAN already, in this or another namespace"
    );
    assert!(!c2.has_link("eth0") && c1.pings(ip("10.100.0.254")));
    // A container that went without a DEL still has it: the next ADD of the same takes it back.
    first.clone().netns(c2).add().ok();
    assert!(!c1.has_link("eth0") && c2.pings(ip("10.100.0.254")));
    first.netns(c2).del().ok();
}
