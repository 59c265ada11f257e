//! Links of every kind against the running kernel.

use std::time::Duration;

use kernel::{
    address::{self, Dad},
    bridge,
    link::{self, Kind, Mtu, OperState, change::AddrGenMode},
    mac::MacAddr,
    macvlan,
    netlink::Netlink,
    route::{self, Family, Filter, Route},
    veth,
};

use crate::lab;

fn mtu(mtu: u32) -> Mtu {
    Mtu::try_from(mtu).unwrap()
}

#[test]
fn attaches_a_container_in_three_exchanges() {
    lab::run(|nl| {
        let netns = lab::netns();
        let mut inside = Netlink::open_in(&netns).unwrap();
        let cni0 = link::create(nl, bridge::add(link::new("cni0").up(), &bridge::Options::default()), "cni0")
            .unwrap();
        assert!(cni0.is_bridge() && cni0.is_up());

        let mac = MacAddr([2, 0, 0, 0, 0, 7]);
        let near = link::new("veth1").mtu(mtu(1400)).master(cni0.index).up();
        let peer = link::new("eth0").mtu(mtu(1400)).mac(mac).in_netns(&netns);
        let host = link::create(nl, veth::add(near, peer), "veth1").unwrap();
        assert_eq!((host.mtu, host.master, host.is_up()), (1400, Some(cni0.index), true));
        assert!(host.peer_netnsid.is_some());

        let eth0 = link::by_name(&mut inside, "eth0").unwrap();
        assert_eq!((eth0.mac, eth0.mtu, Some(eth0.index)), (Some(mac), 1400, host.parent));
        let gateway = "10.1.0.1".parse().unwrap();
        let default = Route {
            gateway: Some(gateway),
            dev: Some(eth0.index),
            ..Route::to("0.0.0.0/0".parse().unwrap())
        };
        inside
            .batch(&[
                link::change(&eth0.dev()).addr_gen_mode(AddrGenMode::None).request(),
                link::change(&eth0.dev()).up().request(),
                address::add(&eth0.dev(), "10.1.0.7/16".parse().unwrap(), Dad::Skip),
                address::add(&eth0.dev(), "fd00::7/64".parse().unwrap(), Dad::Skip),
                route::add(&default),
            ])
            .unwrap();
        address::wait_settled(&mut inside, &eth0.dev(), Duration::ZERO).unwrap();
        let addresses = address::list(&mut inside, &eth0.dev()).unwrap();
        let texts: Vec<_> = addresses.iter().map(|a| a.network.to_string()).collect();
        assert_eq!(texts, ["10.1.0.7/16", "fd00::7/64"]);
        assert_eq!(route::default_link(&mut inside, Family::V4).unwrap(), Some(eth0.index));
        let routes =
            route::list(&mut inside, Family::V4, Filter { table: Some(254), ..Filter::default() }).unwrap();
        assert!(routes.contains(&default), "{routes:?}");

        nl.execute(link::remove(&host.dev())).unwrap();
        nl.execute(link::remove(&host.dev())).unwrap();
        assert!(link::find(&mut inside, "eth0").unwrap().is_none());
    });
}

#[test]
fn names_act_object_and_cause() {
    lab::run(|nl| {
        let (a, _b) = lab::pair(nl, "a", "b");
        let network = "10.1.0.1/16".parse().unwrap();
        nl.execute(address::add(&a, network, Dad::Skip)).unwrap();
        let err = nl.execute(address::add(&a, network, Dad::Skip)).unwrap_err();
        assert!(err.is_exists());
        let text = err.to_string();
        assert!(text.starts_with("add address 10.1.0.1/16 to a: File exists (os error 17)"), "{text}");
        nl.execute(address::add(&a, network, Dad::Skip).ok_if_exists()).unwrap();

        let err = nl.execute(veth::add(link::new("a"), link::new("c"))).unwrap_err();
        assert!(err.is_exists(), "{err}");
        let err = link::by_name(nl, "nosuch").unwrap_err();
        assert!(err.is_missing(), "{err}");
        let err = nl.execute(link::add(link::new("x"), "nosuchkind")).unwrap_err();
        assert!(err.is_unsupported() && err.extack().is_some(), "{err}");
    });
}

#[test]
fn changes_links() {
    lab::run(|nl| {
        let (a, b) = lab::pair(nl, "a", "b");
        let change = link::change(&a).mtu(mtu(1300)).alias("tenon:x").txqlen(7).group(5).promiscuous(true);
        nl.execute(change.allmulticast(true).mac(MacAddr([2, 1, 1, 1, 1, 1])).request()).unwrap();
        let link = link::by_index(nl, a.index).unwrap();
        assert_eq!((link.mtu, link.txqlen, link.group), (1300, 7, 5));
        assert_eq!(link.alias.as_deref(), Some("tenon:x"));
        assert!(link.is_promiscuous() && link.is_allmulticast());
        assert_eq!(link.mac, Some(MacAddr([2, 1, 1, 1, 1, 1])));

        for altname in ["an-alternative-name-beyond-fifteen", "short"] {
            nl.execute(link::add_altname(&a, altname)).unwrap();
            let link = link::by_name(nl, altname).unwrap();
            assert_eq!(
                (link.index, link.name.as_str(), link.altnames.as_slice()),
                (a.index, "a", &[altname.into()][..])
            );
            nl.batch(&[link::remove_altname(&a, altname), link::remove_altname(&a, altname)]).unwrap();
            assert!(link::find(nl, altname).unwrap().is_none());
        }
        let err = nl.execute(link::add(link::new("a-name-beyond-fifteen"), "ifb")).unwrap_err();
        assert!(err.act() == "add ifb a-name-beyond-fifteen", "{err}");

        let lower =
            link::create(nl, macvlan::add(link::new("m0"), a.index, macvlan::Mode::Private, None), "m0");
        assert_eq!(lower.unwrap().kind, Some(Kind::Macvlan(macvlan::Mode::Private)));
        let before = link::list(nl).unwrap().len();
        for (kind, known) in [("macvlan", true), ("veth", true), ("bridge", true), ("nonsense", false)] {
            assert_eq!(link::knows_kind(nl, kind).unwrap(), known, "{kind}");
        }
        assert_eq!(link::list(nl).unwrap().len(), before);

        let netns = lab::netns();
        nl.execute(link::change(&b).netns(&netns).name("eth0").request()).unwrap();
        let mut inside = Netlink::open_in(&netns).unwrap();
        assert!(!link::by_name(&mut inside, "eth0").unwrap().is_up());
        lab::wait_link(nl, &a, |link| !link.is_running() && link.operstate != OperState::Up);
    });
}
