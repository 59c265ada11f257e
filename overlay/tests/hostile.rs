//! What strangers send: peers files, etcd's values and watch messages, lines on the socket. Whatever it is, there is an
//! answer, it is no panic, and nobody comes in who could harm another.

use std::collections::BTreeSet;

use overlay::{
    agent::request,
    definition::Definition,
    directory::{
        etcd::{
            view::{Keys, View},
            wire::{self, Event, KeyValue},
        },
        peers_file,
    },
    family,
    peer::{Admission, Candidates, Us, admit},
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn definition() -> Definition {
    serde_json::from_str(r#"{"name":"lab","vni":7,"pools":["10.244.0.0/16","fd00:244::/48"]}"#)
        .expect("a definition")
}

fn us() -> Us {
    Us {
        node: "us".parse().ok(),
        addresses: ["10.0.0.1".parse().expect("an address")].into(),
        mac: serde_json::from_str(r#""02:00:00:00:00:01""#).ok(),
        subnets: vec!["10.244.1.0/24".parse().expect("a subnet")],
    }
}

/// Addresses that collide often, and some that are none.
fn underlay() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => (0_u8..8).prop_map(|n| json!(format!("10.0.0.{n}"))),
        1 => any::<u32>().prop_map(|n| json!(std::net::Ipv4Addr::from(n).to_string())),
        1 => any::<u128>().prop_map(|n| json!(std::net::Ipv6Addr::from(n).to_string())),
        1 => any::<Option<i32>>().prop_map(|n| json!(n)),
    ]
}

fn subnet() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => (0_u8..6, 20_u8..=32).prop_map(|(n, prefix)| json!(format!("10.244.{n}.0/{prefix}"))),
        1 => (any::<u32>(), 0_u8..=40).prop_map(|(n, prefix)| json!(format!("{}/{prefix}", std::net::Ipv4Addr::from(n)))),
        1 => (any::<u128>(), 0_u8..=140).prop_map(|(n, p)| json!(format!("{}/{p}", std::net::Ipv6Addr::from(n)))),
        1 => ".{0,12}".prop_map(|text| json!(text)),
    ]
}

fn mac() -> impl Strategy<Value = Value> {
    prop_oneof![
        8 => (0_u8..6).prop_map(|n| json!(format!("02:00:00:00:00:{n:02x}"))),
        1 => any::<[u8; 6]>().prop_map(|m| json!(m.map(|b| format!("{b:02x}")).join(":"))),
        1 => ".{0,20}".prop_map(|text| json!(text)),
    ]
}

fn node() -> impl Strategy<Value = Value> {
    prop_oneof![8 => (0_u8..6).prop_map(|n| json!(format!("h{n}"))), 1 => Just(json!("us")), 1 => ".{0,8}".prop_map(|t| json!(t))]
}

/// Peers of a file, most of them well-formed.
fn peers() -> impl Strategy<Value = Vec<Value>> {
    let peer = (node(), underlay(), prop::collection::vec(subnet(), 0..4), mac())
        .prop_map(|(node, underlay, subnets, mac)| json!({"node": node, "underlay": underlay, "subnets": subnets, "mac": mac}));
    prop::collection::vec(prop_oneof![9 => peer, 1 => any::<u8>().prop_map(|n| json!(n))], 0..12)
}

/// What must hold of whoever was let in.
fn check(candidates: &Candidates) -> Result<Admission, TestCaseError> {
    let admission = admit(&definition(), &us(), candidates);
    let (mut macs, mut addresses, mut subnets) = (BTreeSet::new(), BTreeSet::new(), us().subnets);
    for peer in admission.peers.values() {
        prop_assert!(macs.insert(peer.mac) && Some(peer.mac) != us().mac && !peer.mac.0.is_multicast());
        prop_assert!(addresses.insert(peer.underlay) && !us().addresses.contains(&peer.underlay));
        for subnet in &peer.subnets {
            prop_assert!(definition().holds(*subnet), "{subnet} is outside");
            prop_assert!(subnets.iter().all(|other| !family::overlap(*other, *subnet)), "{subnet} is taken");
            subnets.push(*subnet);
        }
    }
    prop_assert!(admission.peers.len() + admission.refused.len() <= candidates.len());
    Ok(admission)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn peers_files(peers in peers()) {
        let file = json!({"name": "lab", "vni": 7, "pools": ["10.244.0.0/16", "fd00:244::/48"], "peers": peers});
        let parsed = peers_file::parse(file.to_string().as_bytes()).expect("the file as a whole is one");
        prop_assert_eq!(parsed.candidates.len(), peers.len());
        check(&parsed.candidates)?;
    }

    #[test]
    fn bytes_for_a_peers_file(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = peers_file::parse(text.as_bytes());
        let _ = peers_file::parse(&bytes);
    }

    #[test]
    fn one_hostile_peer_costs_no_other(peers in peers(), evil in peers()) {
        let file = |peers: &[Value]| {
            let file = json!({"name": "lab", "vni": 7, "pools": ["10.244.0.0/16", "fd00:244::/48"], "peers": peers});
            peers_file::parse(file.to_string().as_bytes()).expect("the file as a whole is one").candidates
        };
        let before = check(&file(&peers))?;
        let all: Vec<Value> = peers.iter().chain(&evil).cloned().collect();
        let after = check(&file(&all))?;
        for (node, peer) in before.peers {
            prop_assert_eq!(after.peers.get(&node), Some(&peer), "whoever was there first stays");
        }
    }

    #[test]
    fn values_of_etcd(
        entries in prop::collection::vec((0_u8..6, node(), underlay(), mac(), subnet(), any::<u16>(), any::<bool>()), 0..20),
        junk in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let keys = Keys::new("/tenon/v1", &definition().name);
        let mut view = View::default();
        for (kind, node, underlay, mac, subnet, revision, delete) in entries {
            let name = node.as_str().unwrap_or_default().to_owned();
            let subnet = subnet.as_str().unwrap_or_default().replace('/', "-");
            let record = json!({"node": node, "underlay": {"v4": underlay}, "mac": {"v4": mac}}).to_string();
            let (key, value) = match kind {
                0 | 1 => (format!("peer/node/{name}"), record.into_bytes()),
                2 | 3 => (format!("peer/subnet/{subnet}"), json!({"node": node}).to_string().into_bytes()),
                4 => (format!("peer/{subnet}/{name}"), junk.clone()),
                _ => (format!("peer/node/{name}"), junk.clone()),
            };
            let key = format!("/tenon/v1/lab/{key}");
            let event = if delete {
                Event::Delete { key }
            } else {
                Event::Put(KeyValue { key, value, created: revision.into(), modified: revision.into() })
            };
            let before = view.candidates();
            let touched = view.apply(&keys, &event);
            // The change by itself gives what a new look at the whole would.
            let mut changed = before;
            for name in touched {
                let (key, candidate) = view.candidate(&name);
                match candidate {
                    Some(candidate) => drop(changed.insert(key, candidate)),
                    None => drop(changed.remove(&key)),
                }
            }
            prop_assert_eq!(&changed, &view.candidates());
        }
        check(&view.candidates())?;
    }

    #[test]
    fn messages_of_a_watch(line in prop::collection::vec(any::<u8>(), 0..200), number in any::<i64>(), text in ".{0,20}") {
        let _ = wire::watch_message(&line);
        for value in [json!(number), json!(text), json!([text]), json!({"kv": {"key": text}}), json!(null)] {
            let _ = wire::watch_message(json!({"result": {"events": [value], "header": value}}).to_string().as_bytes());
            let _ = wire::watch_message(json!({"result": value, "error": value}).to_string().as_bytes());
            let _ = (wire::put_outcome(&value), wire::lease(&value), wire::key_values(&value), wire::revision(&value));
        }
    }

    #[test]
    fn lines_on_the_socket(line in prop::collection::vec(any::<u8>(), 0..1200), ask in ".{0,10}", network in ".{0,10}") {
        let _ = request::parse(&line);
        if let Ok(request) = request::parse(json!({"ask": ask, "network": network}).to_string().as_bytes()) {
            prop_assert!(request.network().is_none_or(|name| name.as_str() == network));
        }
    }
}
