use super::*;

fn snapshot(lines: &[&str], sysctls: &[(&str, &str)]) -> Snapshot {
    let own = |text: &&str| text.to_string();
    Snapshot {
        lines: lines.iter().map(own).collect(),
        sysctls: sysctls.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
    }
}

#[test]
fn a_change_tells_what_came_went_and_turned() {
    let before = snapshot(&["link a", "link b"], &[("x", "0"), ("gone", "1")]);
    let after = snapshot(&["link a", "link c"], &[("x", "1"), ("new", "1")]);
    let change = before.until(&after).without(&Allowed::default());
    assert_eq!(change.to_string(), "  + link c\n  - link b\n  ~ sysctl x: 0 -> 1\n");
}

#[test]
fn applying_a_change_gives_the_later_lines() {
    let (before, after) = (snapshot(&["link a"], &[("x", "0")]), snapshot(&["link b"], &[("x", "1")]));
    let mut patched = before.clone();
    patched.apply(before.until(&after));
    assert_eq!(patched, after);
}

#[test]
fn an_exception_names_whole_words() {
    let check = |what: &str, line: &str, expected: bool| {
        let allowed = Allowed { words: vec![what.to_string()], tables: false };
        assert_eq!(allowed.covers(line), expected, "{what}: {line}");
    };
    check("link cni0", "link cni0 bridge mtu 1500", true);
    check("link cni0", "link cni01 bridge mtu 1500", false);
    check("dev cni0", "address 10.1.0.1/16 dev cni0", true);
    check("forwarding", "sysctl net.ipv4.conf.all.forwarding", true);
    check("dir /run/tenon", "dir /run/tenon/attach", true);
    check("sysctl net.ipv4.ip_forward", "sysctl net.ipv4.ip_forward", true);
    check("sysctl net.ipv4.ip_forward", "sysctl net.ipv4.ip_forward_update_priority", false);
}

#[test]
fn a_ruleset_is_told_line_by_line() {
    let text = "table inet t {\n\tset s {\n\t\ttype ipv4_addr\n\t\telements = { 192.0.2.1,\n\t\t\t     192.0.2.2 }\n\t}\n\n\
                \tchain c {\n\t\tip saddr { 192.0.2.1, 192.0.2.2 } accept\n\t}\n}\n";
    let expected = [
        "nft table inet t",
        "nft table inet t : chain c",
        "nft table inet t : chain c : ip saddr { 192.0.2.1, 192.0.2.2 } accept",
        "nft table inet t : set s",
        "nft table inet t : set s : elements = { 192.0.2.1, 192.0.2.2 }",
        "nft table inet t : set s : type ipv4_addr",
    ];
    assert_eq!(ruleset_lines(text).into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn tables_may_stay_but_no_element() {
    let allowed = Allowed { words: Vec::new(), tables: true };
    let check = |line: &str, expected: bool| assert_eq!(allowed.covers(line), expected, "{line}");
    check("nft table inet tenon", true);
    check("nft table inet tenon : set masq4 : type ifname . ipv4_addr", true);
    check("nft table inet tenon : set masq4 : elements = { \"cni0\" . 10.88.0.2 }", false);
    check("nft table ip filter : chain FORWARD : iifname cni0 accept", false);
}
