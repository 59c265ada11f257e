//! Bridges, their ports and VLANs.

use kernel::{
    bridge::{self, Options, PortOptions},
    bridge_vlan::{self, Side, Tagging, Vlans},
    link::{self, BridgePort, Kind, Link},
    netlink::Netlink,
    veth,
};

use crate::lab;

fn with_port(nl: &mut Netlink, options: &Options) -> (Link, Link) {
    let br = link::create(nl, bridge::add(link::new("br0").up(), options), "br0").unwrap();
    let port =
        link::create(nl, veth::add(link::new("p").master(br.index).up(), link::new("q")), "p").unwrap();
    (br, port)
}

#[test]
fn sets_bridges_and_ports() {
    lab::run(|nl| {
        let options = Options {
            ageing: Some(60),
            stp: Some(false),
            multicast_snooping: Some(false),
            group_forward_mask: Some(8),
            ..Options::default()
        };
        let (br, port) = with_port(nl, &options);
        assert_eq!(br.kind, Some(Kind::Bridge { vlan_filtering: false, ageing: 60 }));
        nl.execute(bridge::set(&br.dev(), &Options { ageing: Some(30), ..Options::default() })).unwrap();
        let br = link::by_name(nl, "br0").unwrap();
        assert_eq!(br.kind, Some(Kind::Bridge { vlan_filtering: false, ageing: 30 }));
        let err = nl.execute(bridge::add(link::new("br0"), &options)).unwrap_err();
        assert!(err.is_exists() && err.act() == "add bridge br0", "{err}");

        assert_eq!(port.port, Some(BridgePort { learning: true, ..BridgePort::default() }));
        let options = PortOptions {
            hairpin: Some(true),
            isolated: Some(true),
            neigh_suppress: Some(true),
            learning: Some(false),
            unicast_flood: Some(false),
            multicast_flood: Some(false),
        };
        nl.execute(bridge::set_port_named("p", &options)).unwrap();
        let all = BridgePort { hairpin: true, isolated: true, learning: false, neigh_suppress: true };
        assert_eq!(link::by_name(nl, "p").unwrap().port, Some(all));
        nl.execute(bridge::set_port(
            &port.dev(),
            &PortOptions { hairpin: Some(false), ..PortOptions::default() },
        ))
        .unwrap();
        assert_eq!(link::by_name(nl, "p").unwrap().port, Some(BridgePort { hairpin: false, ..all }));

        assert_eq!(link::list_ports(nl, &br.dev()).unwrap().len(), 1);
        assert_eq!(link::list_kind(nl, "veth").unwrap().len(), 2);
        assert_eq!(link::list_kind(nl, "nosuch").unwrap(), []);
        nl.execute(link::change(&port.dev()).no_master().request()).unwrap();
        assert_eq!(link::list_ports(nl, &br.dev()).unwrap(), []);
        nl.execute(link::change(&port.dev()).master(&br.dev()).request()).unwrap();
        assert_eq!(link::list_ports(nl, &br.dev()).unwrap()[0].index, port.index);
        assert!(nl.execute(bridge::set_port_named("q", &options)).is_err());
    });
}

#[test]
fn keeps_vlans_where_the_kernel_has_them() {
    lab::run(|nl| {
        let (br, port) = with_port(nl, &Options::default());
        let filter = Options { vlan_filtering: Some(true), default_pvid: Some(0), ..Options::default() };
        if let Err(err) = nl.execute(bridge::set(&br.dev(), &filter)) {
            let err = nl
                .execute(bridge_vlan::add(&port.dev(), Side::Port, 7..=7, Tagging::Native))
                .expect_err(&err.to_string());
            assert!(err.is_unsupported() && err.act() == "add VLAN 7 to p", "{err}");
            assert_eq!(bridge_vlan::list(nl).unwrap(), []);
            return;
        }
        let port_dev = port.dev();
        nl.batch(&[
            bridge_vlan::add(&port_dev, Side::Port, 7..=7, Tagging::Native),
            bridge_vlan::add(&port_dev, Side::Port, 100..=199, Tagging::Tagged),
            bridge_vlan::add(&br.dev(), Side::Bridge, 7..=7, Tagging::Tagged),
        ])
        .unwrap();
        let vlans = |link, range, native| Vlans { link, range, pvid: native, untagged: native };
        let mut all = bridge_vlan::list(nl).unwrap();
        all.sort_by_key(|vlans| (vlans.link, *vlans.range.start()));
        let expected = [
            vlans(br.index, 7..=7, false),
            vlans(port.index, 7..=7, true),
            vlans(port.index, 100..=199, false),
        ];
        assert_eq!(all, expected);
        nl.execute(bridge_vlan::remove(&port_dev, Side::Port, 100..=199)).unwrap();
        assert_eq!(bridge_vlan::list(nl).unwrap().len(), 2);
        nl.execute(bridge_vlan::remove(&port_dev, Side::Port, 100..=199)).unwrap();
    });
}
