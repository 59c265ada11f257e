//! Neighbours, forwarding tables, announcements.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use kernel::{
    address::{self, Dad},
    announce, bridge,
    fdb::{self, Entry, Table},
    link::{self, Kind},
    mac::MacAddr,
    neighbour::{self, Neighbour},
    netlink::Netlink,
    veth, vxlan,
};

use crate::lab;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn keeps_neighbours() {
    lab::run(|nl| {
        let (a, b) = lab::pair(nl, "a", "b");
        let entries = ["10.0.0.2", "fd00::2"]
            .map(|address| Neighbour::permanent(a.index, ip(address), MacAddr([2, 0, 0, 0, 0, 2]), 116));
        nl.batch(&entries.each_ref().map(neighbour::add)).unwrap();
        nl.batch(&entries.each_ref().map(neighbour::replace)).unwrap();
        assert!(nl.execute(neighbour::add(&entries[0])).unwrap_err().is_exists());
        assert_eq!(neighbour::list(nl, Some(a.index)).unwrap(), entries);
        assert_eq!(neighbour::list(nl, Some(b.index)).unwrap(), []);
        let remove = entries.each_ref().map(|entry| neighbour::remove(entry.link, entry.address));
        nl.batch(&remove).unwrap();
        nl.batch(&remove).unwrap();
        assert_eq!(neighbour::list(nl, None).unwrap(), []);
        nl.batch(&[neighbour::add_proxy(&a, ip("10.0.0.9")), neighbour::remove_proxy(&a, ip("10.0.0.9"))])
            .unwrap();
        nl.execute(neighbour::remove_proxy(&a, ip("10.0.0.9"))).unwrap();
    });
}

#[test]
fn keeps_forwarding_tables() {
    lab::run(|nl| {
        for (local, remote) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
            let options =
                vxlan::Options { vni: 77, port: 4789, local: Some(ip(local)), dev: None, learning: false };
            let ovl = link::create(nl, vxlan::add(link::new("ovl77").up(), &options), "ovl77").unwrap();
            let Some(Kind::Vxlan { vni: 77, port: 4789, local: Some(found), dev: None, learning: false }) =
                ovl.kind
            else {
                panic!("{ovl:?}");
            };
            assert_eq!(found, ip(local));
            let entry = Entry::behind(ovl.index, MacAddr([2, 0, 0, 0, 0, 2]), ip(remote));
            nl.batch(&[fdb::add(&entry), fdb::replace(&entry)]).unwrap();
            assert!(nl.execute(fdb::add(&entry)).unwrap_err().is_exists());
            let all = Entry { mac: MacAddr([0; 6]), ..entry.clone() };
            nl.execute(fdb::append(&all)).unwrap();
            let mut listed = fdb::list(nl, ovl.index).unwrap();
            listed.sort_by_key(|entry| entry.mac);
            assert_eq!(listed, [all.clone(), entry.clone()]);
            nl.batch(&[fdb::remove(&all), fdb::remove(&entry)]).unwrap();
            nl.batch(&[fdb::remove(&all), fdb::remove(&entry)]).unwrap();
            assert_eq!(fdb::list(nl, ovl.index).unwrap(), []);
            nl.execute(link::remove(&ovl.dev())).unwrap();
        }

        let br =
            link::create(nl, bridge::add(link::new("br0").up(), &bridge::Options::default()), "br0").unwrap();
        let port =
            link::create(nl, veth::add(link::new("p").master(br.index).up(), link::new("q")), "p").unwrap();
        let entry = Entry {
            link: port.index,
            mac: MacAddr([2, 0, 0, 0, 0, 3]),
            table: Table::Master,
            remote: None,
            vlan: None,
            permanent: true,
        };
        nl.execute(fdb::add(&entry)).unwrap();
        assert!(fdb::list(nl, port.index).unwrap().contains(&entry));
        nl.batch(&[fdb::remove(&entry), fdb::remove(&entry)]).unwrap();
        assert!(!fdb::list(nl, port.index).unwrap().contains(&entry));
    });
}

#[test]
fn announcements_replace_what_neighbours_knew() {
    lab::run(|nl| {
        let netns = lab::netns();
        let mut inside = Netlink::open_in(&netns).unwrap();
        let pair = veth::add(link::new("host").up(), link::new("eth0").in_netns(&netns));
        let host = link::create(nl, pair, "host").unwrap().dev();
        let eth0 = link::by_name(&mut inside, "eth0").unwrap();
        inside.execute(link::change(&eth0.dev()).up().request()).unwrap();
        link::wait_running(nl, &host, Duration::from_secs(5)).unwrap();
        let networks = ["10.0.0.1/24", "fd00::1/64"].map(|text| text.parse().unwrap());
        nl.batch(&networks.map(|network| address::add(&host, network, Dad::Skip))).unwrap();

        let addresses = [ip("10.0.0.7"), ip("fd00::7")];
        let last_owner = MacAddr([2, 0, 0, 0, 0, 66]);
        let stale =
            |address| Neighbour { state: 4, ..Neighbour::permanent(host.index, address, last_owner, 0) };
        nl.batch(&addresses.map(|address| neighbour::replace(&stale(address)))).unwrap();
        let mac = eth0.mac.unwrap();
        inside
            .batch(&networks_of_the_container().map(|network| address::add(&eth0.dev(), network, Dad::Skip)))
            .unwrap();
        inside.execute(link::change(&eth0.dev()).arp_notify().request()).unwrap();
        netns.run(|| announce::switch_on_v6(&eth0.dev())).unwrap().unwrap();
        inside.execute(announce::now(&eth0.dev(), mac)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        for address in addresses {
            while !neighbour::list(nl, None)
                .unwrap()
                .iter()
                .any(|n| n.address == address && n.mac == Some(mac))
            {
                assert!(Instant::now() < deadline, "{address} still at {last_owner}");
                std::thread::yield_now();
            }
        }
    });
}

fn networks_of_the_container() -> [ipnetwork::IpNetwork; 2] {
    ["10.0.0.7/24", "fd00::7/64"].map(|text| text.parse().unwrap())
}
