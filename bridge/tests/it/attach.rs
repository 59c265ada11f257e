//! ADD, CHECK and DEL when all goes well.

use serde_json::{Value, json};
use testenv::lab;

use crate::net::{bridge, dual_stack, layer2, with_result};

#[test]
fn two_containers_reach_each_other_and_their_gateway() {
    lab::run("two_containers", |lab| {
        let config = dual_stack(json!({}));
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let call = bridge(lab, &config);
        let first = call.clone().container("one").netns(&c1);
        let second = call.container("two").netns(&c2);
        let (one, two) = (first.add().ok(), second.add().ok());

        assert_eq!(one["ips"][0]["address"], "10.1.0.2/16");
        assert_eq!(two["ips"][1]["address"], "fd00:1::3/64");
        for address in ["10.1.0.3", "10.1.0.1", "fd00:1::3", "fd00:1::1"] {
            assert!(c1.pings(address.parse().unwrap()), "{address}");
        }
        for (call, result) in [(&first, &one), (&second, &two)] {
            call.clone().config(&with_result(config.clone(), result)).check().ok();
            call.del().ok();
            call.del().ok();
        }
    });
}

#[test]
fn the_result_names_what_was_made() {
    lab::run("result", |lab| {
        let config = dual_stack(json!({}));
        let c1 = lab.netns("c1");
        let call = bridge(lab, &config).netns(&c1);
        let result = call.add().ok();
        let interfaces = result["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), 3);
        assert_eq!(interfaces[0]["name"], "cni0");
        assert!(interfaces[0].get("sandbox").is_none());
        let host = interfaces[1]["name"].as_str().unwrap();
        assert!(host.starts_with("veth") && lab.host().has_link(host));
        assert_eq!(interfaces[2]["name"], "eth0");
        assert_eq!(interfaces[2]["sandbox"], c1.path().to_str().unwrap());
        assert_eq!(interfaces[2]["mtu"], 1500);
        let links: Value =
            serde_json::from_str(&c1.exec(&["ip", "-j", "link", "show", "eth0"]).ok()).unwrap();
        assert_eq!(interfaces[2]["mac"], links[0]["address"]);
        let links: Value = serde_json::from_str(&lab.exec(&["ip", "-j", "link", "show", host]).ok()).unwrap();
        assert_eq!(interfaces[1]["mac"], links[0]["address"]);
        assert_eq!(links[0]["ifalias"], "tenon:net:c1:eth0");
        assert_eq!(
            result["routes"],
            json!([{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0", "gw": "fd00:1::1"}])
        );
        call.del().ok();
    });
}

#[test]
fn a_network_without_addresses() {
    lab::run("layer2", |lab| {
        let config = layer2(json!({}));
        let c1 = lab.netns("c1");
        let call = bridge(lab, &config).netns(&c1);
        let result = call.add().ok();
        assert!(result.get("ips").is_none());
        assert_eq!(result["interfaces"].as_array().unwrap().len(), 3);
        // The reference's CHECK fails here: it looks for an address plugin without a name.
        call.clone().config(&with_result(config, &result)).check().ok();
        call.del().ok();
    });
}

#[test]
fn masquerade_hides_the_container_outside_and_nowhere_else() {
    lab::run("masquerade", |lab| {
        let outside = lab.outside("up0");
        lab.rebase();
        lab.allow_tables();
        let config = dual_stack(json!({"ipMasq": true}));
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let call = bridge(lab, &config);
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
        second.del().ok();
    });
}
