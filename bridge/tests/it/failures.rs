//! ADD failing at each step in turn leaves nothing.

use std::fs;

use nix::errno::Errno;
use serde_json::{Value, json};
use testenv::{
    fault::{Fate, strike_each},
    lab::Lab,
    ns::Ns,
};

use crate::net::{
    assert_nothing_of_ours_is_left, attach, call, dual_stack, everything, fixed, forget_the_network, ip,
    layer2, leases, message, run,
};

/// ADD of a container `one` with this configuration fails, leaves nothing, and says so.
#[track_caller]
fn check(lab: &Lab, ns: &Ns, config: &Value, code: u64, expected: &str) {
    let error = call(lab, config, ns).add().err(code);
    assert!(message(&error).contains(expected), "{error}");
    assert_nothing_of_ours_is_left(lab);
}

#[test]
fn addresses_run_out() {
    run("full", |lab| {
        let mut config = dual_stack(json!({"ipMasq": true}));
        config["ipam"]["ranges"] = json!([[{"subnet": "fd00:1::/64"}], [{"subnet": "10.1.0.0/30"}]]);
        let one = attach(lab, &config, "one");
        let ns = lab.netns("two");
        let error = call(lab, &config, &ns).add().err(999);
        assert!(message(&error).contains("no IP addresses available in range set"), "{error}");
        // Nor does the set that had addresses lose one.
        assert_eq!(leases("net").len(), 2);
        assert_eq!(ns.links().len(), 1);
        one.check().ok();
        one.detach();
        call(lab, &config, &ns).add().ok();
        call(lab, &config, &ns).del().ok();
    });
}

/// Nor may the failed ADD's rollback harm the interface that is there.
#[test]
fn the_interface_is_there_already() {
    run("name_taken", |lab| {
        let ns = lab.netns("one");
        lab.netns("two").add_veth("peer", &ns, "eth0");
        lab.rebase();
        let expected = "CNI_IFNAME: eth0: the container has an interface of that name already";
        check(lab, &ns, &everything(), 7, expected);
        assert!(ns.has_link("eth0") && !lab.host().has_link("cni0"));
    });
}

#[test]
fn a_repeated_add_does_not_harm_the_first() {
    run("repeated", |lab| {
        let one = attach(lab, &everything(), "one");
        let before = (lab.host().snapshot(), one.ns.snapshot(), leases("net"));
        for _ in 0..2 {
            let error = one.call.add().err(7);
            assert!(message(&error).contains("has an interface of that name already"), "{error}");
        }
        assert_eq!(before, (lab.host().snapshot(), one.ns.snapshot(), leases("net")));
        one.check().ok();
        one.detach();
    });
}

#[test]
fn there_is_no_such_namespace() {
    run("no_netns", |lab| {
        let file = lab.dir().join("plain");
        fs::write(&file, "").unwrap();
        let call = lab.plugin("bridge").config(&everything());
        let own = lab.host().path().to_str().unwrap().to_owned();
        for (path, expected) in [
            ("/run/netns/gone", "no such namespace"),
            (file.to_str().unwrap(), "is not a network namespace"),
            (&own, "is the plugin's own network namespace"),
            ("/proc/self/ns/mnt", "is not a network namespace"),
        ] {
            let error = call.clone().netns_path(path).add().err(8);
            assert!(message(&error).contains(expected), "{path}: {error}");
            // Found before any work, unlike in the reference.
            assert!(!lab.host().has_link("cni0") && !fs::exists("/run/tenon/attach").unwrap());
        }
    });
}

#[test]
fn the_bridge_is_another_link() {
    run("bridge_taken", |lab| {
        let ns = lab.netns("one");
        lab.host().add_veth("cni0", &lab.netns("two"), "peer");
        check(lab, &ns, &everything(), 7, "bridge: cni0: is a link on the host, but no bridge");
        lab.plugin("bridge").config(&everything()).status().err(7);
        let lo = layer2(json!({"bridge": "lo"}));
        check(lab, &ns, &lo, 7, "bridge: lo: is a link on the host, but no bridge");
    });
}

#[test]
fn the_bridge_has_another_gateway() {
    run("gateway_conflict", |lab| {
        let ns = lab.netns("one");
        lab.host().add_bridge("cni0");
        lab.host().add_address("cni0", "10.77.0.1/24");
        check(lab, &ns, &everything(), 7, "has the address 10.77.0.1/24 already");
    });
}

#[test]
fn nftables_refuses() {
    run("nft_refuses", |lab| {
        let ns = lab.netns("one");
        // Somebody has a table of our name, with another idea of it.
        for words in ["add table inet tenon", "add set inet tenon masq4 { type inet_service ; }"] {
            lab.exec(&[&["nft"], &words.split(' ').collect::<Vec<_>>()[..]].concat()).ok();
        }
        lab.rebase();
        check(lab, &ns, &dual_stack(json!({"ipMasq": true})), 999, "inet tenon");
        assert_eq!(ns.links().len(), 1);
    });
}

#[test]
fn a_route_is_impossible() {
    run("bad_route", |lab| {
        let ns = lab.netns("one");
        let mut config = everything();
        config["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}]);
        check(lab, &ns, &config, 999, "192.0.2.0/24");
    });
}

#[test]
fn the_link_is_too_small_for_the_address() {
    run("mtu_too_small", |lab| {
        let ns = lab.netns("one");
        let mut config = everything();
        config["mtu"] = json!(1279);
        check(lab, &ns, &config, 999, "IPv6 is disabled on this device");
    });
}

#[test]
fn the_address_plugin_is_missing_or_gives_nothing() {
    run("no_ipam", |lab| {
        let ns = lab.netns("one");
        let missing = layer2(json!({"ipam": {"type": "nosuch"}}));
        check(lab, &ns, &missing, 7, "ipam.type: \"nosuch\": no such plugin in CNI_PATH");
        assert!(!lab.host().has_link("cni0"));
        check(lab, &ns, &layer2(json!({"ipam": {"type": "../bridge"}})), 7, "is not the name of a plugin");
        // The reference returns "IPAM plugin returned missing IP config" past its own rollback.
        check(lab, &ns, &fixed(&[], json!({})), 7, "ipam");
    });
}

#[test]
fn a_mac_address_taken_on_the_bridge_does_not_matter_and_a_long_name_fits() {
    run("long_names", |lab| {
        let name = "n".repeat(200);
        lab.allow_state(&name);
        let container = format!("c{}", "0123456789abcdef".repeat(12));
        let ns = lab.netns("one");
        let call = lab.plugin("bridge").config(&dual_stack(json!({"name": name, "ipMasq": true})));
        let call = call.container(&container).ifname("fifteen-bytes-x").netns(&ns);
        call.add().ok();
        assert_eq!(ip(&ns, "link show fifteen-bytes-x")[0]["operstate"], "UP");
        call.del().ok();
    });
}

/// Every system call by which ADD changes or learns anything fails once.
#[test]
fn any_system_call_is_refused() {
    run("refused", |lab| {
        let ns = lab.netns("one");
        let call = call(lab, &everything(), &ns);
        let mut failed = 0;
        let steps = strike_each(&call, "ADD", Fate::Refused(Errno::EPERM), |step, reply| {
            if reply.succeeded() {
                // It was nothing that the container needs.
                assert!(ns.pings("10.1.0.1".parse().unwrap()), "{step}");
                call.del().ok();
            } else {
                failed += 1;
                // Half a result may be out when the rest is refused.
                let told = reply.json.as_ref().is_some_and(|error| message(error).starts_with("bridge: "));
                assert!(told || step.ends_with("write"), "{step}: {reply}");
            }
            assert_eq!(ns.links().len(), 1, "{step}: {reply}");
            assert_nothing_of_ours_is_left(lab);
            forget_the_network(lab);
        });
        assert!(steps > 60 && failed > 30, "{steps} steps, {failed} failures");
    });
}
