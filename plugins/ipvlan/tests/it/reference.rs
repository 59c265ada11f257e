//! What the reference's ipvlan gets wrong, each once. Others of its mistakes are where the matter is tested: GC, STATUS, the name of
//! the host's link.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testenv::{lab::Lab, ns::Ns, wait::poll};

use crate::{ip, ipvlan, lan, message, network, with_result};

/// What is left: nothing, with and without the master, the namespace, success.
#[test]
fn nothing_is_left() {
    lan("ipvlan_left", |lab, _| {
        let c1 = lab.netns("c1");
        del_needs_neither_master_nor_namespace(lab, &c1);
        a_failed_add_leaves_nothing(lab, &c1);
        a_link_that_can_not_be_made_in_the_container_is_an_error(lab, &c1);
    });
}

/// What the container has.
#[test]
fn the_container_is_as_the_result_says() {
    lan("ipvlan_result", |lab, outside| {
        let c1 = lab.netns("c1");
        a_reused_address_is_reachable_at_once(lab, outside, &c1);
        the_address_plugins_dns_is_kept(lab, &c1);
        routes_are_as_the_result_says(lab, &c1);
        no_address_is_waited_for_even_where_ipv6_is_off(lab, outside, &c1);
    });
}

/// Its DEL looks for the master first, and for the default route's link where none is named: without it, addresses are lost.
fn del_needs_neither_master_nor_namespace(lab: &Lab, c1: &Ns) {
    for (config, netns) in [
        (network(json!({"master": "gone"})), c1.path().to_str().expect("a path")),
        (network(json!({"master": null})), ""),
        (network(json!({"mode": "nonsense"})), "/run/netns/gone"),
    ] {
        ipvlan(lab, &network(json!({}))).netns(c1).add().ok();
        lab.exec(&["ip", "route", "del", "default"]).ok();
        let call = ipvlan(lab, &config).netns_path(netns);
        call.del().ok();
        call.del().ok();
        lab.exec(&["ip", "route", "add", "default", "via", "198.51.100.254", "proto", "static"]).ok();
        assert_eq!(leases(), 0, "{netns}");
        assert!(!c1.has_link("eth0"), "{netns}");
    }
}

/// It never removes the interface when a later step fails; and it forgets what an address plugin gave that is nothing of use.
fn a_failed_add_leaves_nothing(lab: &Lab, c1: &Ns) {
    let (c2, dir) = (lab.netns("c2"), lab.plugin_dir(&["ipvlan"], &[]));
    let calls = lab.empty_plugin(&dir);
    let config = network(json!({"ipam": {"type": "empty"}}));
    let said = message(lab.peer(&dir, "ipvlan").config(&config).netns(c1).add(), 7);
    assert!(said.ends_with("gave no address"), "{said}");
    assert_eq!(fs::read_to_string(calls).expect("it was called"), "ADD\nDEL\n");
    assert!(!c1.has_link("eth0"));
    let mut lost = network(json!({}));
    lost["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}]);
    let said = message(ipvlan(lab, &lost).netns(c1).add(), 999);
    assert!(said.contains("192.0.2.0/24"), "{said}");
    let static_ = json!({"type": "static", "addresses": [{"address": "198.51.100.50/24"}]});
    let config = network(json!({"ipam": static_}));
    let first = ipvlan(lab, &config).container("one").netns(c1);
    first.add().ok();
    // The kernel refuses an address that another interface on the master has.
    let said = message(ipvlan(lab, &config).container("two").netns(&c2).add(), 999);
    assert!(said.contains("add address 198.51.100.50/24 to eth0"), "{said}");
    assert!(!c2.has_link("eth0") && c1.pings(ip("198.51.100.254")));
    first.del().ok();
    assert_eq!(
        message(ipvlan(lab, &network(json!({"master": "nope"}))).netns(c1).add(), 7),
        "ipvlan: master: nope: the host has no such link"
    );
}

/// With `linkInContainer` it drops the kernel's refusal, and goes on to an interface that is not there.
fn a_link_that_can_not_be_made_in_the_container_is_an_error(lab: &Lab, c1: &Ns) {
    let config = network(json!({"master": "lo", "linkInContainer": true}));
    let said = message(ipvlan(lab, &config).netns(c1).add(), 999);
    assert!(said.starts_with("ipvlan: add ipvlan eth0: Invalid argument"), "{said}");
    assert!(!c1.has_link("eth0"));
}

/// It waits until IPv6 addresses have been probed for, which nobody answers who got them from an allocator.
fn no_address_is_waited_for_even_where_ipv6_is_off(lab: &Lab, outside: &Ns, c1: &Ns) {
    let call = ipvlan(lab, &network(json!({}))).netns(c1);
    let mut with_carrier = Duration::MAX;
    for (off, carrier) in [("0", true), ("1", true), ("0", false)] {
        c1.set_sysctl("net.ipv6.conf.default.disable_ipv6", off);
        if !carrier {
            outside.set_down("in0");
        }
        let began = Instant::now();
        call.add().ok();
        let took = began.elapsed();
        // A guest takes its time; the reference's wait is 5 s more where the master has no carrier.
        if carrier {
            with_carrier = took;
        } else {
            assert!(
                took < with_carrier + Duration::from_secs(4),
                "{with_carrier:?}, {took:?} without carrier"
            );
        }
        let said = c1.exec(&["ip", "-j", "address", "show", "dev", "eth0"]).ok();
        let links: Value = serde_json::from_str(&said).expect("JSON");
        let addresses = links[0]["addr_info"].as_array().expect("addresses");
        let given: Vec<_> = addresses.iter().filter(|address| address["scope"] == "global").collect();
        assert_eq!(given.len(), 2, "{said}");
        assert!(given.iter().all(|address| address.get("tentative").is_none()), "{said}");
        if carrier {
            assert!(c1.pings(ip("2001:db8:1::254")) && c1.pings(ip("198.51.100.254")));
        }
        call.del().ok();
    }
    outside.set_up("in0");
}

/// plugins#756: neighbours go on with the last owner's MAC address. Here that was another link of the host's.
fn a_reused_address_is_reachable_at_once(lab: &Lab, outside: &Ns, c1: &Ns) {
    let addresses = json!([{"address": "198.51.100.50/24"}, {"address": "2001:db8:1::50/64"}]);
    let config = network(json!({"ipam": {"type": "static", "addresses": addresses}}));
    let before: Vec<_> = [ip("198.51.100.50"), ip("2001:db8:1::50")].into();
    for address in &before {
        let address = address.to_string();
        let words =
            ["ip", "neigh", "replace", &address, "lladdr", "02:00:00:00:00:99", "dev", "in0", "nud", "stale"];
        outside.exec(&words).ok();
    }
    let call = ipvlan(lab, &config).netns(c1);
    let mac = call.add().ok()["interfaces"][0]["mac"].as_str().expect("a MAC address").to_owned();
    for address in before.iter().map(ToString::to_string) {
        let known = || outside.exec(&["ip", "neigh", "show", &address, "dev", "in0"]).stdout;
        poll(Duration::from_secs(3), || known().contains(&mac).then_some(()))
            .unwrap_or_else(|| panic!("{address}: {}", known()));
    }
    call.del().ok();
    outside.exec(&["ip", "neigh", "flush", "dev", "in0"]).ok();
}

/// It puts its own empty answer in place of the address plugin's name servers.
fn the_address_plugins_dns_is_kept(lab: &Lab, c1: &Ns) {
    let file = lab.dir().join("resolv.conf");
    lab.write(&file, "nameserver 192.0.2.53\nsearch lan.example\n");
    let mut config = network(json!({}));
    config["ipam"]["resolvConf"] = json!(file);
    for (dns, expected) in [(Value::Null, "192.0.2.53"), (json!({"nameservers": ["192.0.2.1"]}), "192.0.2.1")]
    {
        config["dns"] = dns;
        let call = ipvlan(lab, &config).netns(c1);
        assert_eq!(call.add().ok()["dns"]["nameservers"], json!([expected]));
        call.del().ok();
    }
}

/// It leaves MTU and MSS of routes out, and its CHECK is content with any default route. Results of three versions; dummy has all.
fn routes_are_as_the_result_says(lab: &Lab, c1: &Ns) {
    for version in ["0.2.0", "0.4.0", "1.1.0"] {
        let mut config = network(json!({"cniVersion": version}));
        config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0", "mtu": 1300, "advmss": 1200}]);
        let call = ipvlan(lab, &config).netns(c1);
        let result = call.add().ok();
        assert_eq!(result["cniVersion"], version);
        let first = if version < "0.3.0" { &result["ip4"]["ip"] } else { &result["ips"][0]["address"] };
        assert!(
            first.as_str().is_some_and(|first| c1.addresses("eth0").contains(&first.to_owned())),
            "{result}"
        );
        let route = c1.exec(&["ip", "route", "show", "default"]).ok();
        assert!(route.contains("mtu 1300") && route.contains("advmss 1200"), "{route}");
        let call = call.config(&with_result(config, &result));
        if version >= "0.4.0" {
            call.check().ok();
            c1.exec(&["ip", "route", "replace", "default", "via", "198.51.100.7"]).ok();
            let why = "ipvlan: the route to 0.0.0.0/0 via 198.51.100.254 in table 254 is gone";
            assert_eq!(message(call.check(), 999), why);
        }
        call.del().ok();
    }
}

/// How many addresses of IPv4 the network has given out.
fn leases() -> usize {
    let files = fs::read_dir("/var/lib/cni/networks/lan").into_iter().flatten().flatten();
    files.filter(|file| file.file_name().to_string_lossy().parse::<Ipv4Addr>().is_ok()).count()
}
