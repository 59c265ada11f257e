use super::*;

fn definition() -> Definition {
    serde_json::from_str(r#"{"name":"lab","pools":["10.244.0.0/16","fd00:244::/48"]}"#).unwrap()
}

fn us() -> Us {
    Us {
        node: Some("us".parse().unwrap()),
        addresses: ["192.0.2.1".parse().unwrap()].into(),
        mac: Some(MacText("02:00:00:00:00:01".parse().unwrap())),
        subnets: vec!["10.244.1.0/24".parse().unwrap()],
    }
}

fn record(node: &str, underlay: &str, mac: &str, subnets: &[&str]) -> Candidate {
    let json = serde_json::json!({"node": node, "underlay": {"v4": underlay}, "mac": {"v4": mac}, "subnets": subnets});
    let record = serde_json::from_value(json).map_err(|err| Refusal::Malformed(err.to_string()));
    Candidate { rank: 0, record }
}

/// A good neighbour `a`, then `other`: `a` gets in whatever comes after it.
#[track_caller]
fn check(other: Candidate, expected: Option<&str>) {
    let good = record("a", "192.0.2.2", "02:00:00:00:00:02", &["10.244.2.0/24", "fd00:244:0:2::/64"]);
    let candidates =
        Candidates::from([("a".to_owned(), good), ("x".to_owned(), Candidate { rank: 1, ..other })]);
    let admission = admit(&definition(), &us(), &candidates);
    assert!(admission.peers.contains_key(&"a".parse().unwrap()), "the good peer stays");
    assert_eq!(admission.refused.get("x").map(ToString::to_string).as_deref(), expected);
    assert_eq!(admission.peers.len(), if expected.is_none() { 2 } else { 1 });
}

#[test]
fn hostile_records_are_refused_alone_and_by_name() {
    let mac = "02:00:00:00:00:03";
    check(record("b", "192.0.2.3", mac, &["10.244.3.0/24", "fd00:244:0:3::/64"]), None);
    check(record("b", "192.0.2.3", mac, &[]), None);
    for (subnets, why) in [
        (["10.244.1.128/25"].as_slice(), "subnets: 10.244.1.128/25 overlaps this host's 10.244.1.0/24"),
        (&["10.244.0.0/16"], "subnets: 10.244.0.0/16 overlaps this host's 10.244.1.0/24"),
        (&["10.244.2.0/25"], "subnets: 10.244.2.0/25 overlaps 10.244.2.0/24 of a"),
        (&["10.244.2.0/23"], "subnets: 10.244.2.0/23 overlaps 10.244.2.0/24 of a"),
        (&["fd00:244::/62"], "subnets: fd00:244::/62 overlaps fd00:244:0:2::/64 of a"),
        (&["0.0.0.0/0"], "subnets: 0.0.0.0/0 is outside of the network's pools"),
        (&["192.0.2.0/24"], "subnets: 192.0.2.0/24 is outside of the network's pools"),
        (&["10.244.3.1/24"], "subnets: 10.244.3.1/24 has bits set behind its prefix"),
        (
            &["10.244.4.0/24", "10.244.4.0/25"],
            "subnets: 10.244.4.0/25 overlaps 10.244.4.0/24 of the same record",
        ),
        (&["10.244.9.0/30"; 17], "subnets: 17 are more than the 16 that one host may have"),
    ] {
        check(record("b", "192.0.2.3", mac, subnets), Some(why));
    }
    for (underlay, why) in [
        ("192.0.2.1", "underlay: 192.0.2.1 is an address of this host"),
        ("192.0.2.2", "underlay: 192.0.2.2 is a's"),
        ("10.244.7.1", "underlay: 10.244.7.1 is inside the network's own pools"),
        ("0.0.0.0", "underlay: 0.0.0.0 is no host's address"),
        ("127.0.0.1", "underlay: 127.0.0.1 is no host's address"),
        ("255.255.255.255", "underlay: 255.255.255.255 is no host's address"),
        ("224.0.0.1", "underlay: 224.0.0.1 is no host's address"),
        ("169.254.1.1", "underlay: 169.254.1.1 is no host's address"),
        ("fd00::1", "underlay: fd00::1 is no host's address"),
    ] {
        check(record("b", underlay, mac, &["10.244.3.0/24"]), Some(why));
    }
    for (mac, why) in [
        ("02:00:00:00:00:01", "mac: 02:00:00:00:00:01 is this host's"),
        ("02:00:00:00:00:02", "mac: 02:00:00:00:00:02 is a's"),
        ("ff:ff:ff:ff:ff:ff", "mac: ff:ff:ff:ff:ff:ff is no host's address"),
        ("00:00:00:00:00:00", "mac: 00:00:00:00:00:00 is no host's address"),
        ("01:00:5e:00:00:01", "mac: 01:00:5e:00:00:01 is no host's address"),
    ] {
        check(record("b", "192.0.2.3", mac, &["10.244.3.0/24"]), Some(why));
    }
    check(record("a", "192.0.2.3", mac, &[]), Some("node a has another record, which came first"));
    let malformed = Candidate { rank: 1, record: Err(Refusal::Malformed("gibberish".into())) };
    check(malformed, Some("is no peer record: gibberish"));
}

#[test]
fn whoever_was_there_first_wins() {
    let mut first = record("z", "192.0.2.9", "02:00:00:00:00:09", &["10.244.9.0/24"]);
    let mut second = record("b", "192.0.2.8", "02:00:00:00:00:08", &["10.244.9.0/24"]);
    (first.rank, second.rank) = (5, 6);
    let candidates = Candidates::from([("1".to_owned(), second), ("2".to_owned(), first)]);
    let admission = admit(&definition(), &us(), &candidates);
    assert_eq!(admission.peers.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["z"]);
    assert!(matches!(admission.refused["1"], Refusal::TakenSubnet { .. }));
}

#[test]
fn our_own_record_is_no_peer() {
    let own = record("us", "192.0.2.1", "02:00:00:00:00:01", &["10.244.1.0/24"]);
    let admission = admit(&definition(), &us(), &Candidates::from([("us".to_owned(), own)]));
    assert_eq!(admission, Admission::default());
}
