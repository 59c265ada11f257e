//! What the reference's vlan gets wrong, each once. Others of its mistakes are where the matter is tested: GC, STATUS, the name of
//! the host's link.

use std::{
    fs,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testenv::{lab::Lab, ns::Ns, wait::poll};

use crate::{described, ip, lan, message, network, vlan, with_result};

/// What is left: nothing, with and without the master, the namespace, success.
#[test]
fn nothing_is_left() {
    lan("vlan_left", |lab, _| {
        let c1 = lab.netns("c1");
        del_needs_neither_master_nor_namespace(lab, &c1);
        a_failed_add_leaves_nothing(lab, &c1);
    });
}

/// What the container has.
#[test]
fn the_container_is_as_the_result_says() {
    lan("vlan_result", |lab, outside| {
        let c1 = lab.netns("c1");
        a_reused_address_is_reachable_at_once(lab, outside, &c1);
        the_address_plugins_dns_is_kept(lab, &c1);
        routes_are_as_the_result_says(lab, &c1);
        no_address_is_waited_for(lab, outside, &c1);
    });
}

/// Its DEL looks for the master first: without it, "Link not found", and the address is lost.
fn del_needs_neither_master_nor_namespace(lab: &Lab, c1: &Ns) {
    let path = c1.path().to_str().expect("a path").to_owned();
    for (config, netns) in [
        (network(json!({"master": "gone"})), path.as_str()),
        (network(json!({"master": null, "vlanId": 9999})), ""),
    ] {
        vlan(lab, &network(json!({}))).netns(c1).add().ok();
        let call = vlan(lab, &config).netns_path(netns);
        call.del().ok();
        call.del().ok();
        assert_eq!(leases(), 0);
        assert!(!c1.has_link("eth0"), "{netns}");
    }
    // The master goes, and the interface with it.
    let c2 = lab.netns("c2");
    lab.host().add_veth("other0", &c2, "in0");
    lab.host().set_up("other0");
    let config = network(json!({"master": "other0"}));
    let call = vlan(lab, &config).netns(c1);
    call.add().ok();
    lab.host().remove_link("other0");
    c2.rebase();
    call.del().ok();
    assert_eq!(leases(), 0);
}

/// It never removes the interface when a later step fails; and it forgets what an address plugin gave that is nothing of use.
fn a_failed_add_leaves_nothing(lab: &Lab, c1: &Ns) {
    let dir = lab.plugin_dir(&["vlan"], &[]);
    let calls = lab.empty_plugin(&dir);
    let config = network(json!({"ipam": {"type": "empty"}}));
    let said = message(lab.peer(&dir, "vlan").config(&config).netns(c1).add(), 7);
    assert!(said.ends_with("gave no address"), "{said}");
    assert_eq!(fs::read_to_string(calls).expect("it was called"), "ADD\nDEL\n");
    assert!(!c1.has_link("eth0"));
    let mut lost = network(json!({}));
    lost["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}]);
    let said = message(vlan(lab, &lost).netns(c1).add(), 999);
    assert!(said.contains("192.0.2.0/24"), "{said}");
    assert!(!c1.has_link("eth0"));
    assert_eq!(leases(), 0);
}

/// plugins#756: neighbours go on with the last owner's MAC address.
fn a_reused_address_is_reachable_at_once(lab: &Lab, outside: &Ns, c1: &Ns) {
    let addresses = json!([{"address": "10.100.0.50/24"}, {"address": "fd00:100::50/64"}]);
    let config = network(json!({"ipam": {"type": "static", "addresses": addresses}}));
    for address in ["10.100.0.50", "fd00:100::50"] {
        let of = ["ip", "neigh", "replace", address, "lladdr", "02:00:00:00:00:99"];
        outside.exec(&[&of[..], &["dev", "in0.100", "nud", "stale"]].concat()).ok();
    }
    let call = vlan(lab, &config).netns(c1);
    let mac = call.add().ok()["interfaces"][0]["mac"].as_str().expect("a MAC address").to_owned();
    for address in ["10.100.0.50", "fd00:100::50"] {
        let known = || outside.exec(&["ip", "neigh", "show", address, "dev", "in0.100"]).stdout;
        poll(Duration::from_secs(3), || known().contains(&mac).then_some(()))
            .unwrap_or_else(|| panic!("{address}: {}", known()));
    }
    call.del().ok();
    outside.exec(&["ip", "neigh", "flush", "dev", "in0.100"]).ok();
}

/// It puts its own empty answer in place of the address plugin's name servers.
fn the_address_plugins_dns_is_kept(lab: &Lab, c1: &Ns) {
    let file = lab.dir().join("resolv.conf");
    lab.write(&file, "nameserver 192.0.2.53\nsearch lan.example\n");
    let mut config = network(json!({}));
    config["ipam"]["resolvConf"] = json!(file);
    let call = vlan(lab, &config).netns(c1);
    assert_eq!(call.add().ok()["dns"]["nameservers"], json!(["192.0.2.53"]));
    call.del().ok();
}

/// It leaves MTU and MSS of routes out, and its CHECK is content with any default route. Results of three versions; dummy has all.
fn routes_are_as_the_result_says(lab: &Lab, c1: &Ns) {
    for version in ["0.2.0", "0.4.0", "1.1.0"] {
        let mut config = network(json!({"cniVersion": version}));
        config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0", "mtu": 1300, "advmss": 1200}]);
        let call = vlan(lab, &config).netns(c1);
        let result = call.add().ok();
        assert_eq!(result["cniVersion"], version);
        let first = if version < "0.3.0" { &result["ip4"]["ip"] } else { &result["ips"][0]["address"] };
        assert!(
            first.as_str().is_some_and(|first| c1.addresses("eth0").contains(&first.to_owned())),
            "{result}"
        );
        // The operational state follows by itself, later.
        let flags = described(c1)["flags"].clone();
        assert!(flags.as_array().is_some_and(|flags| flags.contains(&json!("UP"))), "{flags}");
        let route = c1.exec(&["ip", "route", "show", "default"]).ok();
        assert!(route.contains("mtu 1300") && route.contains("advmss 1200"), "{route}");
        let call = call.config(&with_result(config, &result));
        if version >= "0.4.0" {
            call.check().ok();
            c1.exec(&["ip", "route", "replace", "default", "via", "10.100.0.7"]).ok();
            let why = "vlan: the route to 0.0.0.0/0 via 10.100.0.254 in table 254 is gone";
            assert_eq!(message(call.check(), 999), why);
        }
        call.del().ok();
    }
}

/// It waits until IPv6 addresses have been probed for, which nobody answers who got them from an allocator.
fn no_address_is_waited_for(lab: &Lab, outside: &Ns, c1: &Ns) {
    let call = vlan(lab, &network(json!({}))).netns(c1);
    let mut with_carrier = Duration::MAX;
    for carrier in [true, false] {
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
        assert!(!carrier || c1.pings(ip("fd00:100::fe")));
        call.del().ok();
    }
    outside.set_up("in0");
    outside.rebase();
}

/// How many addresses of IPv4 the network has given out.
fn leases() -> usize {
    let files = fs::read_dir("/var/lib/cni/networks/lan").into_iter().flatten().flatten();
    files.filter(|file| file.file_name().to_string_lossy().parse::<Ipv4Addr>().is_ok()).count()
}
