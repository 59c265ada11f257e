//! ADD, CHECK and DEL when all goes well.

use serde_json::{Value, json};

use crate::net::{attach, call, dual_stack, ip, layer2, other_network, run, with_result};

#[test]
fn two_containers_reach_each_other_and_their_gateway() {
    run("two_containers", |lab| {
        let config = dual_stack(json!({}));
        let (one, two) = (attach(lab, &config, "one"), attach(lab, &config, "two"));
        assert_eq!(one.result["ips"][0]["address"], "10.1.0.2/16");
        assert_eq!(two.result["ips"][1]["address"], "fd00:1::3/64");
        for address in ["10.1.0.3", "10.1.0.1", "fd00:1::3", "fd00:1::1"] {
            assert!(one.ns.pings(address.parse().unwrap()), "{address}");
        }
        for container in [one, two] {
            container.check().ok();
            container.detach();
            container.detach();
        }
    });
}

#[test]
fn the_result_names_what_was_made() {
    run("result", |lab| {
        let one = attach(lab, &dual_stack(json!({})), "one");
        let interfaces = one.result["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), 3);
        assert_eq!(interfaces[0]["name"], "cni0");
        assert!(interfaces[0].get("sandbox").is_none());
        assert!(one.host_end().starts_with("veth"));
        assert_eq!(interfaces[2]["name"], "eth0");
        assert_eq!(interfaces[2]["sandbox"], one.ns.path().to_str().unwrap());
        let (bridge, host) =
            (ip(lab.host(), "link show cni0"), ip(lab.host(), &format!("link show {}", one.host_end())));
        let container = ip(&one.ns, "link show eth0");
        for (interface, link) in interfaces.iter().zip([&bridge, &host, &container]) {
            assert_eq!(interface["mac"], link[0]["address"]);
            assert_eq!(interface["mtu"], 1500);
        }
        assert_eq!(host[0]["ifalias"], "tenon:net:one:eth0");
        assert_eq!(
            one.result["routes"],
            json!([{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0", "gw": "fd00:1::1"}])
        );
        one.detach();
    });
}

#[test]
fn a_network_without_addresses() {
    run("layer2", |lab| {
        for config in [layer2(json!({})), layer2(json!({"ipam": {}})), layer2(json!({"ipam": null}))] {
            let ns = lab.netns("one");
            let call = call(lab, &config, &ns);
            let result = call.add().ok();
            assert!(result.get("ips").is_none());
            assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
            // The reference's CHECK fails here: it looks for an address plugin without a name.
            call.clone().config(&with_result(config, &result)).check().ok();
            call.del().ok();
            lab.remove_netns(ns);
        }
    });
}

#[test]
fn one_container_on_two_networks_and_twice_on_one() {
    run("several_interfaces", |lab| {
        let config = dual_stack(json!({"ipMasq": true}));
        let other = other_network(json!({"ipMasq": true, "isDefaultGateway": false, "isGateway": true}));
        let first = attach(lab, &config, "one");
        let second = first.call.clone().ifname("eth1").config(&other);
        // A second default route of one metric is the runtime's mistake, so this one is given none.
        let third_config = dual_stack(json!({"ipMasq": true, "isDefaultGateway": false}));
        let third = first.call.clone().ifname("eth2").config(&third_config);
        let (two, three) = (second.add().ok(), third.add().ok());
        second.config(&with_result(other, &two)).del().ok();
        // The reference's masquerading chain knows no interface: this DEL takes the first one's rules with it.
        third.config(&with_result(third_config, &three)).del().ok();
        first.check().ok();
        first.detach();
    });
}

/// A reminder of what a result is: the names that `ip` gives to nothing.
#[test]
fn nothing_but_the_interface_is_made_in_the_container() {
    run("nothing_else", |lab| {
        let one = attach(lab, &dual_stack(json!({})), "one");
        assert_eq!(one.ns.links(), ["eth0", "lo"].map(String::from).into());
        assert_eq!(one.ns.addresses("eth0"), ["10.1.0.2/16", "fd00:1::2/64"]);
        let routes: Value = ip(&one.ns, "route show");
        assert_eq!(routes.as_array().unwrap().len(), 2, "{routes}");
        one.detach();
        assert_eq!(one.ns.links(), ["lo"].map(String::from).into());
    });
}
