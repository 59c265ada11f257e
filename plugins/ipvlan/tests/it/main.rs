//! The ipvlan plugin as a runtime sees it: the real binary against the real kernel, in labs. Its steps refused or killed are
//! seen with dummy, which shares them.

mod reference;

use std::net::IpAddr;

use serde_json::{Value, json};
use testenv::{
    lab::{self, Lab},
    ns::Ns,
    plugin::{PluginCall, Reply},
};

/// A network on the lab's uplink, beside the outside, with `more` over it.
fn network(more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0",
        "name": "lan",
        "type": "ipvlan",
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

/// A network behind the host, which routes to it, for the container with this number.
fn routed(mode: &str, number: u8) -> Value {
    network(json!({
        "mode": mode,
        "ipam": {
            "type": "static",
            "addresses": [{"address": format!("10.77.0.{number}/24")}, {"address": format!("fd00:77::{number}/64")}],
            "routes": [{"dst": "0.0.0.0/0", "scope": 253}, {"dst": "::/0", "scope": 253}],
        },
    }))
}

fn with_result(mut config: Value, result: &Value) -> Value {
    config["prevResult"] = result.clone();
    config
}

/// A lab with an uplink, and the network outside, on a kernel with ipvlan.
fn lan(name: &str, body: impl FnOnce(&Lab, &Ns) + Send + 'static) {
    lab::run(name, |lab| {
        lab.needs_link_kind("ipvlan");
        let outside = lab.outside("up0");
        lab.rebase();
        lab.allow_state("lan");
        body(lab, &outside);
    });
}

fn ipvlan(lab: &Lab, config: &Value) -> PluginCall {
    lab.plugin("ipvlan").config(config)
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

#[test]
fn a_kernel_without_ipvlan_is_told() {
    lab::run("ipvlan_unknown", |lab| {
        // Known, it wants another link than this.
        let said = lab.exec(&["ip", "link", "add", "try0", "link", "lo", "type", "ipvlan"]).stderr;
        if !said.contains("Unknown device type") {
            lab.skip("this kernel has ipvlan");
        }
        lab.outside("up0");
        lab.rebase();
        lab.allow_state("lan");
        let c1 = lab.netns("c1");
        let call = ipvlan(lab, &network(json!({}))).netns(&c1);
        let why = "ipvlan: this kernel makes no links of kind ipvlan, nor has a module that does";
        assert_eq!(message(call.status(), 50), why);
        let said = message(call.add(), 999);
        assert!(said.starts_with(why) && said.contains("add ipvlan eth0: "), "{said}");
        call.del().ok();
    });
}

#[test]
fn on_the_network_outside_in_mode_l2() {
    lan("ipvlan_l2", |lab, outside| {
        let config = network(json!({}));
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let call = ipvlan(lab, &config);
        call.status().ok();
        let first = call.clone().container("one").netns(&c1);
        let second = call.clone().container("two").netns(&c2);
        let (one, two) = (first.add().ok(), second.add().ok());
        assert_eq!(one["interfaces"].as_array().map(Vec::len), Some(1));
        assert_eq!(one["interfaces"][0]["sandbox"], c1.path().to_str().expect("a path"));
        assert_eq!(one["interfaces"][0]["mac"], two["interfaces"][0]["mac"]);
        assert_eq!(two["ips"][0]["address"], "198.51.100.11/24");
        assert_eq!(described(&c1)["linkinfo"]["info_data"]["mode"], "l2");
        for address in ["198.51.100.11", "198.51.100.254", "2001:db8:1::11", "2001:db8:1::254"] {
            assert!(c1.pings(ip(address)), "{address}");
        }
        assert!(outside.pings(ip("198.51.100.10")) && outside.pings(ip("2001:db8:1::11")));
        // By design: the host's packets leave by the master, and never come to what is on it.
        assert!(!lab.host().pings(ip("198.51.100.10")));
        first.clone().config(&with_result(config, &one)).check().ok();
        first.del().ok();
        first.del().ok();
        assert!(!c1.has_link("eth0"));
        first.add().ok();
        let valid = json!([{"containerID": "one", "ifname": "eth0"}]);
        call.clone().config(&network(json!({"cni.dev/valid-attachments": valid}))).gc().ok();
        assert!(c1.has_link("eth0") && !c2.has_link("eth0"));
        call.clone().config(&network(json!({"cni.dev/valid-attachments": null}))).gc().ok();
        assert!(!c1.has_link("eth0"));
        let said = message(call.config(&network(json!({"master": "gone"}))).status(), 50);
        assert_eq!(said, "ipvlan: master: gone: the host has no such link");
    });
}

/// The network outside leads to the containers by the host. In mode `l3s`, and only there, what arrives for them passes the
/// host's input rules.
#[test]
fn behind_the_host_in_modes_l3_and_l3s() {
    lan("ipvlan_l3", |lab, outside| {
        outside.add_route("10.77.0.0/24", ip("198.51.100.1"));
        outside.add_route("fd00:77::/64", ip("2001:db8:1::1"));
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        for mode in ["l3", "l3s"] {
            let [one, two] = [(2, "one", &c1), (3, "two", &c2)]
                .map(|(number, name, ns)| ipvlan(lab, &routed(mode, number)).container(name).netns(ns));
            let result = one.add().ok();
            two.add().ok();
            assert_eq!(described(&c1)["linkinfo"]["info_data"]["mode"], mode);
            for address in ["10.77.0.3", "198.51.100.254", "fd00:77::3", "2001:db8:1::254"] {
                assert!(c1.pings(ip(address)), "{mode}: {address}");
            }
            assert!(outside.pings(ip("10.77.0.2")) && outside.pings(ip("fd00:77::2")), "{mode}");
            let checked = one.clone().config(&with_result(routed(mode, 2), &result));
            checked.check().ok();
            for words in [
                "add table inet closed",
                "add chain inet closed input { type filter hook input priority 0 ; }",
                "add rule inet closed input ip daddr 10.77.0.2 icmp type echo-request drop",
            ] {
                lab.exec(&[&["nft"], &words.split(' ').collect::<Vec<_>>()[..]].concat()).ok();
            }
            assert_eq!(outside.pings(ip("10.77.0.2")), mode == "l3", "{mode} past the host's rules");
            lab.exec(&["nft", "delete", "table", "inet", "closed"]).ok();
            two.del().ok();
            if mode == "l3" {
                // Another mode on the same master changes this one, and CHECK says so.
                let other = ipvlan(lab, &routed("l3s", 3)).container("two").netns(&c2);
                other.add().ok();
                let said = message(checked.check(), 999);
                assert_eq!(said, "ipvlan: eth0 is Some(Ipvlan(L3s)), not Ipvlan(L3)");
                other.del().ok();
            }
            one.del().ok();
        }
    });
}

/// On a host whose uplink is called as the container's interface.
#[test]
fn the_default_routes_link_is_the_master_that_nobody_named() {
    lab::run("ipvlan_default", |lab| {
        lab.needs_link_kind("ipvlan");
        lab.outside("eth0");
        lab.rebase();
        lab.allow_state("lan");
        let c1 = lab.netns("c1");
        let call = ipvlan(lab, &network(json!({"master": null, "mtu": 1400}))).netns(&c1);
        let result = call.add().ok();
        assert_eq!((&described(&c1)["mtu"], &result["interfaces"][0]["mtu"]), (&json!(1400), &json!(1400)));
        assert!(c1.pings(ip("198.51.100.254")));
        call.del().ok();
        // Larger than the master, as the reference has it: it is for containers among themselves.
        let call = ipvlan(lab, &network(json!({"master": "eth0", "mtu": 9000}))).netns(&c1);
        call.add().ok();
        assert_eq!(described(&c1)["mtu"], 9000);
        call.del().ok();
    });
}

#[test]
fn on_a_link_of_the_container_and_in_a_chain() {
    lan("ipvlan_in_container", |lab, _| {
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        c1.add_veth("net0", &c2, "net0");
        for (ns, address) in [(&c1, "10.9.0.1/24"), (&c2, "10.9.0.9/24")] {
            ns.set_up("net0");
            ns.add_address("net0", address);
            ns.rebase();
        }
        let address = json!({"type": "static", "addresses": [{"address": "10.9.0.2/24"}]});
        let config = network(json!({"ipam": address, "master": "net0", "linkInContainer": true}));
        let call = ipvlan(lab, &config).netns(&c1);
        let result = call.add().ok();
        assert!(c2.pings(ip("10.9.0.2")));
        call.clone().config(&with_result(config, &result)).check().ok();
        call.del().ok();
        // In a chain the interface that an earlier plugin made is the master, and its addresses are this one's.
        let path = c1.path().to_str().expect("a path").to_owned();
        let previous = |interfaces: Value, ips: Value| {
            let result = json!({
                "cniVersion": "1.1.0", "interfaces": interfaces, "ips": ips, "dns": {"nameservers": ["192.0.2.53"]},
            });
            with_result(network(json!({"ipam": null, "master": null})), &result)
        };
        let (made, given) =
            (json!([{"name": "net0", "sandbox": path}]), json!([{"address": "10.9.0.3/24", "interface": 0}]));
        let call = ipvlan(lab, &previous(made.clone(), given.clone())).netns(&c1);
        let result = call.add().ok();
        assert_eq!(
            (&result["ips"][0]["address"], &result["ips"][0]["interface"]),
            (&json!("10.9.0.3/24"), &json!(0))
        );
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            (&result["interfaces"][0]["name"], &result["dns"]["nameservers"][0]),
            (&json!("eth0"), &json!("192.0.2.53"))
        );
        assert!(c2.pings(ip("10.9.0.3")));
        call.del().ok();
        // On the host.
        let on_host = json!([{"name": "up0"}]);
        let call = ipvlan(lab, &previous(on_host, json!([{"address": "198.51.100.30/24"}]))).netns(&c1);
        call.add().ok();
        assert!(c1.pings(ip("198.51.100.254")));
        call.del().ok();
        for (interfaces, ips, expected) in [
            (
                json!([]),
                given.clone(),
                "ipvlan: prevResult.interfaces: 0: of several or no interfaces none is the master",
            ),
            (made, json!([]), "ipvlan: ipam: null: an address plugin is needed, as none before this one"),
            (json!([{"name": "nope"}]), given, "ipvlan: master: nope: the host has no such link"),
        ] {
            let said = message(ipvlan(lab, &previous(interfaces, ips)).netns(&c1).add(), 7);
            assert!(said.starts_with(expected), "{said}");
        }
    });
}
