//! Settings, forwarding, the boot.

use kernel::{
    boot, forwarding,
    link::{self, change::AddrGenMode},
    netlink::Netlink,
    route::{self, Family, Route},
    sysctl, veth,
};

use crate::lab;

#[test]
fn sets_a_link_with_a_dot_in_its_name() {
    lab::run(|nl| {
        lab::pair(nl, "a.5", "b");
        let path = sysctl::conf(Family::V4, "a.5", "arp_notify");
        assert_eq!(sysctl::ensure(&path, "1").unwrap().as_deref(), Some("0"));
        assert_eq!(sysctl::ensure(&path, "1").unwrap(), None);
        assert_eq!(sysctl::read(&path).unwrap(), "1");
        assert_eq!(sysctl::read(&sysctl::path_of("net.ipv4.conf.a/5.arp_notify")).unwrap(), "1");
        let err = sysctl::ensure(&sysctl::conf(Family::V6, "nosuch", "accept_ra"), "0").unwrap_err();
        assert!(err.is_missing() && err.act() == "read sysctl net/ipv6/conf/nosuch/accept_ra", "{err}");

        let netns = lab::netns();
        netns.run(|| sysctl::write("net/ipv4/ip_forward", "1")).unwrap().unwrap();
        assert_eq!(netns.run(|| sysctl::read("net/ipv4/ip_forward")).unwrap().unwrap(), "1");
        assert_eq!(sysctl::read("net/ipv4/ip_forward").unwrap(), "0");
        assert_eq!(boot::id().unwrap().len(), 36);
    });
}

#[test]
fn forwarding_keeps_what_was_learned_from_advertisements() {
    lab::run(|nl| {
        let pairs = [("up", "x"), ("other", "y"), ("off", "z")].map(|(near, far)| lab::pair(nl, near, far).0);
        let accept = |link: &str| sysctl::conf(Family::V6, link, "accept_ra");
        sysctl::write(&accept("off"), "0").unwrap();
        let [up, _, off] = &pairs;
        for (priority, dev) in [(1024, up), (2048, off)] {
            let gateway = Some("fe80::1".parse().unwrap());
            nl.execute(route::add(&Route {
                gateway,
                dev: Some(dev.index),
                priority: Some(priority),
                protocol: route::PROTOCOL_RA,
                ..Route::to("::/0".parse().unwrap())
            }))
            .unwrap();
        }
        forwarding::enable_v4().unwrap();
        forwarding::enable_v6(nl).unwrap();
        forwarding::enable_v6(nl).unwrap();
        assert_eq!(sysctl::read("net/ipv4/ip_forward").unwrap(), "1");
        assert_eq!(sysctl::read("net/ipv6/conf/all/forwarding").unwrap(), "1");
        let now = ["up", "other", "off"].map(|link| sysctl::read(&accept(link)).unwrap());
        assert_eq!(now, ["2", "1", "0"]);
        assert_eq!(route::default_link(nl, Family::V6).unwrap(), Some(up.index));
    });
}

#[test]
fn no_link_local_address_where_none_is_wanted() {
    lab::run(|nl| {
        let netns = lab::netns();
        let mut inside = Netlink::open_in(&netns).unwrap();
        let pair = veth::add(link::new("a").up(), link::new("eth0").in_netns(&netns));
        nl.batch(&[pair, link::change_named("a").alias("tenon:n:c:eth0").request()]).unwrap();
        assert_eq!(link::by_name(nl, "a").unwrap().alias.as_deref(), Some("tenon:n:c:eth0"));
        let eth0 = link::change_named("eth0");
        inside
            .batch(&[eth0.clone().addr_gen_mode(AddrGenMode::None).request(), eth0.up().request()])
            .unwrap();
        let dev = link::by_name(&mut inside, "eth0").unwrap().dev();
        assert_eq!(kernel::address::list(&mut inside, &dev).unwrap(), []);
    });
}
