use std::time::{Duration, Instant};

use overlay::{
    machine::{Event, Update},
    peer::Candidate,
};
use testenv::{lab, wait};

use crate::scene;

/// "each repaired within 1 s at 1,000 peers, nothing stale left"
const REPAIRED: Duration = Duration::from_secs(1);
const PEERS: u16 = 1000;

#[test]
fn a_thousand_peers_and_every_kind_of_damage() {
    lab::run("overlay-repair", |lab| {
        scene::uplink(lab);
        let mut keeper = scene::keeper(lab);
        scene::list(&mut keeper, 1..=PEERS);
        scene::settle(&mut keeper);
        let routes = || lab.exec(&["ip", "route", "show", "proto", "116"]).ok().lines().count();
        let fdb = || lab.exec(&["bridge", "fdb", "show", "dev", "ovl7"]).ok();
        assert_eq!((routes(), fdb().lines().count()), (PEERS.into(), PEERS.into()));
        let foreign = ["bridge", "fdb", "add", "02:66:66:66:66:66", "dev", "ovl7", "dst", "203.0.113.66"];
        let flooding = ["bridge", "fdb", "append", "00:00:00:00:00:00", "dev", "ovl7", "dst", "203.0.113.66"];
        let damages: [(&str, &[&str]); 6] = [
            ("device removed", &["ip", "link", "del", "ovl7"]),
            ("routes flushed", &["ip", "route", "flush", "proto", "116"]),
            ("device set down", &["ip", "link", "set", "ovl7", "down"]),
            ("foreign entry", &foreign),
            ("flooding", &flooding),
            ("neighbours flushed", &["ip", "neigh", "flush", "dev", "ovl7", "nud", "permanent"]),
        ];
        for (what, command) in damages {
            lab.exec(command).ok();
            assert_ne!(scene::difference(&mut keeper), 0, "{what}: the damage is none");
            let took = scene::settle(&mut keeper);
            eprintln!("{what}: {PEERS} peers repaired in {} ms", took.as_millis());
            assert!(took < REPAIRED, "{what}: {took:?}");
            assert_eq!((routes(), fdb().lines().count()), (PEERS.into(), PEERS.into()), "{what}");
            assert!(!fdb().contains("203.0.113.66"), "{what}");
        }
        // A compaction hid how a peer changed: only the whole list tells.
        let mut moved = scene::candidates(1..=PEERS);
        let record = scene::moved(7, "203.0.113.66", "02:66:66:66:66:66");
        moved.insert("h7".to_owned(), Candidate { rank: 7, record: Ok(record) });
        keeper.handle(Event::Directory(Update::Snapshot(moved)), Instant::now());
        let took = scene::settle(&mut keeper);
        eprintln!("MAC and address of one of {PEERS} peers changed: repaired in {} ms", took.as_millis());
        assert!(took < REPAIRED, "{took:?}");
        assert_eq!((routes(), fdb().lines().count()), (PEERS.into(), PEERS.into()));
        assert!(fdb().contains("02:66:66:66:66:66 dst 203.0.113.66"));
        keeper.remove().unwrap();
        assert!(!lab.host().has_link("ovl7"));
    });
}

#[test]
fn an_earlier_life_leaves_nothing() {
    lab::run("overlay-earlier-life", |lab| {
        scene::uplink(lab);
        let mut keeper = scene::keeper(lab);
        scene::list(&mut keeper, 1..=PEERS);
        scene::settle(&mut keeper);
        // Killed, not stopped: nothing is taken back.
        drop(keeper);
        let mut keeper = scene::keeper(lab);
        scene::list(&mut keeper, 1..=PEERS - PEERS / 10);
        let took = scene::settle(&mut keeper);
        eprintln!("10 % of {PEERS} peers gone while the agent was down: repaired in {} ms", took.as_millis());
        assert!(took < REPAIRED, "{took:?}");
        let routes = lab.exec(&["ip", "route", "show", "proto", "116"]).ok();
        assert_eq!(routes.lines().count(), usize::from(PEERS - PEERS / 10));
        keeper.remove().unwrap();
    });
}

#[test]
fn the_underlay_is_followed() {
    lab::run("overlay-underlay", |lab| {
        scene::uplink(lab);
        let mut keeper = scene::keeper(lab);
        scene::list(&mut keeper, 1..=3);
        scene::settle(&mut keeper);
        let mtu = || lab.exec(&["cat", "/sys/class/net/ovl7/mtu"]).ok().trim().to_owned();
        assert_eq!(mtu(), "1450");
        for (underlay, expected) in [(1400, "1350"), (9000, "8950")] {
            lab.host().set_mtu("eth0", underlay);
            scene::settle(&mut keeper);
            assert_eq!(mtu(), expected);
        }
        let state = overlay::keeper::local_state(&scene::dirs(lab).run, &"lab".parse().unwrap());
        assert_eq!(u32::from(state.unwrap().unwrap().mtu), 8950);
        assert_eq!(lab.host().sysctl("net/ipv4/conf/ovl7/rp_filter"), "2");
        lab.exec(&["ip", "address", "del", "198.51.100.1/24", "dev", "eth0"]).ok();
        lab.exec(&["ip", "address", "add", "198.51.100.7/24", "dev", "eth0"]).ok();
        scene::settle(&mut keeper);
        assert!(lab.exec(&["ip", "-d", "link", "show", "ovl7"]).ok().contains("local 198.51.100.7 "));
        keeper.remove().unwrap();
        // What the test did to the uplink is not the overlay's doing.
        lab.rebase();
    });
}

#[test]
fn a_taken_port_is_reported_with_its_owner() {
    lab::run("overlay-port-clash", |lab| {
        scene::uplink(lab);
        lab.exec(&["ip", "link", "add", "cilium_vxlan", "type", "vxlan", "external", "dstport", "4789"]).ok();
        lab.exec(&["ip", "link", "set", "cilium_vxlan", "up"]).ok();
        let mut keeper = scene::keeper(lab);
        scene::list(&mut keeper, 1..=3);
        let text = "UDP port 4789 belongs to VXLAN device cilium_vxlan";
        wait::wait_for(text, Duration::from_secs(5), || {
            keeper.handle(Event::Wake, Instant::now());
            scene::logged(&mut keeper, text)
        });
        // Another one has it: a process, this one.
        let socket = lab.host().run(|| std::net::UdpSocket::bind("0.0.0.0:4789"));
        assert!(socket.is_err(), "the device has the port");
        lab.exec(&["ip", "link", "del", "cilium_vxlan"]).ok();
        let socket = lab.host().run(|| std::net::UdpSocket::bind("0.0.0.0:4789")).unwrap();
        let name = std::fs::read_to_string("/proc/self/comm").unwrap();
        let text = format!("UDP port 4789 belongs to process {} ({})", name.trim(), std::process::id());
        wait::wait_for(&text, Duration::from_secs(5), || {
            keeper.handle(Event::Wake, Instant::now());
            scene::logged(&mut keeper, &text)
        });
        drop(socket);
        scene::settle(&mut keeper);
        keeper.remove().unwrap();
    });
}
