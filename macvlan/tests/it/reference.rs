//! What the reference's macvlan gets wrong, each once. Others of its mistakes are where the matter is tested: DEL without the
//! master, a failed ADD's interface, GC.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testenv::{ns::Ns, wait::poll};

use crate::{ip, lan, macvlan, network, with_result};

/// The addresses of `eth0` as iproute2 knows them.
fn addresses(container: &Ns) -> Vec<Value> {
    let said = container.exec(&["ip", "-j", "address", "show", "dev", "eth0"]).ok();
    let links: Value = serde_json::from_str(&said).expect("JSON");
    links[0]["addr_info"].as_array().expect("addresses").clone()
}

/// It waits until IPv6 addresses have been probed for, which nobody answers who got them from an allocator: 2 s, and 5 s
/// where the master has no carrier.
#[test]
fn no_address_is_waited_for() {
    lan("macvlan_no_wait", |lab, outside| {
        let c1 = lab.netns("c1");
        let call = macvlan(lab, &network(json!({}))).netns(&c1);
        let began = Instant::now();
        call.add().ok();
        let with_carrier = began.elapsed();
        let of_allocator = |address: &&Value| address["scope"] == "global";
        for address in addresses(&c1).iter().filter(of_allocator) {
            assert_eq!(address.get("tentative"), None, "{address}");
        }
        assert!(c1.pings(ip("2001:db8:1::254")));
        call.del().ok();
        outside.set_down("in0");
        let began = Instant::now();
        call.add().ok();
        let without = began.elapsed();
        assert!(
            without < with_carrier + Duration::from_secs(4),
            "{with_carrier:?}, {without:?} without carrier"
        );
        assert_eq!(addresses(&c1).iter().filter(of_allocator).count(), 2);
        call.del().ok();
        outside.set_up("in0");
    });
}

/// It forgets what it was given when that is nothing of use: the lease is never given back.
#[test]
fn an_address_plugin_that_gives_nothing_gets_a_del() {
    lan("macvlan_empty", |lab, _| {
        let (c1, dir) = (lab.netns("c1"), lab.plugin_dir(&["macvlan"], &[]));
        let calls = lab.empty_plugin(&dir);
        let config = network(json!({"ipam": {"type": "empty"}}));
        let error = lab.peer(&dir, "macvlan").config(&config).netns(&c1).add().err(7);
        assert!(error["msg"].as_str().is_some_and(|text| text.ends_with("gave no address")), "{error}");
        assert_eq!(fs::read_to_string(calls).expect("it was called"), "ADD\nDEL\n");
        assert!(!c1.has_link("eth0"));
    });
}

/// It puts its own empty answer in place of the address plugin's name servers.
#[test]
fn the_address_plugins_dns_is_kept() {
    lan("macvlan_dns", |lab, _| {
        let c1 = lab.netns("c1");
        let file = lab.dir().join("resolv.conf");
        lab.write(&file, "nameserver 192.0.2.53\nsearch lan.example\n");
        let mut config = network(json!({}));
        config["ipam"]["resolvConf"] = json!(file);
        for (dns, expected) in
            [(Value::Null, "192.0.2.53"), (json!({"nameservers": ["192.0.2.1"]}), "192.0.2.1")]
        {
            config["dns"] = dns;
            let call = macvlan(lab, &config).netns(&c1);
            assert_eq!(call.add().ok()["dns"]["nameservers"], json!([expected]));
            call.del().ok();
        }
    });
}

/// It leaves MTU and MSS of routes out, and its CHECK is content with any default route.
#[test]
fn routes_are_as_the_result_says() {
    lan("macvlan_routes", |lab, _| {
        let c1 = lab.netns("c1");
        let mut config = network(json!({}));
        config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0", "mtu": 1300, "advmss": 1200}]);
        let call = macvlan(lab, &config).netns(&c1);
        let checked = call.clone().config(&with_result(config, &call.add().ok()));
        checked.check().ok();
        let route = c1.exec(&["ip", "route", "show", "default"]).ok();
        assert!(route.contains("mtu 1300") && route.contains("advmss 1200"), "{route}");
        c1.exec(&["ip", "route", "replace", "default", "via", "198.51.100.7"]).ok();
        assert_eq!(
            checked.check().err(999)["msg"],
            "macvlan: the route to 0.0.0.0/0 via 198.51.100.254 in table 254 is gone"
        );
        call.del().ok();
    });
}

/// plugins#756: it only sets `arp_notify`, and neighbours go on with the last owner's MAC address.
#[test]
fn a_reused_address_is_reachable_at_once() {
    lan("macvlan_reuse", |lab, outside| {
        for name in ["first", "second", "third"] {
            let container = lab.netns(name);
            let mut config = network(json!({}));
            config["ipam"] = json!({"type": "static", "addresses": [
                {"address": "198.51.100.50/24"}, {"address": "2001:db8:1::50/64"},
            ]});
            let call = macvlan(lab, &config).container(name).netns(&container);
            call.add().ok();
            for address in ["198.51.100.50", "2001:db8:1::50"].map(ip) {
                // An old entry is trusted for five seconds and more.
                let reached =
                    poll(Duration::from_secs(3), || outside.ping(address, Duration::from_millis(200)).ok());
                assert!(reached.is_some(), "{name} as {address}");
            }
            call.del().ok();
        }
    });
}
