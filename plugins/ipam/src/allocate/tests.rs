use super::*;
use crate::range::{RangeConf, SetConf, parse_sets};

/// Sets written as `10.0.0.0/29 10.0.1.0/30|2001:db8::/126`; a subnet may be followed by `@gateway` and `>start-end`.
fn sets(text: &str) -> Vec<RangeSet> {
    let range = |text: &str| {
        let (text, bounds) =
            text.split_once('>').map_or((text, None), |(text, bounds)| (text, bounds.split_once('-')));
        let (subnet, gateway) =
            text.split_once('@').map_or((text, None), |(subnet, gateway)| (subnet, Some(gateway)));
        RangeConf {
            subnet: subnet.parse().unwrap(),
            range_start: bounds.map(|(start, _)| start.parse().unwrap()),
            range_end: bounds.map(|(_, end)| end.parse().unwrap()),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        }
    };
    let set = |text: &str| SetConf::array(text.to_owned(), text.split(' ').map(range).collect());
    let named: Vec<_> = text.split('|').map(set).collect();
    parse_sets(&named).unwrap()
}

#[test]
fn order_of_trial() {
    fn check(set: &str, last: &str, expected: &str) {
        let sets = sets(set);
        let last = (!last.is_empty()).then(|| last.parse().unwrap());
        let tried: Vec<_> = candidates(&sets[0], last).map(|(address, _)| address.to_string()).collect();
        assert_eq!(tried.join(" "), expected, "{set} after {last:?}");
    }
    // A fresh start skips the gateway and the broadcast address.
    check("10.0.0.0/29", "", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6");
    check("10.0.0.0/30", "", "10.0.0.2");
    check("2001:db8:1::/126", "", "2001:db8:1::2 2001:db8:1::3");
    check("10.0.0.0/29@10.0.0.4", "", "10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.5 10.0.0.6");
    // Round robin; the last one itself comes last, since it may have been released.
    check("10.0.0.0/29", "10.0.0.4", "10.0.0.5 10.0.0.6 10.0.0.2 10.0.0.3 10.0.0.4");
    check("10.0.0.0/29", "10.0.0.6", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6");
    check("10.0.0.0/29", "10.0.0.1", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6");
    // Not in the set: another subnet's, another family's, the broadcast address.
    for last in ["10.0.0.128", "::a00:3", "10.0.0.7"] {
        check("10.0.0.0/29", last, "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6");
    }
    check("10.0.0.0/30 10.0.1.0/30 10.0.2.0/30", "", "10.0.0.2 10.0.1.2 10.0.2.2");
    check("10.0.0.0/30 10.0.1.0/30 10.0.2.0/30", "10.0.1.2", "10.0.2.2 10.0.0.2 10.0.1.2");
    check("10.0.0.0/30 10.0.1.0/30 10.0.2.0/30", "10.0.2.2", "10.0.0.2 10.0.1.2 10.0.2.2");
    check("10.0.0.0/30>10.0.0.0-10.0.0.3 10.0.1.0/30", "10.0.0.3", "10.0.1.2 10.0.0.0 10.0.0.2 10.0.0.3");
    check("10.0.0.0/31", "", "10.0.0.0 10.0.0.1");
    check("10.0.0.0/31@10.0.0.1", "", "10.0.0.0");
    check("10.0.0.9/32 10.0.0.4/32", "10.0.0.9", "10.0.0.4 10.0.0.9");
    // The end of both families' number spaces.
    check("255.255.255.254/31", "255.255.255.255", "255.255.255.254 255.255.255.255");
    let top = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    check(&format!("{top}/128"), top, top);
    // A gateway of one range is not leased out of another (the reference does).
    check(
        "10.0.0.0/29@10.0.0.5>10.0.0.1-10.0.0.3 10.0.0.0/29@10.0.0.2>10.0.0.4-10.0.0.6",
        "",
        "10.0.0.1 10.0.0.3 10.0.0.4 10.0.0.6",
    );
}

#[test]
fn a_huge_range_is_walked_lazily() {
    let sets = sets("2001:db8::/32");
    assert_eq!(candidates(&sets[0], None).nth(3).unwrap().0.to_string(), "2001:db8::5");
}

#[test]
fn requested_addresses() {
    fn check(requested: &[&str], expected: Result<&str, &str>) {
        let sets = sets("10.0.0.0/24 10.0.1.0/24|10.0.2.0/24|2001:db8::/64");
        let requested: Vec<_> = requested.iter().map(|ip| ip.parse().unwrap()).collect();
        let shown = assign(&sets, &requested)
            .map(|a| {
                a.iter().map(|ip| ip.map_or("any".into(), |ip| ip.to_string())).collect::<Vec<_>>().join(" ")
            })
            .map_err(|e| e.to_string());
        assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{requested:?}");
    }
    check(&[], Ok("any any any"));
    check(&["10.0.2.9"], Ok("any 10.0.2.9 any"));
    check(&["2001:db8::9", "10.0.2.9", "10.0.1.9"], Ok("10.0.1.9 10.0.2.9 2001:db8::9"));
    check(&["10.0.2.9", "10.0.2.9"], Ok("any 10.0.2.9 any"));
    check(&["10.0.2.1"], Err("requested address 10.0.2.1 is a gateway"));
    check(
        &["10.0.0.9", "10.0.1.9"],
        Err("requested addresses 10.0.0.9 and 10.0.1.9 are both of range set 0, and a set gives one address"),
    );
    check(
        &["10.0.0.9", "10.0.3.9"],
        Err(
            "requested address 10.0.3.9 is in no range (10.0.0.1-10.0.0.254,10.0.1.1-10.0.1.254 10.0.2.1-10.0.2.254 2001:db8::1-2001:db8::ffff:ffff:ffff:ffff)",
        ),
    );
}
