//! What the tables do to packets.

use std::net::{IpAddr, SocketAddr};

use attach::ruleset::{masquerade::Masquerade, owner::Owner, plan::Plan, spoof_check::SpoofCheck};
use ipnetwork::IpNetwork;
use kernel::{link, mac::MacAddr, netlink::Netlink, nft::Nft};
use testenv::{
    lab::{self, Lab},
    ns::Ns,
};

use crate::scene::{attachment, masquerade, remove_tables};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A bridge with addresses, made at its first container, and a container on it that routes everything there.
fn on_bridge(lab: &Lab, bridge: &str, container: &str, subnets: &[&str]) -> Ns {
    let host = lab.host();
    if !host.has_link(bridge) {
        host.add_bridge(bridge);
        for subnet in subnets {
            let network: IpNetwork = subnet.parse().unwrap();
            host.add_address(bridge, &format!("{}/{}", gateway(network), network.prefix()));
        }
        host.set_up(bridge);
    }
    let ns = lab.netns(container);
    let port = port(container);
    host.add_veth(&port, &ns, "eth0");
    host.set_master(&port, bridge);
    host.set_up(&port);
    give(&ns, subnets);
    ns
}

fn port(container: &str) -> String {
    format!("p-{container}")
}

fn give(ns: &Ns, subnets: &[&str]) {
    subnets.iter().for_each(|subnet| ns.add_address("eth0", subnet));
    ns.set_up("eth0");
    for subnet in subnets {
        let gateway = gateway(subnet.parse().unwrap());
        ns.add_route(if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" }, gateway);
    }
}

fn gateway(network: IpNetwork) -> IpAddr {
    match network.network() {
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) + 1).into()),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) + 1).into()),
    }
}

fn forward(lab: &Lab) {
    lab.host().set_sysctl("net.ipv4.ip_forward", "1");
    lab.host().set_sysctl("net.ipv6.conf.all.forwarding", "1");
    lab.allow_forwarding();
}

/// Whom an echo server at `address` of `to` sees when `from` talks to it.
#[track_caller]
fn seen(from: &Ns, to: &Ns, address: &str) -> IpAddr {
    let echo = to.udp_echo(SocketAddr::new(ip(address), 0));
    from.udp_talk(echo.address(), "hello").unwrap();
    echo.seen()[0].ip()
}

#[test]
fn masquerades_its_own_containers_only() {
    lab::run("masquerades_its_own_containers_only", |lab| {
        forward(lab);
        let outside = lab.outside("up0");
        for (subnet, host) in [("10.88.0.0/16", "198.51.100.1"), ("fd00:88::/64", "2001:db8:1::1")] {
            outside.add_route(subnet, ip(host));
        }
        let c1 = on_bridge(lab, "cni0", "c1", &["10.88.0.5/16", "fd00:88::5/64"]);
        let c2 = on_bridge(lab, "cni0", "c2", &["10.88.0.6/16", "fd00:88::6/64"]);
        let mut nft = Nft::open().unwrap();
        let plan = masquerade(&attachment("n", "c1"), "cni0", &["10.88.0.5/16", "fd00:88::5/64"]);
        plan.add(&mut nft).unwrap();
        assert_eq!(seen(&c1, &outside, "198.51.100.254"), ip("198.51.100.1"));
        assert_eq!(seen(&c1, &outside, "2001:db8:1::254"), ip("2001:db8:1::1"));
        assert_eq!(seen(&c2, &outside, "198.51.100.254"), ip("10.88.0.6"), "it has no masquerade");
        assert_eq!(seen(&c2, &outside, "2001:db8:1::254"), ip("fd00:88::6"));
        assert_eq!(seen(&c1, &c2, "10.88.0.6"), ip("10.88.0.5"));
        assert_eq!(seen(&c1, lab.host(), "10.88.0.1"), ip("10.88.0.5"));
        plan.remove(&mut nft).unwrap();
        assert_eq!(seen(&c1, &outside, "198.51.100.254"), ip("10.88.0.5"));
        assert_eq!(seen(&c1, &outside, "2001:db8:1::254"), ip("fd00:88::5"));
        remove_tables(&mut nft);
    });
}

/// A network that spans hosts is exempt as a whole, not only the host's part of it.
#[test]
fn exempts_what_it_is_told() {
    lab::run("exempts_what_it_is_told", |lab| {
        forward(lab);
        let outside = lab.outside("up0");
        outside.add_route("10.88.0.0/16", ip("198.51.100.1"));
        outside.add_address("in0", "10.200.0.1/32");
        outside.add_address("in0", "10.201.0.1/32");
        let c1 = on_bridge(lab, "cni0", "c1", &["10.88.0.5/16"]);
        let mut nft = Nft::open().unwrap();
        let owner = Owner::of(&attachment("n", "c1"));
        let exempt = ["10.88.0.0/16", "10.200.0.0/16", "fd00::/8"].map(|text| text.parse().unwrap());
        let addresses = [ip("10.88.0.5")];
        let masquerade = Masquerade { iif: "cni0", addresses: &addresses, exempt: &exempt, owner: &owner };
        Plan::new().masquerade(&masquerade).add(&mut nft).unwrap();
        assert_eq!(seen(&c1, &outside, "10.200.0.1"), ip("10.88.0.5"));
        assert_eq!(seen(&c1, &outside, "10.201.0.1"), ip("198.51.100.1"));
        remove_tables(&mut nft);
    });
}

/// Two networks, one inside the other, on two bridges: each masquerades by its own subnet.
#[test]
fn nested_subnets_do_not_meet() {
    lab::run("nested_subnets_do_not_meet", |lab| {
        forward(lab);
        let small = on_bridge(lab, "small", "c1", &["10.88.1.5/24"]);
        let large = on_bridge(lab, "large", "c2", &["10.88.2.5/16"]);
        large.add_route("10.88.1.0/24", ip("10.88.0.1"));
        let mut nft = Nft::open().unwrap();
        masquerade(&attachment("small", "c1"), "small", &["10.88.1.5/24"]).add(&mut nft).unwrap();
        masquerade(&attachment("large", "c2"), "large", &["10.88.2.5/16"]).add(&mut nft).unwrap();
        assert_eq!(seen(&small, &large, "10.88.2.5"), ip("10.88.0.1"), "outside of the small network");
        assert_eq!(seen(&large, &small, "10.88.1.5"), ip("10.88.2.5"), "inside of the large network");
        remove_tables(&mut nft);
    });
}

/// Without a bridge, each container's own veth is the interface of its packets.
#[test]
fn point_to_point() {
    lab::run("point_to_point", |lab| {
        forward(lab);
        let outside = lab.outside("up0");
        let mut nft = Nft::open().unwrap();
        let ends = ["c1", "c2"].map(|name| lab.netns(name));
        for (ns, address) in ends.iter().zip(["10.99.0.5", "10.99.0.6"]) {
            let port = port(ns.name());
            lab.host().add_veth(&port, ns, "eth0");
            lab.host().add_address(&port, "10.99.0.1/32");
            lab.host().set_up(&port);
            lab.host().add_device_route(&format!("{address}/32"), &port);
            give(ns, &[&format!("{address}/16")]);
            let owner = attachment("n", ns.name());
            masquerade(&owner, &port, &[&format!("{address}/16")]).add(&mut nft).unwrap();
        }
        let [c1, c2] = &ends;
        c1.add_route("10.99.0.6/32", ip("10.99.0.1"));
        c2.add_route("10.99.0.5/32", ip("10.99.0.1"));
        assert_eq!(seen(c1, c2, "10.99.0.6"), ip("10.99.0.5"));
        assert_eq!(seen(c2, &outside, "198.51.100.254"), ip("198.51.100.1"));
        remove_tables(&mut nft);
    });
}

#[test]
fn drops_frames_of_a_false_sender() {
    lab::run("drops_frames_of_a_false_sender", |lab| {
        let c1 = on_bridge(lab, "cni0", "c1", &["10.88.0.5/16"]);
        let c2 = on_bridge(lab, "cni0", "c2", &["10.88.0.6/16"]);
        let mac = c1.run(|| link::by_name(&mut Netlink::open().unwrap(), "eth0").unwrap().mac.unwrap());
        let mut nft = Nft::open().unwrap();
        let owner = Owner::of(&attachment("n", "c1"));
        let port = port("c1");
        let check = |mac| Plan::new().spoof_check(&SpoofCheck { port: &port, mac, owner: &owner });
        let (false_mac, true_mac) = (MacAddr([2, 0, 0, 0, 0, 1]), mac);
        check(true_mac).add(&mut nft).unwrap();
        assert!(c1.pings(ip("10.88.0.6")));
        check(true_mac).remove(&mut nft).unwrap();
        check(false_mac).add(&mut nft).unwrap();
        assert!(!c1.pings(ip("10.88.0.6")), "its frames carry another address than is allowed");
        assert!(c2.pings(ip("10.88.0.1")), "a port that is not checked");
        check(false_mac).remove(&mut nft).unwrap();
        assert!(c1.pings(ip("10.88.0.6")));
        remove_tables(&mut nft);
    });
}
