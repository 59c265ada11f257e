//! The peers file: a network's definition and its hosts in one JSON document (`peers.schema.json`). Knows no file system.

use std::net::IpAddr;

use cni::names::NetworkName;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    definition::{Definition, RawDefinition, RawPool},
    family::{Family, PerFamily},
    mac::{self, MacText},
    names::{Mtu, NodeName, Port, Vni},
    peer::{Candidate, Candidates, Record, Refusal},
};

/// A peers file, read.
#[derive(Debug, Clone, PartialEq)]
pub struct PeersFile {
    pub definition: Definition,
    /// By `peers[0]`, `peers[1]`, ...: whoever is higher up was there first.
    pub candidates: Candidates,
}

/// A peers file that is none as a whole. One host's mistake is not among these: it costs that host alone.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    #[error("no JSON: {0}")]
    Syntax(serde_json::Error),
    #[error("{0}")]
    Shape(serde_json::Error),
    #[error(transparent)]
    Definition(#[from] crate::definition::DefinitionError),
    #[error("peers: {0} are more than the {MAX_PEERS} that a file may name")]
    TooMany(usize),
}

/// Reads `text`.
pub fn parse(text: &[u8]) -> Result<PeersFile, PeersError> {
    let raw: RawFile = serde_json::from_slice(text).map_err(|err| match err.classify() {
        serde_json::error::Category::Data => PeersError::Shape(err),
        _ => PeersError::Syntax(err),
    })?;
    let RawFile { _schema: _, name, vni, port, underlay, mtu, pools, direct, cluster, peers } = raw;
    if peers.len() > MAX_PEERS {
        return Err(PeersError::TooMany(peers.len()));
    }
    let raw = RawDefinition { name, vni, port, underlay, mtu, pools, direct, cluster };
    let definition = Definition::try_from(raw)?;
    let candidate = |(index, peer): (usize, Value)| {
        let rank = u64::try_from(index).unwrap_or(u64::MAX);
        (format!("peers[{index}]"), Candidate { rank, record: record(peer, &definition) })
    };
    let candidates = peers.into_iter().enumerate().map(candidate).collect();
    Ok(PeersFile { definition, candidates })
}

impl PeersFile {
    /// The record of the host `node`, or else of the host that has one of `addresses`.
    pub fn own(&self, node: &NodeName, addresses: &[IpAddr]) -> Option<&Record> {
        let records = || self.candidates.values().filter_map(|candidate| candidate.record.as_ref().ok());
        let family = self.definition.underlay;
        records().find(|record| record.node == *node).or_else(|| {
            records().find(|record| record.underlay.of(family).is_some_and(|ip| addresses.contains(&ip)))
        })
    }
}

fn record(peer: Value, definition: &Definition) -> Result<Record, Refusal> {
    let raw: RawPeer = serde_json::from_value(peer).map_err(|err| Refusal::Malformed(err.to_string()))?;
    let RawPeer { node, underlay, subnets, mac } = raw;
    let (mut at, mut macs) = (PerFamily::default(), PerFamily::default());
    for address in underlay.list() {
        let family = Family::of(address);
        if at.of(family).is_some() {
            return Err(Refusal::Malformed(format!("underlay: a second {family} address, {address}")));
        }
        at.set(family, address);
        let derived = || MacText(mac::derived(&definition.cluster, &node, family));
        macs.set(family, mac.unwrap_or_else(derived));
    }
    Ok(Record { node, underlay: at, subnets, mac: macs })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    /// For editors.
    #[serde(rename = "$schema", default)]
    _schema: Option<String>,
    name: NetworkName,
    #[serde(default)]
    vni: Option<Vni>,
    #[serde(default)]
    port: Option<Port>,
    #[serde(default)]
    underlay: Family,
    #[serde(default)]
    mtu: Option<Mtu>,
    pools: Vec<RawPool>,
    #[serde(default)]
    direct: bool,
    #[serde(default)]
    cluster: Option<String>,
    peers: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeer {
    node: NodeName,
    underlay: OneOrMore,
    #[serde(default)]
    subnets: Vec<IpNetwork>,
    #[serde(default)]
    mac: Option<MacText>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(IpAddr),
    More(Vec<IpAddr>),
}

impl OneOrMore {
    fn list(self) -> Vec<IpAddr> {
        match self {
            Self::One(address) => vec![address],
            Self::More(addresses) => addresses,
        }
    }
}

/// A file of more is a mistake, or somebody's attempt to fill the memory.
const MAX_PEERS: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "$schema": "peers.schema.json",
        "name": "lab", "vni": 7, "pools": ["10.244.0.0/16"],
        "peers": [
            {"node": "h1", "underlay": "192.0.2.1", "subnets": ["10.244.1.0/24"]},
            {"node": "h2", "underlay": ["192.0.2.2", "2001:db8::2"], "subnets": ["10.244.2.0/24"],
             "mac": "02:00:00:00:00:02"},
            {"node": "h3", "underlay": "not an address"},
            {"node": "h4", "underlay": "192.0.2.4", "subnets": ["10.244.4.0/24"], "colour": "red"},
            17
        ]}"#;

    #[test]
    fn one_bad_host_costs_itself() {
        let file = parse(FILE.as_bytes()).unwrap();
        assert_eq!(u32::from(file.definition.vni), 7);
        let good: Vec<_> = file.candidates.values().filter_map(|c| c.record.as_ref().ok()).collect();
        assert_eq!(good.iter().map(|record| record.node.as_str()).collect::<Vec<_>>(), ["h1", "h2"]);
        let derived = mac::derived("tenon", &"h1".parse().unwrap(), Family::V4);
        assert_eq!(good[0].mac.v4, Some(MacText(derived)));
        assert_eq!(good[1].underlay.v6, Some("2001:db8::2".parse().unwrap()));
        for (key, why) in [("peers[2]", "underlay"), ("peers[3]", "colour"), ("peers[4]", "17")] {
            let err = file.candidates[key].record.as_ref().unwrap_err().to_string();
            assert!(err.contains(why) || err.contains("untagged"), "{key}: {err}");
        }
        let by_name = file.own(&"h2".parse().unwrap(), &[]).unwrap();
        let by_address = file.own(&"elsewhere".parse().unwrap(), &["192.0.2.1".parse().unwrap()]).unwrap();
        assert_eq!((by_name.node.as_str(), by_address.node.as_str()), ("h2", "h1"));
    }

    #[test]
    fn the_schema_names_what_is_read() {
        let schema: Value = serde_json::from_str(include_str!("../../etc/peers.schema.json")).unwrap();
        // The reader says which fields it knows when it meets one that it does not.
        let known = |err: String| -> Vec<String> {
            let list =
                err.split_once("expected one of ").map(|(_, list)| list.to_owned()).unwrap_or_default();
            list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        };
        let names = |schema: &Value| -> Vec<String> {
            schema["properties"].as_object().unwrap().keys().cloned().collect()
        };
        let mut file = known(parse(br#"{"x":1}"#).unwrap_err().to_string());
        let mut peer = known(serde_json::from_str::<RawPeer>(r#"{"x":1}"#).err().unwrap().to_string());
        file.sort();
        peer.sort();
        assert_eq!(names(&schema), file);
        assert_eq!(names(&schema["properties"]["peers"]["items"]), peer);
    }

    #[test]
    fn files_that_are_none() {
        for (text, why) in [
            ("", "no JSON"),
            ("{", "no JSON"),
            ("[]", "invalid length"),
            (r#"{"name":"lab","pools":["10.0.0.0/8"]}"#, "missing field `peers`"),
            (r#"{"name":"lab","pools":[],"peers":[]}"#, "at least one"),
            (r#"{"name":"lab","pools":["10.0.0.0/8"],"peers":[],"x":1}"#, "unknown field"),
        ] {
            let err = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(err.contains(why), "{text}: {err}");
        }
    }
}
