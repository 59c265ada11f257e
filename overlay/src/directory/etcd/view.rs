//! What is in etcd under a network's prefix, as candidates: who is where, who owns what. Knows no connection.
//!
//! ```text
//! <prefix>/<network>/alive/<node>            where it is      on a lease: gone when the host falls silent
//! <prefix>/<network>/config                  the definition
//! <prefix>/<network>/peer/node/<node>        a record without subnets
//! <prefix>/<network>/peer/subnet/<subnet>    {"node": ...}    no lease: ownership does not end by silence
//! <prefix>/<network>/young                                    on a lease: newcomers wait
//! ```

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::wire::{Event, KeyValue};
use crate::{
    definition::Definition,
    family,
    names::NodeName,
    peer::{Candidate, Candidates, Record, Refusal},
};

/// The names of a network's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    base: String,
}

impl Keys {
    pub fn new(prefix: &str, network: &cni::names::NetworkName) -> Self {
        Self { base: format!("{}/{network}/", prefix.trim_end_matches('/')) }
    }

    /// What is read and watched is one range: all but `alive/`, whose changes concern nobody.
    pub fn range(&self) -> (String, String) {
        (format!("{}config", self.base), format!("{}z", self.base))
    }

    pub fn config(&self) -> String {
        format!("{}config", self.base)
    }

    pub fn young(&self) -> String {
        format!("{}young", self.base)
    }

    pub fn alive(&self, node: &NodeName) -> String {
        format!("{}alive/{node}", self.base)
    }

    pub fn node(&self, node: &NodeName) -> String {
        format!("{}peer/node/{node}", self.base)
    }

    /// `10.244.1.0-24`, as a slash would begin another level.
    pub fn subnet(&self, subnet: IpNetwork) -> String {
        format!("{}peer/subnet/{}-{}", self.base, subnet.network(), subnet.prefix())
    }

    fn parse<'a>(&self, key: &'a str) -> Option<Key<'a>> {
        let rest = key.strip_prefix(&self.base)?;
        Some(match rest {
            "config" => Key::Config,
            "young" => Key::Young,
            _ => match rest.strip_prefix("peer/")?.split_once('/')? {
                ("node", name) => Key::Node(name),
                ("subnet", subnet) => Key::Subnet(subnet),
                _ => return None,
            },
        })
    }
}

enum Key<'a> {
    Config,
    Young,
    Node(&'a str),
    Subnet(&'a str),
}

/// The value of a subnet's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub node: NodeName,
}

/// All that the range holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    pub config: Option<Result<Definition, String>>,
    pub young: bool,
    nodes: BTreeMap<String, Node>,
    subnets: BTreeMap<IpNetwork, Owned>,
    /// Subnet keys that say nothing, and why.
    broken: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq)]
struct Node {
    created: u64,
    modified: u64,
    record: Result<Record, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    created: u64,
    node: NodeName,
}

impl View {
    /// Takes in one change; says which candidates may have changed by it, by name.
    pub fn apply(&mut self, keys: &Keys, event: &Event) -> BTreeSet<String> {
        let (key, put) = match event {
            Event::Put(kv) => (kv.key.as_str(), Some(kv)),
            Event::Delete { key } => (key.as_str(), None),
        };
        match keys.parse(key) {
            None => BTreeSet::new(),
            Some(Key::Config) => {
                self.config = put.map(|kv| serde_json::from_slice(&kv.value).map_err(|err| err.to_string()));
                BTreeSet::new()
            }
            Some(Key::Young) => {
                self.young = put.is_some();
                BTreeSet::new()
            }
            Some(Key::Node(name)) => {
                match put {
                    Some(kv) => drop(self.nodes.insert(name.to_owned(), node(name, kv))),
                    None => drop(self.nodes.remove(name)),
                }
                [name.to_owned()].into()
            }
            Some(Key::Subnet(text)) => self.subnet(text, put),
        }
    }

    fn subnet(&mut self, text: &str, put: Option<&KeyValue>) -> BTreeSet<String> {
        self.broken.remove(text);
        let broken_name = format!("subnet/{text}");
        let subnet = match parse_subnet(text) {
            Ok(subnet) => subnet,
            Err(why) => {
                if put.is_some() {
                    self.broken.insert(text.to_owned(), why);
                }
                return [broken_name].into();
            }
        };
        let before = self.subnets.remove(&subnet).map(|owned| owned.node.to_string());
        let mut touched: BTreeSet<_> = before.into_iter().chain([broken_name]).collect();
        match put.map(|kv| (kv, serde_json::from_slice::<Owner>(&kv.value))) {
            None => {}
            Some((kv, Ok(Owner { node }))) => {
                touched.insert(node.to_string());
                self.subnets.insert(subnet, Owned { created: kv.created, node });
            }
            Some((_, Err(err))) => drop(self.broken.insert(text.to_owned(), err.to_string())),
        }
        touched
    }

    pub fn candidates(&self) -> Candidates {
        let mut by_node = BTreeMap::<&NodeName, Vec<(IpNetwork, u64)>>::new();
        for (subnet, owned) in &self.subnets {
            by_node.entry(&owned.node).or_default().push((*subnet, owned.created));
        }
        let nodes = self.nodes.iter().map(|(name, node)| {
            let subnets = node.record.as_ref().ok().and_then(|record| by_node.get(&record.node));
            (format!("node/{name}"), candidate(node, subnets.map(Vec::as_slice).unwrap_or_default()))
        });
        nodes.chain(self.broken.keys().map(|text| self.broken(text))).collect()
    }

    /// The candidate of one of the names that [`Self::apply`] gave.
    pub fn candidate(&self, name: &str) -> (String, Option<Candidate>) {
        if let Some(text) = name.strip_prefix("subnet/") {
            let there = self.broken.contains_key(text).then(|| self.broken(text).1);
            return (name.to_owned(), there);
        }
        let found = self.nodes.get(name).map(|node| {
            let of_node = |owned: &&Owned| owned.node.as_str() == name;
            let subnets: Vec<_> = self
                .subnets
                .iter()
                .filter(|(_, owned)| of_node(owned))
                .map(|(subnet, owned)| (*subnet, owned.created))
                .collect();
            candidate(node, &subnets)
        });
        (format!("node/{name}"), found)
    }

    fn broken(&self, text: &str) -> (String, Candidate) {
        let why = self.broken.get(text).cloned().unwrap_or_default();
        (format!("subnet/{text}"), Candidate { rank: u64::MAX, record: Err(Refusal::Malformed(why)) })
    }

    /// The subnets of a node.
    pub fn owned_by(&self, node: &NodeName) -> Vec<IpNetwork> {
        self.subnets.iter().filter(|(_, owned)| owned.node == *node).map(|(subnet, _)| *subnet).collect()
    }

    /// Who has an address of `subnet`, other than `node`.
    pub fn in_the_way(&self, subnet: IpNetwork, node: &NodeName) -> Option<(IpNetwork, &NodeName)> {
        let other = self
            .subnets
            .iter()
            .find(|(theirs, owned)| owned.node != *node && family::overlap(**theirs, subnet));
        other.map(|(theirs, owned)| (*theirs, &owned.node))
    }

    /// Whether nobody has an address of `subnet`.
    pub fn is_free(&self, subnet: IpNetwork) -> bool {
        // Disjoint as a rule, so the neighbours in order are enough; what overlaps by somebody's hand, the claim finds out.
        let before = self.subnets.range(..=subnet).next_back();
        let after = self.subnets.range(subnet..).next();
        ![before, after].into_iter().flatten().any(|(theirs, _)| family::overlap(*theirs, subnet))
    }

    /// The record that the directory has of a node, without subnets, and its last revision (0 if there is none).
    pub fn record(&self, node: &NodeName) -> (Option<&Record>, u64) {
        match self.nodes.get(node.as_str()) {
            Some(found) => (found.record.as_ref().ok(), found.modified),
            None => (None, 0),
        }
    }
}

fn node(name: &str, kv: &KeyValue) -> Node {
    let record = serde_json::from_slice::<Record>(&kv.value).map_err(|err| err.to_string());
    let record = record.and_then(|record| {
        if record.node.as_str() != name {
            Err(format!("the record of {} under the name of {name:?}", record.node))
        } else if record.subnets.is_empty() {
            Ok(record)
        } else {
            Err("subnets in a node's record; they have keys of their own".to_owned())
        }
    });
    Node { created: kv.created, modified: kv.modified, record }
}

/// A host counts as having come with the youngest of its keys: who takes another's addresses comes after them.
fn candidate(node: &Node, subnets: &[(IpNetwork, u64)]) -> Candidate {
    let (rank, record) = match &node.record {
        Ok(record) => {
            let youngest = subnets.iter().map(|(_, created)| *created).fold(node.created, u64::max);
            let subnets = subnets.iter().map(|(subnet, _)| *subnet).collect();
            (youngest, Ok(Record { subnets, ..record.clone() }))
        }
        Err(why) => (node.created, Err(Refusal::Malformed(why.clone()))),
    };
    Candidate { rank, record }
}

fn parse_subnet(text: &str) -> Result<IpNetwork, String> {
    let no_subnet = || format!("{:?} is no subnet", text.chars().take(64).collect::<String>());
    let (address, prefix) = text.rsplit_once('-').ok_or_else(no_subnet)?;
    let address = address.parse().map_err(|_| no_subnet())?;
    let prefix = prefix.parse().map_err(|_| no_subnet())?;
    let subnet = IpNetwork::new(address, prefix).map_err(|_| no_subnet())?;
    // One name for one subnet: another spelling would be a second key for it.
    let canonical = format!("{}-{}", subnet.network(), subnet.prefix());
    if canonical == text { Ok(subnet) } else { Err(format!("{text:?} is not how {canonical} is written")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new("/tenon/v1", &"lab".parse().unwrap())
    }

    fn put(key: &str, value: &str, created: u64) -> Event {
        let (key, value) = (format!("/tenon/v1/lab/{key}"), value.as_bytes().to_vec());
        Event::Put(KeyValue { key, value, created, modified: created })
    }

    fn record(node: &str) -> String {
        format!(r#"{{"node":"{node}","underlay":{{"v4":"192.0.2.2"}},"mac":{{"v4":"02:00:00:00:00:02"}}}}"#)
    }

    fn view(events: &[Event]) -> View {
        let mut view = View::default();
        for event in events {
            view.apply(&keys(), event);
        }
        view
    }

    #[test]
    fn a_host_is_its_record_and_its_subnets() {
        let view = view(&[
            put("peer/subnet/10.244.2.0-24", r#"{"node":"a"}"#, 9),
            put("peer/node/a", &record("a"), 5),
            put("peer/subnet/fd00--64", r#"{"node":"a"}"#, 6),
        ]);
        let candidates = view.candidates();
        let a = &candidates["node/a"];
        assert_eq!((a.rank, a.record.as_ref().unwrap().subnets.len()), (9, 1), "fd00- is no address");
        assert!(candidates["subnet/fd00--64"].record.is_err());
        assert_eq!(view.candidate("a"), ("node/a".to_owned(), Some(a.clone())));
        let free = |text: &str| view.is_free(text.parse().unwrap());
        assert!(!free("10.244.2.0/24") && !free("10.244.2.128/25") && !free("10.244.0.0/16"));
        assert!(free("10.244.3.0/24") && free("10.244.1.0/24"));
    }

    #[test]
    fn broken_values_are_refused_by_name_and_mended() {
        let mut view = view(&[
            put("peer/node/a", "gibberish", 1),
            put("peer/node/b", &record("c"), 2),
            put("peer/subnet/10.244.2.1-24", r#"{"node":"a"}"#, 3),
            put("peer/subnet/10.244.3.0-24", "17", 4),
            put("peer/what/x", "", 5),
            put("elsewhere", "", 6),
        ]);
        let refused: Vec<_> =
            view.candidates().into_iter().filter(|(_, c)| c.record.is_err()).map(|(key, _)| key).collect();
        assert_eq!(refused, ["node/a", "node/b", "subnet/10.244.2.1-24", "subnet/10.244.3.0-24"]);
        let touched = view.apply(&keys(), &put("peer/subnet/10.244.3.0-24", r#"{"node":"a"}"#, 7));
        assert_eq!(touched, ["a".to_owned(), "subnet/10.244.3.0-24".to_owned()].into());
        assert_eq!(view.candidate("subnet/10.244.3.0-24").1, None);
        let gone = Event::Delete { key: "/tenon/v1/lab/peer/node/a".into() };
        view.apply(&keys(), &gone);
        assert_eq!(view.candidate("a"), ("node/a".to_owned(), None));
    }

    #[test]
    fn a_subnet_that_changes_hands_touches_both() {
        let mut view = view(&[put("peer/subnet/10.244.2.0-24", r#"{"node":"a"}"#, 1)]);
        let touched = view.apply(&keys(), &put("peer/subnet/10.244.2.0-24", r#"{"node":"b"}"#, 2));
        assert!(touched.contains("a") && touched.contains("b"));
        let (subnet, us) = ("10.244.2.0/24".parse().unwrap(), "a".parse().unwrap());
        assert_eq!(view.in_the_way(subnet, &us).map(|(_, other)| other.as_str()), Some("b"));
    }
}
