//! The container's side: duplicate detection, an interface that stays down, MAC addresses, DNS, IPv6 that is off.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::net::{attach, call, dual_stack, fixed, ip, layer2, leases, message, run, with_result};

/// RFC 4862 waits a second after its one probe.
const DAD: Duration = Duration::from_secs(1);

#[test]
fn addresses_are_usable_at_once() {
    run("no_dad", |lab| {
        let ns = lab.netns("one");
        // A probe would take minutes, on the fastest machine as on the slowest.
        ns.set_sysctl("net.ipv6.conf.default.dad_transmits", "100");
        ns.rebase();
        let call = call(lab, &dual_stack(json!({})), &ns);
        call.add().ok();
        let tentative = ns.exec(&["ip", "-6", "address", "show", "tentative", "scope", "global"]).ok();
        assert_eq!(tentative, "");
        assert!(ns.pings("fd00:1::1".parse().unwrap()));
        call.del().ok();
    });
}

#[test]
fn enabledad_finds_a_duplicate() {
    run("dad", |lab| {
        let config = |detect: bool| fixed(&["fd00:1::5/64"], json!({"enabledad": detect}));
        let start = Instant::now();
        let one = attach(lab, &config(true), "one");
        assert!(start.elapsed() >= DAD, "{:?}", start.elapsed());
        let ns = lab.netns("two");
        let error = call(lab, &config(true), &ns).add().err(999);
        assert!(message(&error).contains("fd00:1::5"), "{error}");
        assert_eq!(ns.links().len(), 1);
        // Who doesn't ask isn't told.
        let two = call(lab, &config(false), &ns);
        two.add().ok();
        two.del().ok();
        one.detach();
    });
}

#[test]
fn an_interface_may_stay_down() {
    run("interface_down", |lab| {
        let one = attach(lab, &layer2(json!({"disableContainerInterface": true})), "one");
        let is_up = |one: &crate::net::Container| {
            ip(&one.ns, "link show eth0")[0]["flags"].as_array().unwrap().contains(&json!("UP"))
        };
        assert!(!is_up(&one));
        one.check().ok();
        // Whoever comes later in the chain may set it up.
        one.ns.set_up("eth0");
        one.check().ok();
        one.detach();
        one.ns.rebase();
        let config = dual_stack(json!({"disableContainerInterface": true}));
        let error = call(lab, &config, &one.ns).add().err(7);
        assert_eq!(
            message(&error),
            "bridge: disableContainerInterface: true: an interface that stays down can't have the addresses of ipam"
        );
        assert!(leases("net").is_empty());
    });
}

#[test]
fn the_mac_address_is_the_one_of_the_strongest_source() {
    run("mac", |lab| {
        let [argument, args, runtime] = ["02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"];
        let cases: [(&str, Value, &str); 4] = [
            ("MAC=02:00:00:00:00:01", json!({}), argument),
            ("MAC=02:00:00:00:00:01", json!({"args": {"cni": {"mac": args}}}), args),
            (
                "MAC=02:00:00:00:00:01",
                json!({"args": {"cni": {"mac": args}}, "runtimeConfig": {"mac": runtime}}),
                runtime,
            ),
            ("IgnoreUnknown=1;K8S_POD_NAME=web", json!({"runtimeConfig": {"mac": runtime}}), runtime),
        ];
        let ns = lab.netns("one");
        for (variable, more, expected) in cases {
            let call = call(lab, &dual_stack(more), &ns).args(variable);
            let result = call.add().ok();
            assert_eq!(result["interfaces"][2]["mac"], expected);
            assert_eq!(ip(&ns, "link show eth0")[0]["address"], expected);
            call.del().ok();
        }
    });
}

#[test]
fn a_mac_address_that_is_none_leaves_nothing() {
    run("bad_mac", |lab| {
        let ns = lab.netns("one");
        let config = |mac: &str| dual_stack(json!({"runtimeConfig": {"mac": mac}}));
        for (mac, why) in [
            ("02:00", "is not"),
            ("01:00:5e:00:00:01", "is not the address of one interface"),
            ("00:00:00:00:00:00", "is not the address of one interface"),
        ] {
            let error = call(lab, &config(mac), &ns).add().err(7);
            assert!(message(&error).starts_with(&format!("bridge: runtimeConfig.mac: {mac}: ")), "{error}");
            assert!(message(&error).contains(why), "{error}");
        }
        let error = call(lab, &dual_stack(json!({})), &ns).args("MAC=x").add().err(7);
        assert!(message(&error).starts_with("bridge: CNI_ARGS MAC: x: "), "{error}");
        assert!(!lab.host().has_link("cni0") && leases("net").is_empty());
    });
}

#[test]
fn the_configurations_dns_replaces_that_of_the_address_plugin() {
    run("dns", |lab| {
        let resolv = lab.dir().join("resolv.conf");
        std::fs::write(&resolv, "nameserver 10.0.0.53\nsearch inside.test\n").unwrap();
        let ns = lab.netns("one");
        let given = json!({"nameservers": ["10.0.0.53"], "search": ["inside.test"]});
        let own = json!({"domain": "own.test"});
        for (dns, expected) in [(json!(null), &given), (json!({}), &given), (own.clone(), &own)] {
            let mut config = dual_stack(json!({"dns": dns}));
            config["ipam"]["resolvConf"] = json!(resolv);
            let call = call(lab, &config, &ns);
            assert_eq!(call.add().ok()["dns"], *expected);
            call.del().ok();
        }
    });
}

#[test]
fn ipv6_that_is_off_by_default_is_switched_on_where_the_network_has_it() {
    run("disable_ipv6", |lab| {
        let ns = lab.netns("one");
        ns.set_sysctl("net.ipv6.conf.default.disable_ipv6", "1");
        ns.set_sysctl("net.ipv6.conf.lo.disable_ipv6", "1");
        let config = dual_stack(json!({}));
        let call = call(lab, &config, &ns);
        let result = call.add().ok();
        assert!(ns.pings("fd00:1::1".parse().unwrap()));
        assert_eq!(ns.sysctl("net.ipv6.conf.lo.disable_ipv6"), "0");
        call.clone().config(&with_result(config, &result)).check().ok();
        call.del().ok();
        ns.rebase();
    });
}

/// As the reference sets them.
#[test]
fn addresses_survive_a_link_that_goes_down_and_neighbours_hear_of_a_new_mac() {
    run("container_settings", |lab| {
        let one = attach(lab, &dual_stack(json!({})), "one");
        assert_eq!(one.ns.sysctl("net/ipv4/conf/eth0/arp_notify"), "1");
        assert_eq!(one.ns.sysctl("net/ipv6/conf/eth0/keep_addr_on_down"), "1");
        one.ns.exec(&["ip", "link", "set", "eth0", "down"]).ok();
        assert_eq!(one.ns.addresses("eth0"), ["10.1.0.2/16", "fd00:1::2/64"]);
        one.detach();
    });
}
