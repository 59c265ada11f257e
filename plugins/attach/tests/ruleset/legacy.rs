//! That nothing remains of what the Go reference plugins made, and everything of what they made for others.

use std::path::Path;

use attach::ruleset::legacy;
use cni::names::Attachment;
use ipnetwork::IpNetwork;
use kernel::nft::Nft;
use serde_json::{Value, json};
use testenv::{
    lab::{self, Lab},
    ns::Ns,
    plugin::PluginCall,
};

use crate::scene::{listing, nft};

const GO: &str = "/usr/lib/cni";

fn call(lab: &Lab, plugin: &str, config: &Value, ns: &Ns, ifname: &str) -> PluginCall {
    let call = lab.peer(Path::new(GO), plugin).path(&[Path::new(GO)]);
    call.config(config).container(ns.name()).netns(ns).ifname(ifname)
}

fn attachment(container: &str, ifname: &str) -> Attachment {
    Attachment {
        network: "gonet".parse().unwrap(),
        container: container.parse().unwrap(),
        ifname: ifname.parse().unwrap(),
    }
}

fn bridge() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "gonet", "type": "bridge", "bridge": "cni0", "isGateway": true,
        "ipMasq": true, "macspoofchk": true,
        "ipam": {
            "type": "host-local", "dataDir": "/run/.lab/files/leases",
            "ranges": [[{"subnet": "10.88.0.0/16"}], [{"subnet": "fd00:88::/64"}]],
        },
    })
}

fn addresses(result: &Value) -> Vec<IpNetwork> {
    let ips = result["ips"].as_array().unwrap();
    ips.iter().map(|ip| ip["address"].as_str().unwrap().parse().unwrap()).collect()
}

fn go(lab: &Lab) {
    lab.needs_program("iptables", "iptables");
    let version = lab.exec(&["iptables", "--version"]).ok();
    if !version.contains("nf_tables") {
        lab.skip("needs iptables of the nft variant");
    }
    lab.allow_bridge("cni0");
}

#[test]
fn removes_what_the_go_bridge_made() {
    lab::run("removes_what_the_go_bridge_made", |lab| {
        go(lab);
        let mut netlink = Nft::open().unwrap();
        let [c1, c2] = ["c1", "c2"].map(|name| lab.netns(name));
        let call = |ns, ifname| call(lab, "bridge", &bridge(), ns, ifname);
        call(&c2, "eth0").add().ok();
        let before = {
            call(&c1, "eth0").add().ok();
            call(&c1, "eth0").del();
            listing(lab)
        };
        let result = call(&c1, "eth0").add().ok();
        assert_ne!(listing(lab), before);
        let c1_eth0 = attachment("c1", "eth0");
        legacy::remove_masquerade(&mut netlink, &c1_eth0, &addresses(&result)).unwrap();
        legacy::remove_spoof_check(&mut netlink, &c1_eth0).unwrap();
        assert_eq!(listing(lab), before, "only what c2 has is left");
        legacy::remove_masquerade(&mut netlink, &c1_eth0, &[]).unwrap();
        legacy::remove_spoof_check(&mut netlink, &c1_eth0).unwrap();
        assert_eq!(listing(lab), before, "and it can be repeated");
        call(&c1, "eth0").del();
        call(&c2, "eth0").del();
        nft(&["flush", "ruleset"], "");
    });
}

/// The Go plugins make one chain for all interfaces of a container on a network.
#[test]
fn keeps_a_chain_for_another_interface() {
    lab::run("keeps_a_chain_for_another_interface", |lab| {
        go(lab);
        let mut netlink = Nft::open().unwrap();
        let c1 = lab.netns("c1");
        let call = |ifname| call(lab, "bridge", &bridge(), &c1, ifname);
        let first = call("eth0").add().ok();
        let second = call("eth1").add().ok();
        let jumps = || {
            let listing = listing(lab);
            listing.lines().filter(|line| line.contains("jump CNI-")).count()
        };
        assert_eq!(jumps(), 4, "{}", listing(lab));
        legacy::remove_masquerade(&mut netlink, &attachment("c1", "eth0"), &addresses(&first)).unwrap();
        assert_eq!(jumps(), 2, "{}", listing(lab));
        legacy::remove_masquerade(&mut netlink, &attachment("c1", "eth1"), &addresses(&second)).unwrap();
        assert!(!listing(lab).contains("CNI-"), "{}", listing(lab));
        call("eth0").del();
        call("eth1").del();
        nft(&["flush", "ruleset"], "");
    });
}

#[test]
fn removes_what_go_portmap_and_firewall_made() {
    lab::run("removes_what_go_portmap_and_firewall_made", |lab| {
        go(lab);
        let mut netlink = Nft::open().unwrap();
        let [c1, c2] = ["c1", "c2"].map(|name| lab.netns(name));
        // portmap turns this on for the bridge.
        lab.allow("route_localnet");
        let chained = |plugin: &str, result: &Value, port: u16| {
            json!({
                "cniVersion": "1.0.0", "name": "gonet", "type": plugin, "prevResult": result,
                "runtimeConfig": {"portMappings": [
                    {"hostPort": port, "containerPort": 80, "protocol": "tcp"},
                    {"hostPort": port, "containerPort": 80, "protocol": "udp"},
                ]},
            })
        };
        let add = |ns: &Ns, port| {
            let result = call(lab, "bridge", &bridge(), ns, "eth0").add().ok();
            for plugin in ["portmap", "firewall"] {
                call(lab, plugin, &chained(plugin, &result, port), ns, "eth0").add().ok();
            }
            result
        };
        add(&c2, 8082);
        let result = add(&c1, 8081);
        let addresses = addresses(&result);
        let c1_eth0 = attachment("c1", "eth0");
        assert!(listing(lab).contains("10.88.0.3"));
        legacy::remove_masquerade(&mut netlink, &c1_eth0, &addresses).unwrap();
        legacy::remove_spoof_check(&mut netlink, &c1_eth0).unwrap();
        legacy::remove_ports(&mut netlink, &c1_eth0).unwrap();
        let plain: Vec<_> = addresses.iter().map(IpNetwork::ip).collect();
        legacy::remove_accepts(&mut netlink, &plain).unwrap();
        let left = listing(lab);
        for gone in ["10.88.0.3", "fd00:88::3", "8081"] {
            assert!(!left.contains(gone), "{gone} in\n{left}");
        }
        for kept in ["ip daddr 10.88.0.2", "ip6 saddr fd00:88::2", "jump CNI-DN-"] {
            assert!(left.contains(kept), "no {kept} in\n{left}");
        }
        for ns in [&c1, &c2] {
            call(lab, "bridge", &bridge(), ns, "eth0").del();
        }
        nft(&["flush", "ruleset"], "");
    });
}

/// As the reference's own tests have it (ipmasq_nftables_linux_test.go), and as portmap_nftables.go writes.
const NFTABLES_BACKEND: &str = r#"
table inet cni_plugins_masquerade {
	chain masq_checks {
		ip saddr 192.168.1.1 ip daddr != 192.168.1.0/24 masquerade comment "6fd94d501e58f0aa-287fc69eff0574a2, net: unit-test, if: eth0, id: one"
		ip saddr 192.168.1.2 ip daddr != 192.168.1.0/24 masquerade comment "6fd94d501e58f0aa-d750b2c8f0f25d5f, net: unit-test, if: eth0, id: two"
		ip6 saddr 2001:db8::2 ip6 daddr != 2001:db8::/64 masquerade comment "6fd94d501e58f0aa-d750b2c8f0f25d5f, net: unit-test, if: eth0, id: two"
	}
}
table ip cni_hostport {
	chain hostports {
		tcp dport 8080 dnat to 192.168.1.1:80 comment "one"
		tcp dport 8081 dnat to 192.168.1.2:80 comment "two"
	}

	chain masquerading {
		ip saddr 192.168.1.1 ip daddr 192.168.1.1 masquerade comment "one"
	}
}
"#;

#[test]
fn removes_what_their_nftables_backend_made() {
    lab::run("removes_what_their_nftables_backend_made", |lab| {
        lab.needs_program("nft", "nftables");
        nft(&["-f", "-"], NFTABLES_BACKEND);
        let before = listing(lab);
        let of = |container: &str| Attachment {
            network: "unit-test".parse().unwrap(),
            ..attachment(container, "eth0")
        };
        let remove = |container: &str| {
            let mut netlink = Nft::open().unwrap();
            legacy::remove_masquerade(&mut netlink, &of(container), &[]).unwrap();
            legacy::remove_ports(&mut netlink, &of(container)).unwrap();
        };
        remove("three");
        assert_eq!(listing(lab), before);
        remove("one");
        let expected: Vec<_> =
            before.lines().filter(|line| !line.contains("id: one") && !line.contains("\"one\"")).collect();
        assert_eq!(listing(lab).lines().collect::<Vec<_>>(), expected);
        remove("two");
        assert!(!listing(lab).contains("192.168"));
        nft(&["flush", "ruleset"], "");
    });
}
