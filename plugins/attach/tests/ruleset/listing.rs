//! How `nft` prints the tables, and that it loads what it printed.

use attach::ruleset::{
    condition::{Condition, Interface, What},
    owner::Owner,
    plan::Plan,
    publish::{Port, Publish, Return},
    spoof_check::SpoofCheck,
};
use kernel::nft::Nft;
use testenv::lab;

use crate::scene::{attachment, listing, masquerade, nft, remove_tables};

const LISTING: &str = r#"
table inet tenon {
	map owner4 {
		type ifname . ipv4_addr : ifname
		elements = { "cni0" . 10.88.0.5 comment "podman/c1/eth0" : "veth1ef6397cbfe" }
	}

	map owner6 {
		type ifname . ipv6_addr : ifname
		elements = { "cni0" . fd00:88::5 comment "podman/c1/eth0" : "veth1ef6397cbfe" }
	}

	set masq4 {
		type ifname . ipv4_addr
		elements = { "cni0" . 10.88.0.5 comment "podman/c1/eth0" }
	}

	set masq6 {
		type ifname . ipv6_addr
		elements = { "cni0" . fd00:88::5 comment "podman/c1/eth0" }
	}

	set exempt4_16 {
		type ifname . ipv4_addr . ipv4_addr
		elements = { "cni0" . 10.88.0.5 . 10.88.0.0 comment "podman/c1/eth0" }
	}

	set exempt6_64 {
		type ifname . ipv6_addr . ipv6_addr
		elements = { "cni0" . fd00:88::5 . fd00:88:: comment "podman/c1/eth0" }
	}

	chain masquerading {
		type nat hook postrouting priority srcnat; policy accept;
		iifname . ip6 saddr . ip6 daddr & ffff:ffff:ffff:ffff:: @exempt6_64 return
		iifname . ip saddr . ip daddr & 255.255.0.0 @exempt4_16 return
		ip daddr 224.0.0.0/4 return
		ip6 daddr ff00::/8 return
		iifname . ip saddr @masq4 masquerade
		iifname . ip6 saddr @masq6 masquerade
	}
}
table bridge tenon {
	set spoof_checked {
		type ifname
		elements = { "veth0" comment "podman/c1/eth0" }
	}

	set spoof_allowed {
		type ifname . ether_addr
		elements = { "veth0" . 02:00:00:00:00:05 comment "podman/c1/eth0" }
	}

	chain spoofing {
		type filter hook prerouting priority dstnat; policy accept;
		iifname @spoof_checked iifname . ether saddr != @spoof_allowed drop
	}
}
"#;

#[test]
fn reads_well_and_loads_again() {
    lab::run("reads_well_and_loads_again", |lab| {
        let mut netlink = Nft::open().unwrap();
        let c1 = attachment("podman", "c1");
        let owner = Owner::of(&c1);
        let check = SpoofCheck { port: "veth0", mac: "02:00:00:00:00:05".parse().unwrap(), owner: &owner };
        let plan = masquerade(&c1, "cni0", &["10.88.0.5/16", "fd00:88::5/64"]).spoof_check(&check);
        plan.add(&mut netlink).unwrap();
        assert_eq!(listing(lab), LISTING.trim_start());
        remove_tables(&mut netlink);
        nft(&["-f", "-"], LISTING);
        assert_eq!(listing(lab), LISTING.trim_start());

        assert_eq!(plan.missing(&mut netlink).unwrap(), [""; 0]);
        plan.remove(&mut netlink).unwrap();
        assert!(!listing(lab).contains("elements"));
        remove_tables(&mut netlink);
    });
}

/// An exempt network of one address has no mask to print.
#[test]
fn prefixes_at_the_ends() {
    lab::run("prefixes_at_the_ends", |lab| {
        let mut netlink = Nft::open().unwrap();
        let plans = [
            masquerade(&attachment("n", "a"), "p1", &["10.0.0.1/32"]),
            masquerade(&attachment("n", "b"), "p2", &["10.0.0.2/1"]),
            masquerade(&attachment("n", "c"), "p3", &["fd00::3/128"]),
        ];
        plans.iter().for_each(|plan| plan.add(&mut netlink).unwrap());
        let listed = listing(lab);
        for rule in [
            "iifname . ip saddr . ip daddr @exempt4_32 return",
            "iifname . ip saddr . ip daddr & 128.0.0.0 @exempt4_1 return",
            "iifname . ip6 saddr . ip6 daddr @exempt6_128 return",
        ] {
            assert!(listed.contains(rule), "{listed}");
        }
        remove_tables(&mut netlink);
        nft(&["-f", "-"], &listed);
        assert_eq!(listing(lab), listed);
        let everywhere = masquerade(&attachment("n", "d"), "p4", &["10.0.0.4/0"]);
        assert!(everywhere.is_empty(), "an address that is exempt everywhere is not masqueraded");
        remove_tables(&mut netlink);
    });
}

const PORTS: &[&str] = &[
    "0.0.0.0 . tcp . 8080 comment \"podman/c1/eth0\" : \"veth1ef6397cbfe\"",
    "tcp . 8080 comment \"podman/c1/eth0\" : 10.88.0.5 . 80",
    "fd00::1 . udp . 53 comment \"podman/c1/eth0\" : fd00:88::5 . 53",
    "\"cni0\" . 10.88.0.5 . 10.88.0.0 . tcp . 8080 comment \"podman/c1/eth0\"",
    "dnat ip to ip daddr . meta l4proto . th dport map @port4",
    "dnat ip to meta l4proto . th dport map @port4_any",
    "ip6 saddr != fd00::/8 iifname != \"eth*\" dnat ip6 to meta l4proto . th dport map @port6_any_",
    "meta l4proto sctp ct status dnat oifname . ip daddr . ip saddr & 255.255.0.0 . meta l4proto . \
     ct original proto-dst @hairpin4_16 masquerade",
    "meta l4proto tcp ct status dnat ip saddr 127.0.0.0/8 oifname . ip daddr . meta l4proto . \
     ct original proto-dst @from_localhost masquerade",
    "meta l4proto udp ct status dnat oifname . ip6 daddr . meta l4proto . ct original proto-dst @port_masq6 masquerade",
    "fib daddr type local jump published",
    "iifname != \"lo\" ip daddr 127.0.0.0/8 drop",
];

#[test]
fn ports_read_well_and_load_again() {
    lab::run("ports_read_well_and_load_again", |lab| {
        let mut netlink = Nft::open().unwrap();
        let owner = Owner::of(&attachment("podman", "c1"));
        let port = |protocol, host: &str, host_port, container: &str, container_port| {
            let [host, container] = [host, container].map(|text| text.parse().unwrap());
            Port { protocol, host, host_port, container, container_port }
        };
        let conditions = [
            Condition { what: What::Source("fd00::/8".parse().unwrap()), negated: true },
            Condition { what: What::From(Interface::Beginning("eth".to_owned())), negated: true },
        ];
        let v4 = Publish {
            ports: &[port(6, "0.0.0.0", 8080, "10.88.0.5", 80)],
            back: Return::Local { oif: "cni0", subnet: "10.88.0.5/16".parse().unwrap() },
            conditions: &[],
            owner: &owner,
        };
        let v6 = Publish {
            ports: &[port(17, "fd00::1", 53, "fd00:88::5", 53)],
            back: Return::Always { oif: "cni0" },
            conditions: &conditions,
            owner: &owner,
        };
        let plan = Plan::new().publish(&v4).publish(&v6);
        plan.add(&mut netlink).unwrap();
        let listed = listing(lab);
        for line in PORTS {
            assert!(listed.contains(line), "{line} is not in\n{listed}");
        }
        remove_tables(&mut netlink);
        nft(&["-f", "-"], &listed);
        assert_eq!(listing(lab), listed);
        assert_eq!(plan.missing(&mut netlink).unwrap(), [""; 0]);
        plan.remove(&mut netlink).unwrap();
        assert!(!listing(lab).contains("elements"));
        remove_tables(&mut netlink);
    });
}
