//! The ptp plugin as a runtime sees it: the real binary against the real kernel, in labs.

mod reference;

use std::path::Path;

use serde_json::{Value, json};
use testenv::{
    lab::{self, Lab},
    plugin::PluginCall,
};

/// A dual-stack network, with `more` over it.
fn network(more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "ptp",
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00:1::/64"}]],
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

/// A call of the plugin in a lab where forwarding and the allocator's notes may stay.
fn ptp(lab: &Lab, config: &Value) -> PluginCall {
    lab.allow_forwarding();
    lab.allow_state("net");
    lab.allow_tables();
    lab.plugin("ptp").config(config)
}

#[test]
fn two_containers_reach_each_other_through_the_host() {
    lab::run("ptp", |lab| {
        let config = network(json!({}));
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let call = ptp(lab, &config);
        let first = call.clone().container("one").netns(&c1);
        let second = call.container("two").netns(&c2);
        let (one, two) = (first.add().ok(), second.add().ok());
        assert_eq!(one["interfaces"].as_array().unwrap().len(), 2);
        assert_eq!(one["interfaces"][1]["sandbox"], c1.path().to_str().unwrap());
        assert_eq!(two["ips"][1]["address"], "fd00:1::3/64");
        assert_eq!(two["ips"][1]["interface"], 1);
        for address in ["10.1.0.3", "10.1.0.1", "fd00:1::3", "fd00:1::1"] {
            assert!(c1.pings(address.parse().unwrap()), "{address}");
        }
        // The subnet leads through the gateway, not to the link.
        let routes: Value =
            serde_json::from_str(&c1.exec(&["ip", "-j", "route", "show", "10.1.0.0/16"]).ok()).unwrap();
        assert_eq!((routes[0]["gateway"].as_str(), routes.as_array().unwrap().len()), (Some("10.1.0.1"), 1));
        for (call, result) in [(&first, &one), (&second, &two)] {
            call.clone().config(&with_result(config.clone(), result)).check().ok();
            call.del().ok();
            call.del().ok();
        }
    });
}

#[test]
fn masquerade_hides_the_container_outside_only() {
    lab::run("ptp_masquerade", |lab| {
        let outside = lab.outside("up0");
        lab.rebase();
        let config = network(json!({"ipMasq": true}));
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let call = ptp(lab, &config);
        let first = call.clone().container("one").netns(&c1);
        let second = call.container("two").netns(&c2);
        first.add().ok();
        second.add().ok();
        for (server, hidden) in
            [("198.51.100.254:8080", "198.51.100.1"), ("[2001:db8:1::254]:8080", "2001:db8:1::1")]
        {
            let echo = outside.tcp_echo(server.parse().unwrap());
            c1.tcp_talk(echo.address(), "hello").unwrap();
            assert_eq!(echo.seen()[0].ip().to_string(), hidden);
        }
        let echo = c2.tcp_echo("10.1.0.3:8080".parse().unwrap());
        c1.tcp_talk(echo.address(), "hello").unwrap();
        assert_eq!(echo.seen()[0].ip().to_string(), "10.1.0.2");
        first.del().ok();
        // plugins#810: the reference leaves its rules when the namespace is not given.
        second.netns_path("").del().ok();
    });
}

#[test]
fn dns_of_the_configuration_replaces_the_address_plugins_even_when_empty() {
    lab::run("ptp_dns", |lab| {
        let c1 = lab.netns("c1");
        std::fs::write(lab.dir().join("resolv.conf"), "nameserver 192.0.2.53\n").unwrap();
        let mut config = network(json!({}));
        config["ipam"]["resolvConf"] = json!(lab.dir().join("resolv.conf"));
        for (dns, expected) in [
            (Value::Null, json!({"nameservers": ["192.0.2.53"]})),
            (json!({"nameservers": ["192.0.2.1"]}), json!({"nameservers": ["192.0.2.1"]})),
            (json!({"nameservers": []}), Value::Null),
        ] {
            config["dns"] = dns;
            let call = ptp(lab, &config).netns(&c1);
            assert_eq!(call.add().ok()["dns"], expected);
            call.del().ok();
        }
    });
}

#[test]
fn what_can_not_be_is_refused_before_anything_changes() {
    lab::run("ptp_refused", |lab| {
        let c1 = lab.netns("c1");
        for (config, message) in [
            (network(json!({"ipam": {}})), "ptp: ipam: {}: this mode routes, and so needs addresses"),
            (
                network(json!({"ipMasqBackend": "ebpf"})),
                "ptp: ipMasqBackend: \"ebpf\": is neither \"iptables\" nor \"nftables\"",
            ),
            (
                network(json!({"mtu": 3})),
                "ptp: mtu: 3: is neither \"auto\" nor 0 nor a number of bytes from 68 to 65535",
            ),
        ] {
            assert_eq!(lab.plugin("ptp").config(&config).netns(&c1).add().err(7)["msg"], message);
        }
    });
}

/// host-local leases both of its addresses, so neither is the host's unless it is said.
#[test]
fn a_subnet_of_two_addresses_needs_a_named_gateway() {
    lab::run("ptp_pair", |lab| {
        let c1 = lab.netns("c1");
        let mut config = network(json!({}));
        for (subnet, gateway) in [("10.1.0.0/31", "10.1.0.0"), ("fd00:1::/127", "fd00:1::")] {
            config["ipam"]["routes"] = json!([]);
            config["ipam"]["ranges"] = json!([[{"subnet": subnet}]]);
            let error = ptp(lab, &config).netns(&c1).add().err(7);
            let message =
                format!("ptp: ipam: {subnet}: comes without a gateway, and its subnet has no address");
            assert!(error["msg"].as_str().unwrap().starts_with(&message), "{error}");
            config["ipam"]["ranges"] = json!([[{"subnet": subnet, "gateway": gateway}]]);
            let call = ptp(lab, &config).netns(&c1);
            assert_eq!(call.add().ok()["ips"][0]["gateway"], gateway);
            assert!(c1.pings(gateway.parse().unwrap()), "{gateway}");
            call.del().ok();
        }
    });
}

#[test]
fn what_the_go_plugin_attached_is_detached() {
    lab::run("ptp_from_go", |lab| {
        let peer = Path::new("/usr/lib/cni");
        let c1 = lab.netns("c1");
        let mut config = network(json!({"ipMasq": true}));
        config["cniVersion"] = json!("1.0.0");
        lab.allow_forwarding();
        lab.allow_state("net");
        let attached = lab.peer(peer, "ptp").config(&config).netns(&c1).add().ok();
        lab.plugin("ptp").config(&with_result(config, &attached)).netns(&c1).del().ok();
        assert!(!c1.has_link("eth0"));
        // iptables makes its tables as it looks at them; none of the plugin's chains may be left in one.
        let left = lab.exec(&["nft", "list", "ruleset"]).ok();
        assert!(!left.contains("CNI-"), "{left}");
        lab.allow("nft table");
    });
}
