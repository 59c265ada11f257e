//! Routes of the address plugin, in the kernel with all their attributes.

use serde_json::{Value, json};

use crate::net::{Container, attach, dual_stack, ip, message, run};

fn with_routes(routes: Value) -> Value {
    let mut config = dual_stack(json!({"isDefaultGateway": false, "isGateway": true}));
    config["ipam"]["routes"] = routes;
    config
}

#[track_caller]
fn route(one: &Container, family: &str, table: &str, dst: &str) -> Value {
    let routes = ip(&one.ns, &format!("{family} route show table {table}"));
    let found = routes.as_array().unwrap().iter().find(|route| route["dst"] == dst);
    found.unwrap_or_else(|| panic!("no {dst} in {routes}")).clone()
}

/// The reference passes over mtu and advmss: its result says 1300, the kernel has none (ConfigureIface).
#[test]
fn every_attribute_reaches_the_kernel() {
    run("route_attributes", |lab| {
        let routes = json!([
            {"dst": "192.0.2.0/24", "mtu": 1300, "advmss": 1200, "priority": 50},
            {"dst": "198.18.0.0/15", "gw": "10.1.0.9", "table": 100},
            {"dst": "203.0.113.0/24", "scope": 253},
            {"dst": "2001:db8:2::/48", "mtu": 1290, "advmss": 1210, "priority": 70, "table": 200},
        ]);
        let one = attach(lab, &with_routes(routes.clone()), "one");
        let metric = |route: &Value, name: &str| route["metrics"][0][name].clone();
        let first = route(&one, "-4", "main", "192.0.2.0/24");
        // Without a gateway of its own it goes through the first of its family.
        assert_eq!((&first["gateway"], &first["metric"]), (&json!("10.1.0.1"), &json!(50)));
        assert_eq!((metric(&first, "mtu"), metric(&first, "advmss")), (json!(1300), json!(1200)));
        assert_eq!(route(&one, "-4", "100", "198.18.0.0/15")["gateway"], "10.1.0.9");
        let direct = route(&one, "-4", "main", "203.0.113.0/24");
        assert_eq!((direct.get("gateway"), &direct["scope"]), (None, &json!("link")));
        let v6 = route(&one, "-6", "200", "2001:db8:2::/48");
        assert_eq!((&v6["gateway"], &v6["metric"]), (&json!("fd00:1::1"), &json!(70)));
        assert_eq!((metric(&v6, "mtu"), metric(&v6, "advmss")), (json!(1290), json!(1210)));
        assert_eq!(one.result["routes"], routes);
        one.check().ok();
        one.detach();
    });
}

/// The reference's CHECK compares neither gateway nor table (ValidateExpectedRoute).
#[test]
fn check_compares_gateway_and_table() {
    run("check_routes", |lab| {
        let one = attach(lab, &with_routes(json!([{"dst": "0.0.0.0/0", "table": 100}])), "one");
        one.check().ok();
        let expected = "bridge: the route to 0.0.0.0/0 via 10.1.0.1 in table 100 is gone";
        for other in ["default via 10.1.0.77 table 100", "default via 10.1.0.1 table 101"] {
            let inside = |verb: &str, route: &str| {
                let argv: Vec<_> = ["ip", "route", verb].into_iter().chain(route.split(' ')).collect();
                one.ns.exec(&argv).ok();
            };
            inside("del", "default via 10.1.0.1 table 100");
            inside("add", other);
            assert_eq!(message(&one.check().err(999)), expected);
            inside("del", other);
            inside("add", "default via 10.1.0.1 dev eth0 table 100");
            one.check().ok();
        }
        one.detach();
    });
}
