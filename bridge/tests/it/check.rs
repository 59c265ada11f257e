//! CHECK: each thing that ADD made, taken away in turn, is named; what others legitimately change is not.

use serde_json::json;

use crate::net::{Container, attach, everything, layer2, message, run};

const HOST: &str = "host";
const INSIDE: &str = "inside";

/// Runs the damage where it belongs; `$veth` is the host's end.
#[track_caller]
fn damage(lab: &testenv::lab::Lab, one: &Container, place: &str, command: &str) {
    let command = command.replace("$veth", &one.host_end());
    let ns = if place == HOST { lab.host() } else { &one.ns };
    ns.exec(&["sh", "-c", &command]).ok();
}

#[test]
fn names_what_is_gone() {
    run("check", |lab| {
        let cases = [
            (INSIDE, "ip link set eth0 down", "eth0 is down"),
            (INSIDE, "ip address del 10.1.0.2/16 dev eth0", "eth0 has lost its address 10.1.0.2/16"),
            (INSIDE, "ip address del fd00:1::2/64 dev eth0", "eth0 has lost its address fd00:1::2/64"),
            (INSIDE, "ip route del default", "the route to 0.0.0.0/0 via 10.1.0.1 in table 254 is gone"),
            (INSIDE, "ip -6 route del default", "the route to ::/0 via fd00:1::1 in table 254 is gone"),
            // Before 6.2 only what is down changes its name.
            (INSIDE, "ip link set eth0 down && ip link set eth0 name eth7", "eth0 is gone"),
            (INSIDE, "ip link del eth0", "eth0 is gone"),
            (HOST, "ip link set cni0 down", "bridge cni0 is down"),
            (HOST, "ip link set $veth down", "is down"),
            (HOST, "ip link set $veth nomaster", "is not a port of cni0"),
            (
                HOST,
                "ip link set $veth type bridge_slave hairpin off",
                "has hairpin false and isolation false",
            ),
            (HOST, "ip address del 10.1.0.1/16 dev cni0", "cni0 has no address in 10.1.0.0/16"),
            (HOST, "nft flush set inet tenon masq4", "cni0 . 10.1.0.2 in set inet tenon masq4"),
            (HOST, "nft flush chain inet tenon masquerading", "a rule of chain inet tenon masquerading"),
            (HOST, "nft flush set bridge tenon spoof_allowed", "in set bridge tenon spoof_allowed"),
            (HOST, "nft delete table bridge tenon", "bridge tenon"),
            (HOST, "rm /var/lib/cni/networks/net/10.1.0.2", "holds 0 addresses"),
            (HOST, "ip link del cni0", "is gone"),
        ];
        for (place, command, expected) in cases {
            let one = attach(lab, &everything(), "one");
            one.check().ok();
            damage(lab, &one, place, command);
            let error = one.check().err(999);
            assert!(message(&error).contains(expected), "{command}: {error}");
            one.detach();
            lab.remove_netns(one.ns);
            crate::net::forget_the_network(lab);
        }
    });
}

/// tuning, bandwidth, sbr and others come after us in a chain (and CNI 1.1.0 says that CHECK tolerates them).
#[test]
fn passes_over_what_others_change() {
    run("check_tolerates", |lab| {
        let changes = [
            (INSIDE, "ip link set eth0 address 02:00:00:00:00:99"),
            (INSIDE, "ip link set eth0 mtu 1300"),
            (INSIDE, "ip link set eth0 promisc on allmulticast on txqueuelen 50"),
            (INSIDE, "ip address add 10.1.99.99/32 dev eth0"),
            (INSIDE, "ip route add 198.18.0.0/15 via 10.1.0.1"),
            (HOST, "ip link set $veth mtu 1300"),
            (HOST, "ip link set cni0 mtu 1300"),
            (HOST, "ip link set cni0 promisc on"),
            (HOST, "ip address add 10.99.0.1/24 dev cni0"),
        ];
        let one = attach(lab, &everything(), "one");
        for (place, command) in changes {
            damage(lab, &one, place, command);
            one.check().ok();
        }
        one.detach();
    });
}

#[test]
fn wants_the_result() {
    run("check_result", |lab| {
        let one = attach(lab, &everything(), "one");
        let error = one.call.check().err(7);
        assert!(message(&error).contains("prevResult: absent"), "{error}");
        let error = one.del_call().ifname("eth9").check().err(7);
        assert!(message(&error).contains("has no interface eth9"), "{error}");
        one.detach();
    });
}

/// Without a record, as after an upgrade from the Go plugin, what is in the container is checked.
#[test]
fn does_without_the_record() {
    run("check_no_record", |lab| {
        let one = attach(lab, &layer2(json!({})), "one");
        std::fs::remove_dir_all("/run/tenon/attach/net").unwrap();
        one.check().ok();
        one.ns.exec(&["ip", "link", "set", "eth0", "down"]).ok();
        one.check().err(999);
        one.detach();
    });
}
