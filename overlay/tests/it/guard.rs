use std::net::UdpSocket;

use etherparse::PacketBuilder;
use testenv::{lab, wait};

use crate::fleet::{Fleet, Network, SOON};

/// An echo request to `to`, in a VXLAN packet of network 7 for the device with this MAC (RFC 7348, section 5).
fn encapsulated(mac: &str, to: [u8; 4]) -> Vec<u8> {
    let mut bytes = mac.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"));
    let mac: [u8; 6] = std::array::from_fn(|_| bytes.next().expect("six bytes"));
    let mut packet = vec![8, 0, 0, 0, 0, 0, 7, 0];
    let inner = PacketBuilder::ethernet2([2, 6, 6, 6, 6, 6], mac)
        .ipv4([10, 244, 1, 99], to, 64)
        .icmpv4_echo_request(1, 1);
    inner.write(&mut packet, b"forged").expect("write to memory");
    packet
}

#[test]
fn no_container_sends_encapsulated_packets() {
    lab::run("overlay-forged", |lab| {
        let fleet = Fleet::up(lab, 2, 1500, Network::default());
        fleet.start_static();
        fleet.wait_complete();
        let (here, there) = (fleet.add(1, "c1"), fleet.add(2, "c2"));
        fleet.wait_ping(1, "c1", there[0]);
        let c1 = fleet.container(1, "c1");
        let read = |number: u8, file: &str| {
            fleet.host(number).run(&["cat", &format!("/sys/class/net/ovl7/{file}")]).unwrap()
        };
        // To the host that the container is on, and through it to another one.
        for (number, underlay, victim) in [(1, "10.0.0.1:4789", here[0]), (2, "10.0.0.2:4789", there[0])] {
            let std::net::IpAddr::V4(victim) = victim else { panic!("{victim}") };
            let packet = encapsulated(&read(number, "address"), victim.octets());
            let send = || c1.run(|| UdpSocket::bind("0.0.0.0:0")?.send_to(&packet, underlay)).unwrap();
            let arrived = || read(number, "statistics/rx_packets").trim().parse::<u64>().unwrap();
            let chain = if number == 1 { "arriving" } else { "passing" };
            let dropped = || {
                let rules = ["nft", "list", "chain", "inet", "tenon-overlay", chain];
                let text = fleet.host(1).run(&rules).unwrap();
                let counted = |line: &&str| line.contains("drop") && !line.contains("packets 0 ");
                text.lines().filter(counted).count()
            };
            let (before, dropped_before) = (arrived(), dropped());
            send();
            wait::wait_for("the drop to be counted", SOON, || dropped() == dropped_before + 1);
            assert_eq!(arrived(), before, "{underlay}");
            // It is the guard that keeps it out. The agents put it back when they notice.
            wait::wait_for("a packet to get in without the guard", SOON, || {
                for host in [1, 2] {
                    let _ = fleet.host(host).exec(&["nft", "delete", "table", "inet", "tenon-overlay"]);
                }
                send();
                arrived() > before
            });
            wait::wait_for("the guards to be back", SOON, || {
                (1..=2).all(|host| {
                    let table = ["nft", "list", "table", "inet", "tenon-overlay"];
                    fleet.host(host).exec(&table).unwrap().code == Some(0)
                })
            });
        }
    });
}
