use overlay::{
    apply::{self, MassRemoval},
    state::Standing,
};
use serde_json::json;
use testenv::lab;

use crate::scene;

#[test]
fn a_peers_file_applied_without_an_agent() {
    lab::run("overlay-apply", |lab| {
        scene::uplink(lab);
        let file = lab.dir().join("lab.json");
        let peer = |n: u8| {
            json!({"node": format!("h{n}"), "underlay": format!("198.51.100.{n}"),
                   "subnets": [format!("10.96.{n}.0/24")]})
        };
        let mut peers: Vec<_> = (1..=9).map(peer).collect();
        peers.push(json!({"node": "evil", "underlay": "198.51.100.66", "subnets": ["10.96.2.0/24"]}));
        let write = |peers: &[serde_json::Value]| {
            let text = json!({"name": "lab", "vni": 7, "pools": ["10.96.0.0/11"], "peers": peers});
            std::fs::write(&file, text.to_string()).unwrap();
        };
        write(&peers);
        let apply = |mass| apply::apply(&file, &"nameless".parse().unwrap(), scene::dirs(lab), mass);
        let report = apply(MassRemoval::Hold).unwrap();
        // The name is not in the file, the address is.
        assert_eq!(report.status.node.as_str(), "h1");
        let Standing::Owner { subnets } = &report.status.standing else { panic!("{report:?}") };
        assert_eq!(subnets[0].to_string(), "10.96.1.0/24");
        assert_eq!((report.status.peers, report.status.refused.len()), (8, 1));
        assert!(report.status.refused["peers[9]"].contains("overlaps 10.96.2.0/24 of h2"), "{report:?}");
        let routes = || lab.exec(&["ip", "route", "show", "proto", "116"]).ok().lines().count();
        assert_eq!(routes(), 8);
        let rules = lab.exec(&["nft", "list", "table", "inet", "tenon-overlay"]).ok();
        assert!(rules.contains("198.51.100.9 . 4789") && !rules.contains("198.51.100.66"), "{rules}");

        // Another network does not take the guard away from this one.
        let other = lab.dir().join("other.json");
        let text = json!({"name": "other", "vni": 8, "port": 8472, "pools": ["10.200.0.0/16"], "peers": [
            {"node": "h1", "underlay": "198.51.100.1", "subnets": ["10.200.1.0/24"]},
            {"node": "h7", "underlay": "198.51.100.77", "subnets": ["10.200.7.0/24"]}]});
        std::fs::write(&other, text.to_string()).unwrap();
        apply::apply(&other, &"h1".parse().unwrap(), scene::dirs(lab), MassRemoval::Hold).unwrap();
        let rules = lab.exec(&["nft", "list", "table", "inet", "tenon-overlay"]).ok();
        for part in ["198.51.100.9 . 4789", "198.51.100.77 . 8472", "10.96.0.0/11", "10.200.0.0/16"] {
            assert!(rules.contains(part), "{part} is not in {rules}");
        }
        lab.exec(&["ip", "link", "del", "ovl8"]).ok();

        write(&peers[..3]);
        assert_eq!((apply(MassRemoval::Hold).unwrap().status.held, routes()), (6, 8));
        assert_eq!((apply(MassRemoval::Allow).unwrap().status.held, routes()), (0, 2));
        write(&peers[1..]);
        let err = apply(MassRemoval::Hold).unwrap_err().to_string();
        assert!(err.contains("names neither nameless nor an address of this host"), "{err}");
    });
}
