use super::*;

fn conf(subnet: &str, start: &str, end: &str, gateway: &str) -> RangeConf {
    let ip = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
    RangeConf {
        subnet: subnet.parse().unwrap(),
        range_start: ip(start),
        range_end: ip(end),
        gateway: ip(gateway),
    }
}

#[track_caller]
fn check(subnet: &str, [start, end, gateway]: [&str; 3], expected: Result<&str, &str>) {
    let parsed = Range::parse("r", &conf(subnet, start, end, gateway));
    let shown =
        parsed.map(|r| format!("{r} via {}", r.gateway.map_or_else(|| "none".into(), |g| g.to_string())));
    assert_eq!(shown.as_deref().map_err(|e| e.msg.as_str()), expected, "{subnet} {start} {end} {gateway}");
}

const DEFAULTS: [&str; 3] = ["", "", ""];

#[test]
fn defaults_of_a_range() {
    check("192.0.2.0/24", DEFAULTS, Ok("192.0.2.1-192.0.2.254 via 192.0.2.1"));
    check("192.0.2.0/25", DEFAULTS, Ok("192.0.2.1-192.0.2.126 via 192.0.2.1"));
    check("192.0.2.0/30", DEFAULTS, Ok("192.0.2.1-192.0.2.2 via 192.0.2.1"));
    check("0.0.0.0/0", DEFAULTS, Ok("0.0.0.1-255.255.255.254 via 0.0.0.1"));
    check(
        "2001:db8:1::/64",
        DEFAULTS,
        Ok("2001:db8:1::1-2001:db8:1:0:ffff:ffff:ffff:ffff via 2001:db8:1::1"),
    );
    check("2001:db8:1::/126", DEFAULTS, Ok("2001:db8:1::1-2001:db8:1::3 via 2001:db8:1::1"));
    check("::/0", DEFAULTS, Ok("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff via ::1"));
    // RFC 3021, RFC 6164.
    check("192.0.2.0/31", DEFAULTS, Ok("192.0.2.0-192.0.2.1 via none"));
    check("2001:db8::2/127", DEFAULTS, Ok("2001:db8::2-2001:db8::3 via none"));
    check("192.0.2.0/31", ["", "", "192.0.2.0"], Ok("192.0.2.0-192.0.2.1 via 192.0.2.0"));
    check("192.0.2.7/32", DEFAULTS, Ok("192.0.2.7-192.0.2.7 via none"));
    check("2001:db8::7/128", ["", "", "fe80::1"], Ok("2001:db8::7-2001:db8::7 via fe80::1"));
}

#[test]
fn what_is_written_wins_if_it_makes_sense() {
    let written = ["192.0.2.40", "192.0.2.50", "192.0.2.254"];
    check("192.0.2.0/24", written, Ok("192.0.2.40-192.0.2.50 via 192.0.2.254"));
    check("192.0.2.0/24", ["192.0.2.0", "192.0.2.255", ""], Ok("192.0.2.0-192.0.2.255 via 192.0.2.1"));
    check("192.0.2.0/24", ["::ffff:192.0.2.9", "", ""], Ok("192.0.2.9-192.0.2.254 via 192.0.2.1"));
    check("192.0.2.0/24", ["", "", "198.51.100.1"], Ok("192.0.2.1-192.0.2.254 via 198.51.100.1"));

    let host_bits = |subnet: &str, network: &str| {
        let expected = format!("r.subnet: {subnet}: has host bits set; the subnet is {network}");
        check(subnet, DEFAULTS, Err(&expected));
    };
    host_bits("192.0.2.12/24", "192.0.2.0/24");
    host_bits("192.168.127.0/23", "192.168.126.0/23");
    host_bits("2001:db8:24:19ff::/63", "2001:db8:24:19fe::/63");
    let mapped = "r.subnet: ::ffff:192.0.2.0/120: is IPv4 written as IPv6";
    check("::ffff:192.0.2.0/120", DEFAULTS, Err(mapped));
    let c = "192.0.2.0/24";
    check(c, ["192.0.3.0", "", ""], Err("r.rangeStart: 192.0.3.0: is not in 192.0.2.0/24"));
    check(c, ["", "192.0.4.0", ""], Err("r.rangeEnd: 192.0.4.0: is not in 192.0.2.0/24"));
    check(c, ["", "2001:db8::1", ""], Err("r.rangeEnd: 2001:db8::1: is not in 192.0.2.0/24"));
    let backwards = "r.rangeStart: 192.0.2.50: is after rangeEnd 192.0.2.40";
    check(c, ["192.0.2.50", "192.0.2.40", ""], Err(backwards));
    check(c, ["", "", "fe80::1"], Err("r.gateway: fe80::1: is not of the family of 192.0.2.0/24"));
}

#[test]
fn contains() {
    let range = Range::parse("r", &conf("192.0.2.0/24", "192.0.2.40", "192.0.2.50", "")).unwrap();
    for (address, expected) in [
        ("192.0.2.39", false),
        ("192.0.2.40", true),
        ("192.0.2.50", true),
        ("192.0.2.51", false),
        ("192.0.3.45", false),
        ("::c000:22d", false),
    ] {
        assert_eq!(range.contains(address.parse().unwrap()), expected, "{address}");
    }
}

#[test]
fn sets_and_their_overlaps() {
    fn check(sets: &[&[(&str, &str, &str)]], expected: Result<&str, &str>) {
        let named: Vec<_> = sets
            .iter()
            .enumerate()
            .map(|(i, set)| {
                let confs = set.iter().map(|(subnet, start, end)| conf(subnet, start, end, ""));
                SetConf::array(format!("s[{i}]"), confs.collect())
            })
            .collect();
        let shown =
            parse_sets(&named).map(|s| s.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        assert_eq!(shown.as_deref().map_err(|e| e.msg.as_str()), expected, "{sets:?}");
    }
    let whole = |subnet: &'static str| (subnet, "", "");
    check(
        &[&[whole("10.1.2.0/30"), whole("10.2.2.0/30")], &[whole("2001:db8::/126")]],
        Ok("10.1.2.1-10.1.2.2,10.2.2.1-10.2.2.2 2001:db8::1-2001:db8::3"),
    );
    check(&[], Ok(""));
    check(&[&[]], Err("s[0]: []: holds no range"));
    check(
        &[&[whole("10.1.0.0/22"), whole("10.1.2.0/24")]],
        Err(
            "s[0][1].subnet: 10.1.2.0/24: range 10.1.2.1-10.1.2.254 overlaps with 10.1.0.1-10.1.3.254 of the same set",
        ),
    );
    check(
        &[&[whole("10.1.2.0/24"), whole("10.1.0.0/22")]],
        Err(
            "s[0][1].subnet: 10.1.0.0/22: range 10.1.0.1-10.1.3.254 overlaps with 10.1.2.1-10.1.2.254 of the same set",
        ),
    );
    check(
        &[&[whole("10.1.0.0/24"), whole("2001:db8::/64")]],
        Err(
            "s[0][1].subnet: 2001:db8::/64: is of another family than 10.1.0.0/24; one address of each takes two sets",
        ),
    );
    check(
        &[&[whole("10.1.2.0/30"), whole("10.2.2.0/30")], &[whole("10.1.4.0/30"), whole("10.2.2.0/30")]],
        Err("s[1]: 10.2.2.1-10.2.2.2: overlaps with s[0] (10.1.2.1-10.1.2.2,10.2.2.1-10.2.2.2)"),
    );
    // One subnet in two parts; the same bits in two families.
    check(
        &[&[("10.0.0.0/24", "", "10.0.0.127")], &[("10.0.0.0/24", "10.0.0.128", "")]],
        Ok("10.0.0.1-10.0.0.127 10.0.0.128-10.0.0.254"),
    );
    check(
        &[&[("10.0.0.0/24", "", "10.0.0.127"), ("10.0.0.0/24", "10.0.0.127", "")]],
        Err(
            "s[0][1].subnet: 10.0.0.0/24: range 10.0.0.127-10.0.0.254 overlaps with 10.0.0.1-10.0.0.127 of the same set",
        ),
    );
    check(&[&[whole("0.0.0.0/30")], &[whole("::/126")]], Ok("0.0.0.1-0.0.0.2 ::1-::3"));
}
