use kernel::route::{NextHop, SCOPE_UNIVERSE, TABLE_MAIN};

use super::*;

const RED: u32 = 1001;

fn address(network: &str) -> Address {
    let link_local = network.starts_with("fe80:");
    Address {
        link: 2.into(),
        network: network.parse().unwrap(),
        peer: None,
        scope: if link_local { SCOPE_LINK } else { SCOPE_UNIVERSE },
        // IFA_F_PERMANENT
        flags: 0x80,
        label: None,
        broadcast: None,
    }
}

fn route(dst: &str, gateway: Option<&str>, table: u32) -> Route {
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    Route { gateway, dev: Some(2.into()), table, ..Route::to(dst.parse().unwrap()) }
}

fn connected(dst: &str) -> Route {
    Route { protocol: PROTOCOL_KERNEL, ..route(dst, None, TABLE_MAIN) }
}

#[track_caller]
fn check(addresses: &[&str], routes: &[Route], expected: &[&str]) {
    let dev = Dev { index: 2.into(), name: "eth0".to_owned() };
    let addresses = addresses.iter().map(|network| address(network)).collect();
    let kept = Kept { dev, addresses, routes: routes.to_vec(), shared: vec![] };
    let acts: Vec<_> = kept.put_back(TABLE_MAIN, RED).iter().map(|it| it.act().to_owned()).collect();
    assert_eq!(acts, expected);
}

#[test]
fn routes_of_the_main_table_move_and_others_stay() {
    let default = |gateway, table| route("0.0.0.0/0", Some(gateway), table);
    check(
        &["10.1.0.2/16"],
        &[default("10.1.0.1", TABLE_MAIN), default("10.1.0.9", 100), connected("10.1.0.0/16")],
        &[
            "append route to 0.0.0.0/0 via 10.1.0.1 in table 1001",
            "append route to 0.0.0.0/0 via 10.1.0.9 in table 100",
        ],
    );
}

/// As ptp has them: the subnet by the gateway, the gateway directly. The kernel connects the subnet again.
#[test]
fn direct_routes_come_first_and_the_kernels_own_are_not_made_up() {
    check(
        &["10.1.0.2/16"],
        &[route("10.1.0.0/16", Some("10.1.0.1"), TABLE_MAIN), route("10.1.0.1/32", None, TABLE_MAIN)],
        &[
            "remove route to 10.1.0.2/16 in table 1001",
            "append route to 10.1.0.1/32 in table 1001",
            "append route to 10.1.0.0/16 via 10.1.0.1 in table 1001",
        ],
    );
}

#[test]
fn ipv6_addresses_are_given_anew() {
    check(
        &["fd00:1::2/64", "fe80::2/64"],
        &[connected("fd00:1::/64"), connected("fe80::/64"), route("::/0", Some("fd00:1::1"), TABLE_MAIN)],
        &[
            "remove address fd00:1::2/64 from eth0",
            "add address fd00:1::2/64 to eth0",
            "add address fe80::2/64 to eth0",
            "append route to ::/0 via fd00:1::1 in table 1001",
        ],
    );
}

#[test]
fn what_routers_advertise_is_theirs_to_repeat() {
    let of_router = Route { protocol: PROTOCOL_RA, ..route("::/0", Some("fe80::1"), TABLE_MAIN) };
    let dev = Dev { index: 2.into(), name: "eth0".to_owned() };
    let learned = Address { flags: 0, ..address("2001:db8::2/64") };
    let routes = vec![of_router, connected("2001:db8::/64")];
    let kept = Kept { dev, addresses: vec![learned], routes, shared: vec![] };
    assert!(kept.put_back(TABLE_MAIN, RED).is_empty());
    assert_eq!(kept.moving(TABLE_MAIN).count(), 0);
}

/// The default routes of two interfaces, which the kernel has joined.
#[test]
fn of_a_route_of_several_interfaces_the_own_way_moves() {
    let dev = Dev { index: 2.into(), name: "eth0".to_owned() };
    let hop = |dev: u32| NextHop {
        gateway: Some("fd00:1::1".parse().unwrap()),
        dev: dev.into(),
        weight: 1,
        onlink: false,
    };
    let joined = Route { dev: None, next_hops: vec![hop(2), hop(3)], ..route("::/0", None, TABLE_MAIN) };
    let shared = own_hops(&joined, &dev);
    assert_eq!(shared, [route("::/0", Some("fd00:1::1"), TABLE_MAIN)]);
    let kept = Kept { dev, addresses: vec![], routes: vec![], shared };
    let acts: Vec<_> = kept.put_back(TABLE_MAIN, RED).iter().map(|it| it.act().to_owned()).collect();
    let expected = ["remove route to ::/0 via fd00:1::1", "append route to ::/0 via fd00:1::1 in table 1001"];
    assert_eq!(acts, expected);
}
