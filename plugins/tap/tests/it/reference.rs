//! What the reference's tap gets wrong, each once. That it starts `ip` is in `undo`.

use std::fs;

use serde_json::{Value, json};

use crate::{link, message, network, run, tap, with_result};

/// It copies the attributes before the address is among them.
#[test]
fn the_mac_is_kept_with_owner_and_group() {
    run("tap_mac", |lab| {
        let c1 = lab.netns("c1");
        let config =
            network(json!({"mac": "02:00:00:00:00:09", "owner": 1234, "group": 4321, "multiQueue": true}));
        let call = tap(lab, &config).netns(&c1);
        assert_eq!(call.add().ok()["interfaces"][0]["mac"], "02:00:00:00:00:09");
        let shown = link(&c1);
        assert_eq!(shown["address"], "02:00:00:00:00:09");
        assert_eq!(shown["linkinfo"]["info_data"]["user"], 1234, "{shown}");
        call.del().ok();
    });
}

/// Its error is shadowed: the interface stays when the address plugin fails. And it takes a failed renaming for success, here of a
/// name that the container has.
#[test]
fn a_failed_add_leaves_nothing() {
    run("tap_rollback", |lab| {
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let mut config = network(json!({}));
        config["ipam"]["routes"] = json!([]);
        config["ipam"]["ranges"] =
            json!([[{"subnet": "10.24.0.0/24", "rangeStart": "10.24.0.5", "rangeEnd": "10.24.0.5"}]]);
        let first = tap(lab, &config).container("one").netns(&c1);
        first.add().ok();
        let second = tap(lab, &config).container("two").netns(&c2);
        second.add().err(999);
        assert_eq!(c2.links().len(), 1);
        let taken = "tap: CNI_IFNAME: eth0: the container has an interface of that name already";
        assert_eq!(message(&first.add().err(7)), taken);
        assert!(c1.has_link("eth0") && c1.addresses("eth0").contains(&"10.24.0.5/24".to_owned()));
        first.del().ok();
        let unknown = |kind: &str| {
            let mut config = network(json!({}));
            config["ipam"]["type"] = json!(kind);
            tap(lab, &config).netns(&c1)
        };
        assert!(
            message(&unknown("nope").add().err(7)).starts_with("tap: ipam.type: \"nope\": no such plugin")
        );
        let why = "tap: ipam.type: \"dhcp\": asks through the interface, which carries nothing before a process has its other end";
        assert_eq!(message(&unknown("dhcp").add().err(7)), why);
        assert_eq!(c1.links().len(), 1);
    });
}

/// It forgets what it was given when that is nothing of use: the lease is never given back.
#[test]
fn an_address_plugin_that_gives_nothing_gets_a_del() {
    run("tap_empty", |lab| {
        let (c1, dir) = (lab.netns("c1"), lab.plugin_dir(&["tap"], &[]));
        let calls = lab.empty_plugin(&dir);
        let config = network(json!({"ipam": {"type": "empty"}}));
        let error = lab.peer(&dir, "tap").config(&config).netns(&c1).add().err(7);
        assert!(message(&error).ends_with("gave no address"), "{error}");
        assert_eq!(fs::read_to_string(calls).expect("it was called"), "ADD\nDEL\n");
        assert!(!c1.has_link("eth0"));
    });
}

/// It puts its own empty answer in place of the address plugin's name servers.
#[test]
fn the_address_plugins_dns_is_kept() {
    run("tap_dns", |lab| {
        let c1 = lab.netns("c1");
        let file = lab.dir().join("resolv.conf");
        lab.write(&file, "nameserver 192.0.2.53\nsearch machines.example\n");
        let mut config = network(json!({}));
        config["ipam"]["resolvConf"] = json!(file);
        for (dns, expected) in
            [(Value::Null, "192.0.2.53"), (json!({"nameservers": ["192.0.2.1"]}), "192.0.2.1")]
        {
            config["dns"] = dns;
            let call = tap(lab, &config).netns(&c1);
            assert_eq!(call.add().ok()["dns"]["nameservers"], json!([expected]));
            call.del().ok();
        }
    });
}

/// It leaves MTU and MSS of routes out, its CHECK is content with any default route, and it waits for IPv6: without a carrier, in
/// vain for five seconds.
#[test]
fn routes_and_addresses_are_as_the_result_says_at_once() {
    run("tap_routes", |lab| {
        let c1 = lab.netns("c1");
        let mut config = network(json!({}));
        config["ipam"]["routes"] = json!([
            {"dst": "0.0.0.0/0", "gw": "10.24.0.1", "mtu": 1300, "advmss": 1200}, {"dst": "::/0", "gw": "fd00:24::1"},
        ]);
        let call = tap(lab, &config).netns(&c1);
        let began = std::time::Instant::now();
        let result = call.add().ok();
        assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
        let said =
            c1.exec(&["ip", "-6", "address", "show", "dev", "eth0", "tentative", "scope", "global"]).ok();
        assert_eq!(said, "");
        let checked = call.clone().config(&with_result(config, &result));
        checked.check().ok();
        let route = c1.exec(&["ip", "route", "show", "default"]).ok();
        assert!(route.contains("mtu 1300") && route.contains("advmss 1200"), "{route}");
        c1.exec(&["ip", "-6", "route", "replace", "default", "via", "fd00:24::7"]).ok();
        let error = checked.check().err(999);
        assert_eq!(message(&error), "tap: the route to ::/0 via fd00:24::1 in table 254 is gone");
        call.del().ok();
    });
}

/// Its CHECK does not look at the interface, and DEL wants a configuration that can be read.
#[test]
fn check_looks_at_the_interface_and_del_needs_nothing() {
    run("tap_check", |lab| {
        let c1 = lab.netns("c1");
        let config = network(json!({}));
        let call = tap(lab, &config).netns(&c1);
        let checked = call.clone().config(&with_result(config, &call.add().ok()));
        c1.exec(&["ip", "link", "set", "eth0", "down"]).ok();
        assert_eq!(message(&checked.check().err(999)), "tap: eth0 is down");
        c1.exec(&["ip", "link", "del", "eth0"]).ok();
        assert_eq!(message(&checked.check().err(999)), "tap: eth0 is gone");
        let nonsense = network(json!({"mtu": "x", "owner": -1, "bridge": 7}));
        call.config(&nonsense).del().ok();
        // Another link of that name is left alone.
        c1.add_bridge("eth0");
        tap(lab, &network(json!({}))).netns(&c1).del().ok();
        assert!(c1.has_link("eth0"));
        c1.remove_link("eth0");
    });
}
