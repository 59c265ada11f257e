//! `isGateway`, `isDefaultGateway` and `forceAddress`.

use serde_json::{Value, json};

use crate::net::{attach, call, dual_stack, fixed, ip, leases, message, run};

/// The default routes of one family inside, by their gateways.
fn default_gateways(ns: &testenv::ns::Ns, family: &str) -> Vec<String> {
    let routes = ip(ns, &format!("{family} route show default"));
    let gateway = |route: &Value| route["gateway"].as_str().unwrap_or("none").to_owned();
    routes.as_array().unwrap().iter().map(gateway).collect()
}

#[test]
fn a_gateway_has_the_subnets_addresses_and_no_default_route() {
    run("gateway", |lab| {
        let config = dual_stack(json!({"isDefaultGateway": false, "isGateway": true}));
        let one = attach(lab, &config, "one");
        assert_eq!(lab.host().addresses("cni0"), ["10.1.0.1/16", "fd00:1::1/64"]);
        assert_eq!(one.result["ips"][0]["gateway"], "10.1.0.1");
        assert!(default_gateways(&one.ns, "-4").is_empty() && default_gateways(&one.ns, "-6").is_empty());
        for forwarding in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            assert_eq!(lab.host().sysctl(forwarding), "1", "{forwarding}");
        }
        one.detach();
    });
}

#[test]
fn without_a_gateway_the_bridge_has_no_address() {
    run("no_gateway", |lab| {
        let config = dual_stack(json!({"isDefaultGateway": false}));
        let (one, two) = (attach(lab, &config, "one"), attach(lab, &config, "two"));
        assert!(lab.host().addresses("cni0").is_empty());
        assert_eq!(lab.host().sysctl("net.ipv4.ip_forward"), "0");
        assert!(one.ns.pings(two.ip(0)) && one.ns.pings(two.ip(1)));
        one.detach();
        two.detach();
    });
}

#[test]
fn a_default_gateway_is_the_way_out_of_both_families() {
    run("default_gateway", |lab| {
        lab.outside("up0");
        let one = attach(lab, &dual_stack(json!({"ipMasq": true})), "one");
        assert_eq!(default_gateways(&one.ns, "-4"), ["10.1.0.1"]);
        assert_eq!(default_gateways(&one.ns, "-6"), ["fd00:1::1"]);
        assert!(one.ns.pings("198.51.100.254".parse().unwrap()));
        assert!(one.ns.pings("2001:db8:1::254".parse().unwrap()));
        one.detach();
    });
}

/// calcGateways of the reference adds a second default route, and its ADD fails with "file exists".
#[test]
fn a_default_route_of_the_address_plugin_is_not_doubled() {
    run("default_route_once", |lab| {
        let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00:1::99"}]);
        let mut config = dual_stack(json!({}));
        config["ipam"]["routes"] = routes;
        let one = attach(lab, &config, "one");
        assert_eq!(default_gateways(&one.ns, "-4"), ["10.1.0.1"]);
        assert_eq!(default_gateways(&one.ns, "-6"), ["fd00:1::99"]);
        one.check().ok();
        one.detach();
    });
}

/// One gateway a subnet: those of one network are no strangers to each other.
#[test]
fn several_subnets_have_a_gateway_each() {
    run("several_subnets", |lab| {
        let ranges =
            json!([[{"subnet": "10.1.0.0/16"}], [{"subnet": "10.2.0.0/24", "gateway": "10.2.0.254"}]]);
        let config = dual_stack(json!({"ipam": {"type": "host-local", "ranges": ranges}}));
        let (one, two) = (attach(lab, &config, "one"), attach(lab, &config, "two"));
        assert_eq!(lab.host().addresses("cni0"), ["10.1.0.1/16", "10.2.0.254/24"]);
        for address in ["10.1.0.1", "10.2.0.254", "10.1.0.3", "10.2.0.2"] {
            assert!(one.ns.pings(address.parse().unwrap()), "{address}");
        }
        one.detach();
        two.detach();
    });
}

#[test]
fn another_ipv4_address_is_in_the_way_unless_forced() {
    run("force_v4", |lab| {
        lab.host().add_bridge("cni0");
        lab.host().add_address("cni0", "10.9.0.1/24");
        let ns = lab.netns("one");
        let error = call(lab, &dual_stack(json!({})), &ns).add().err(7);
        assert_eq!(
            message(&error),
            "bridge: bridge: cni0: has the address 10.9.0.1/24 already, and this network's gateway is \
             10.1.0.1/16, fd00:1::1/64; see forceAddress"
        );
        assert_eq!(lab.host().addresses("cni0"), ["10.9.0.1/24"]);
        assert!(leases("net").is_empty() && ns.links().len() == 1);
        let forced = call(lab, &dual_stack(json!({"forceAddress": true})), &ns);
        forced.add().ok();
        assert_eq!(lab.host().addresses("cni0"), ["10.1.0.1/16", "fd00:1::1/64"]);
        forced.del().ok();
    });
}

#[test]
fn an_overlapping_ipv6_address_is_in_the_way_unless_forced() {
    run("force_v6", |lab| {
        lab.host().add_bridge("cni0");
        lab.host().add_address("cni0", "fd00:1::77/64");
        lab.host().add_address("cni0", "fd00:2::1/64");
        let ns = lab.netns("one");
        let config = |more| {
            let ranges = json!([[{"subnet": "fd00:1::/64"}]]);
            let mut config = dual_stack(json!({"ipam": {"type": "host-local", "ranges": ranges}}));
            config["forceAddress"] = more;
            config
        };
        let error = call(lab, &config(json!(false)), &ns).add().err(7);
        assert!(message(&error).contains("has the address fd00:1::77/64 already"), "{error}");
        let forced = call(lab, &config(json!(true)), &ns);
        forced.add().ok();
        // The one of another subnet is left alone.
        assert_eq!(lab.host().addresses("cni0"), ["fd00:1::1/64", "fd00:2::1/64"]);
        forced.del().ok();
    });
}

#[test]
fn an_ipv6_address_elsewhere_is_not_in_the_way() {
    run("beside_v6", |lab| {
        lab.host().add_bridge("cni0");
        lab.host().add_address("cni0", "fd00:2::1/64");
        let one = attach(lab, &dual_stack(json!({})), "one");
        assert_eq!(lab.host().addresses("cni0").len(), 3);
        one.detach();
    });
}

#[test]
fn an_address_plugin_may_name_the_gateway() {
    run("named_gateway", |lab| {
        let addresses = json!([{"address": "10.1.0.5/24", "gateway": "10.1.0.254"}]);
        let config =
            fixed(&[], json!({"isDefaultGateway": true, "ipam": {"type": "static", "addresses": addresses}}));
        let one = attach(lab, &config, "one");
        assert_eq!(lab.host().addresses("cni0"), ["10.1.0.254/24"]);
        assert_eq!(default_gateways(&one.ns, "-4"), ["10.1.0.254"]);
        one.check().ok();
        one.detach();
    });
}
