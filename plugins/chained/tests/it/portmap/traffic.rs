//! Bytes through published ports, from everywhere.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde_json::{Value, json};
use testenv::{echo::EchoServer, lab::Lab, ns::Ns, wait::wait_for};

use crate::net::{
    Container, assert_cells, at, attach, bridged, net, of_each, other, portmap, run, serve, talks, tcp,
    try_attach, udp, with,
};

fn ports(more: &Value) -> Value {
    portmap(&of_each(8080).map(|port| with(port, more.clone())))
}

/// Who talks to which address of the host, and whether that arrives.
#[track_caller]
fn matrix(lab: &Lab, outside: &Ns, published: &Container, cells: [(&str, &str, bool); 12]) {
    let servers = serve(&published.ns);
    let sibling = attach(lab, &net(&[]), "sibling");
    let from = |who| match who {
        "outside" => outside,
        "host" => lab.host(),
        "self" => &published.ns,
        "sibling" => &sibling.ns,
        other => panic!("who is {other}?"),
    };
    assert_cells("matrix", &cells.map(|(who, to, arrives)| (from(who), at(to), arrives)));
    sibling.detach(lab);
    drop(servers);
}

pub(super) const V4: &str = "198.51.100.1:8080";
pub(super) const V4_MORE: &str = "198.51.100.2:8080";
pub(super) const V6: &str = "[2001:db8:1::1]:8080";
pub(super) const V6_MORE: &str = "[2001:db8:1::2]:8080";

pub(super) fn two_addresses(lab: &Lab) -> Ns {
    let outside = lab.outside("up0");
    lab.host().add_address("up0", "198.51.100.2/24");
    lab.host().add_address("up0", "2001:db8:1::2/64");
    lab.rebase();
    outside
}

#[test]
fn all_addresses_of_the_host() {
    run("portmap_all", |lab| {
        let outside = two_addresses(lab);
        let container = attach(lab, &net(&[ports(&json!({}))]), "c1");
        container.check(lab);
        let cells = [
            ("outside", V4, true),
            ("outside", V6, true),
            ("outside", V4_MORE, true),
            ("outside", V6_MORE, true),
            ("host", V4, true),
            ("host", V6, true),
            ("host", "127.0.0.1:8080", true),
            ("host", "[::1]:8080", false),
            ("self", V4, true),
            ("self", V6, true),
            ("sibling", V4, true),
            ("sibling", V6, true),
        ];
        matrix(lab, &outside, &container, cells);
        container.detach(lab);
        assert!(!talks(&outside, V4));
    });
}

#[test]
fn one_address_of_each_kind() {
    run("portmap_one", |lab| {
        let outside = two_addresses(lab);
        let of = |host: &str| of_each(8080).map(|port| with(port, json!({"hostIP": host})));
        let mappings = [of("198.51.100.1"), of("2001:db8:1::1")].concat();
        let container = attach(lab, &net(&[portmap(&mappings)]), "c1");
        let cells = [
            ("outside", V4, true),
            ("outside", V6, true),
            ("outside", V4_MORE, false),
            ("outside", V6_MORE, false),
            ("host", V4, true),
            ("host", V6, true),
            ("host", "127.0.0.1:8080", false),
            ("host", V4_MORE, false),
            ("self", V4, true),
            ("self", V6, true),
            ("sibling", V4, true),
            ("sibling", V6, true),
        ];
        matrix(lab, &outside, &container, cells);
        container.detach(lab);
    });
}

/// `hostIP` 127.0.0.1 is for the host alone; 0.0.0.0 and :: are all addresses of one IP version.
#[test]
fn addresses_that_are_not_one_of_the_uplink() {
    run("portmap_special", |lab| {
        let outside = two_addresses(lab);
        for (host_ip, cells) in [
            (
                "127.0.0.1",
                [(true, "127.0.0.1:8080", true), (false, V4, false), (true, V4, false), (true, V6, false)],
            ),
            (
                "0.0.0.0",
                [
                    (true, "127.0.0.1:8080", true),
                    (false, V4, true),
                    (true, V4_MORE, true),
                    (false, V6, false),
                ],
            ),
            (
                "::",
                [
                    (true, "127.0.0.1:8080", false),
                    (false, V4, false),
                    (true, V6_MORE, true),
                    (false, V6, true),
                ],
            ),
        ] {
            let container = attach(lab, &net(&[ports(&json!({"hostIP": host_ip}))]), "c1");
            let servers = serve(&container.ns);
            let from = |host| if host { lab.host() } else { &outside };
            assert_cells(host_ip, &cells.map(|(host, to, arrives)| (from(host), at(to), arrives)));
            drop(servers);
            container.detach(lab);
            lab.remove_netns(container.ns);
        }
    });
}

/// Who the container sees: the client itself, unless its answer would not come back or all are to be masked.
#[test]
fn sources_are_kept_where_they_can_be() {
    run("portmap_sources", |lab| {
        let outside = two_addresses(lab);
        for (more, from_outside, hairpins) in [
            (json!({}), "198.51.100.254", true),
            (json!({"masqAll": true}), "10.1.0.1", true),
            (json!({"snat": false}), "198.51.100.254", false),
        ] {
            let container = attach(lab, &net(&[with(ports(&json!({})), more.clone())]), "c1");
            let servers = serve(&container.ns);
            assert!(talks(&outside, V4));
            for seen in servers.iter().map(EchoServer::seen) {
                assert_eq!(seen[0].ip().to_canonical(), from_outside.parse::<IpAddr>().unwrap(), "{more}");
            }
            assert_eq!(talks(&container.ns, V4), hairpins, "{more}");
            assert_eq!(talks(lab.host(), "127.0.0.1:8080"), hairpins, "{more}");
            drop(servers);
            container.detach(lab);
            lab.remove_netns(container.ns);
        }
    });
}

/// Packets for 127.0.0.1 from a container would reach the host's own services once its bridge routes such addresses.
#[test]
fn nobody_but_the_host_reaches_its_localhost() {
    run("portmap_martians", |lab| {
        let container = attach(lab, &net(&[ports(&json!({}))]), "c1");
        assert_eq!(lab.exec(&["sysctl", "-n", "net.ipv4.conf.cni0.route_localnet"]).ok(), "1\n");
        let secret = lab.host().udp_echo(at("127.0.0.1:53"));
        // What an attacker does with raw packets: lo goes down, and 127.0.0.1 is routed to the host.
        for argv in [
            "ip addr del 127.0.0.1/8 dev lo",
            "sysctl -w net.ipv4.conf.all.route_localnet=1",
            "ip route flush table local 127.0.0.0/8",
            "ip route add 127.0.0.0/8 via 10.1.0.1 src 10.1.0.2",
        ] {
            container.ns.exec(&argv.split(' ').collect::<Vec<_>>());
        }
        assert!(container.ns.udp_talk(secret.address(), "psst").is_err());
        assert!(secret.seen().is_empty());
        container.detach(lab);
        lab.remove_netns(container.ns);
    });
}

/// In the reference's nftables backend the last network's conditions are everybody's.
#[test]
fn bug_conditions_are_of_their_network_alone() {
    run("portmap_conditions", |lab| {
        let outside = two_addresses(lab);
        lab.host().add_address("up0", "203.0.113.1/24");
        outside.add_address("in0", "203.0.113.254/24");
        lab.rebase();
        let picky = |v4: &[&str], v6: &[&str]| {
            with(ports(&json!({})), json!({"conditionsV4": v4, "conditionsV6": v6}))
        };
        let spelled = [
            picky(&["!", "-s", "203.0.113.0/24", "!", "-i", "cni+"], &["-s", "2001:db8:1::/64"]),
            picky(
                &["ip", "saddr", "!=", "203.0.113.0/24", "iifname", "!=", "cni*"],
                &["ip6", "saddr", "2001:db8:1::/64"],
            ),
        ];
        for ports in spelled {
            let container = attach(lab, &net(&[ports]), "c1");
            let free = attach(lab, &other(&[portmap(&of_each(9090))]), "c2");
            let servers = (serve(&container.ns), serve(&free.ns));
            assert!(talks(&outside, V4) && talks(&outside, V6));
            assert!(!talks(&outside, "203.0.113.1:8080"), "a sender that is excluded");
            assert!(!talks(&free.ns, V4), "an interface that is excluded");
            assert!(!talks(&free.ns, V6));
            assert!(talks(&outside, "203.0.113.1:9090"), "another network's port");
            container.check(lab);
            drop(servers);
            for gone in [container, free] {
                gone.detach(lab);
                lab.remove_netns(gone.ns);
            }
        }
    });
}

/// Bug of the reference's nftables backend: rules are found by the container's name alone, so that DEL of one network takes
/// the ports of the other; and a second ADD doubles them.
#[test]
fn bug_two_networks_of_one_container() {
    run("portmap_two_networks", |lab| {
        let outside = two_addresses(lab);
        let first = attach(lab, &net(&[ports(&json!({}))]), "c1");
        let config = json!({
            "cniVersion": "1.1.0", "name": "other", "type": "portmap", "prevResult": first.result,
            "runtimeConfig": {"portMappings": of_each(9090)},
        });
        let second = lab.plugin("portmap").config(&config).container("c1").netns(&first.ns);
        for _ in 0..2 {
            second.add().ok();
        }
        let servers = serve(&first.ns);
        assert!(talks(&outside, V4) && talks(&outside, "198.51.100.1:9090"));
        second.del().ok();
        assert!(talks(&outside, V4) && !talks(&outside, "198.51.100.1:9090"));
        second.del().ok();
        drop(servers);
        first.detach(lab);
    });
}

/// Two networks, one inside the other: each port leads to its own.
#[test]
fn nested_subnets_do_not_meet() {
    run("portmap_nested", |lab| {
        let outside = two_addresses(lab);
        let wide = bridged("net", 1, &["10.1.0.0/16"], &[portmap(&of_each(8080))]);
        let narrow = bridged("other", 2, &["10.1.128.0/24"], &[portmap(&of_each(9090))]);
        let (wide, narrow) = (attach(lab, &wide, "wide"), attach(lab, &narrow, "narrow"));
        let servers = (serve(&wide.ns), serve(&narrow.ns));
        for (from, to) in [
            (&outside, V4),
            (&outside, "198.51.100.1:9090"),
            (&wide.ns, V4),
            (&narrow.ns, "198.51.100.1:9090"),
        ] {
            assert!(talks(from, to), "{} to {to}", from.name());
        }
        narrow.detach(lab);
        assert!(talks(&outside, V4) && talks(&wide.ns, V4));
        drop(servers);
        wide.detach(lab);
    });
}

/// Bug of the reference: the flow goes on to the container that is gone, for as long as somebody sends.
#[test]
fn bug_a_udp_flow_reaches_the_new_owner_of_the_port() {
    run("portmap_flow", |lab| {
        let outside = two_addresses(lab);
        let network = net(&[ports(&json!({}))]);
        for to in [V4, V6] {
            let client = outside
                .run(|| std::net::UdpSocket::bind(if to == V4 { "0.0.0.0:0" } else { "[::]:0" }).unwrap());
            let answered = |by: &EchoServer, before: usize| {
                client.send_to(b"x", at(to)).unwrap();
                wait_for("the packet at its new owner", Duration::from_secs(2), || by.seen().len() > before);
            };
            // The flow begins before there is a container: it ends at the host, which refuses.
            client.send_to(b"x", at(to)).unwrap();
            let one = attach(lab, &network, "one");
            let first = one.ns.udp_echo(at("[::]:80"));
            answered(&first, 0);
            one.detach(lab);
            client.send_to(b"x", at(to)).unwrap();
            let two = attach(lab, &network, "two");
            let second = two.ns.udp_echo(at("[::]:80"));
            let before = first.seen().len();
            answered(&second, 0);
            assert_eq!(first.seen().len(), before);
            two.detach(lab);
            drop((first, second));
            lab.remove_netns(one.ns);
            lab.remove_netns(two.ns);
        }
    });
}

/// The same with SCTP, whose flows the reference never forgets.
#[test]
fn bug_an_sctp_flow_reaches_the_new_owner_of_the_port() {
    run("portmap_sctp_flow", |lab| {
        let outside = two_addresses(lab);
        let network = net(&[ports(&json!({}))]);
        for (to, from) in [(V4, 4000), (V6, 4001)] {
            let talks = || outside.sctp_talk_from(from, at(to)).is_ok();
            assert!(!talks(), "nobody is there");
            let one = attach(lab, &network, "one");
            let first = one.ns.sctp_answer(80);
            assert!(talks(), "{to}: the first owner");
            one.detach(lab);
            let two = attach(lab, &network, "two");
            let second = two.ns.sctp_answer(80);
            assert!(talks(), "{to}: the new owner");
            assert_eq!((first.seen().len(), second.seen().len()), (1, 1), "{to}");
            two.detach(lab);
            drop((first, second));
            lab.remove_netns(one.ns);
            lab.remove_netns(two.ns);
        }
    });
}

/// DEL of one network's port does not disturb a stream through the same port of another address.
#[test]
fn a_running_stream_loses_nothing_when_another_leaves() {
    run("portmap_stream", |lab| {
        let outside = two_addresses(lab);
        let of = |host: &str| {
            portmap(&[
                with(udp(8080, 80), json!({"hostIP": host})),
                with(tcp(8080, 80), json!({"hostIP": host})),
            ])
        };
        let staying = attach(lab, &net(&[of("198.51.100.1")]), "staying");
        let leaving = other(&[of("198.51.100.2")]);
        let servers = serve(&staying.ns);
        let client = outside.run(|| std::net::UdpSocket::bind("0.0.0.0:4000").unwrap());
        client.connect(at(V4)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut stream = outside.run(|| std::net::TcpStream::connect(at(V4)).unwrap());
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut sent = 0_u32;
        let mut exchange = || {
            use std::io::{Read, Write};
            sent += 1;
            let number = sent.to_be_bytes();
            client.send(&number).unwrap();
            let mut back = [0; 4];
            client.recv(&mut back).expect("no packet is lost");
            assert_eq!(back, number);
            stream.write_all(&number).unwrap();
            stream.read_exact(&mut back).expect("the stream goes on");
            assert_eq!(back, number);
        };
        for round in 0..5 {
            let ns = lab.netns(&format!("leaving{round}"));
            let Ok(gone) = try_attach(lab, &leaving, &ns) else { panic!("it has an address of its own") };
            (0..20).for_each(|_| exchange());
            let call = gone.call(lab, 1);
            let mut del = call.start("DEL");
            while !del.has_ended() {
                exchange();
            }
            del.wait().ok();
            (0..20).for_each(|_| exchange());
            gone.detach(lab);
            lab.remove_netns(ns);
        }
        eprintln!(
            "{sent} packets each way by UDP and TCP, none lost, past 5 ADD and DEL of the other's port"
        );
        drop((servers, stream));
        staying.detach(lab);
    });
}

#[test]
fn a_client_of_the_same_port_elsewhere_is_left_alone() {
    run("portmap_clients", |lab| {
        let outside = two_addresses(lab);
        let client = attach(lab, &net(&[]), "client");
        let far = outside.udp_echo(at("198.51.100.254:8080"));
        let socket = client.ns.run(|| std::net::UdpSocket::bind("0.0.0.0:5000").unwrap());
        let exchange = || {
            socket.send_to(b"x", SocketAddr::from(([198, 51, 100, 254], 8080))).unwrap();
            let mut back = [0; 1];
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket.recv(&mut back).unwrap();
        };
        exchange();
        let published = attach(lab, &net(&[ports(&json!({}))]), "published");
        exchange();
        published.detach(lab);
        exchange();
        // One flow: nobody forgot it, so that its masquerade kept its port.
        let ports: std::collections::BTreeSet<_> = far.seen().into_iter().collect();
        assert_eq!(ports.len(), 1, "{ports:?}");
        client.detach(lab);
    });
}
