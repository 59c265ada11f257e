//! Attachments: what libcni's cache and the plugins' records say of each, joined.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use attach::{
    record::{Records, State},
    ruleset::plan::Plan,
    supposed::Supposed,
};
use cni::{names::Attachment, result::AddResult};
use ipnetwork::IpNetwork;
use kernel::link::Link;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::Value;

use super::{ByPath, Facts, container::Names, made::Made, order::Natural, space::Space};
use crate::{cache::Entry, doctor::Spot, netns, runtime::gc::Gone};

/// An attachment that somebody has written down.
#[derive(Debug)]
pub struct Attached {
    pub key: Attachment,
    /// The container's name, where its engine tells.
    pub name: Option<String>,
    /// What libcni remembers.
    pub entry: Option<Entry>,
    /// The result, understood.
    pub result: Option<AddResult>,
    /// What our plugin remembers, or is supposed to where it has lost that.
    pub made: Option<Made>,
    /// What our plugins are supposed to remember and do not, that of the interface first.
    pub lost: Vec<Supposed>,
    /// The path of its namespace.
    pub netns: Option<String>,
    /// Its namespace among [`super::Facts::spaces`], if it lives.
    pub space: Option<usize>,
    /// Why there is no namespace, where that is certain.
    pub gone: Option<Gone>,
    /// Its file in libcni's cache.
    pub file: Option<String>,
    /// What it lacks in the suite's tables.
    pub unruled: Vec<String>,
    /// What portmap and firewall have in the suite's tables for it.
    pub chained: Vec<Plan>,
    /// What is missing of that.
    pub unpublished: Vec<String>,
    /// It ended without our plugins hearing of it, as when a node is rolled back and the Go plugins' DEL takes the links.
    pub abandoned: bool,
}

/// A port of the host that leads to a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Port {
    #[serde(rename = "hostIP")]
    pub host_ip: Option<String>,
    #[serde(rename = "hostPort")]
    pub host: u16,
    #[serde(rename = "containerPort")]
    pub container: u16,
    /// In lower case.
    pub protocol: String,
}

impl Attached {
    /// What people call it: the container's name, or the start of its id.
    pub fn label(&self) -> &str {
        let id = self.key.container.as_str();
        let is_hash = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.name.as_deref().unwrap_or(if is_hash { &id[..SHORT] } else { id })
    }

    /// What we made is gone, and the runtime knows it: there is no entry, or somebody else has made the interface anew.
    pub(super) fn is_abandoned(&self, spaces: &[Space], of_host: &BTreeSet<&str>) -> bool {
        let Some(made) = &self.made else { return false };
        let is_gone = match &made.host_link {
            Some(link) => !of_host.contains(link.as_str()),
            None => self.gone.is_some(),
        };
        let interface = self.space.and_then(|space| spaces.get(space)?.link(self.key.ifname.as_str()));
        let records = Records::of(made.plugin, &self.key.network);
        // An ADD that is under way has its record first.
        let is_complete = || matches!(records.find::<IgnoredAny>(&self.key), Ok(Some((State::Complete, _))));
        is_gone && (self.entry.is_none() || interface.is_some()) && is_complete()
    }

    /// The addresses that it was given.
    pub fn addresses(&self) -> Vec<IpNetwork> {
        let of_result = self.result.iter().flat_map(|result| {
            let inside = |nth: usize| {
                let of = result.interfaces.get(nth);
                of.is_none_or(|it| it.sandbox.is_empty() || it.name == self.key.ifname.as_str())
            };
            result.ips.iter().filter(move |ip| ip.interface.is_none_or(inside)).map(|ip| ip.address)
        });
        let mut found: Vec<_> = of_result.collect();
        if found.is_empty() {
            found = self.made.iter().flat_map(|made| made.addresses.iter().copied()).collect();
        }
        found.sort();
        found.dedup();
        found
    }

    /// Its interface, as findings name it.
    pub fn netns_spot(&self, facts: &Facts) -> Spot {
        let named = self.netns.as_deref().map(|path| path.rsplit('/').next().unwrap_or(path));
        let netns = facts.space(self).map(|space| space.place.name.as_str()).or(named);
        Spot::inside(netns.unwrap_or_default(), self.key.ifname.as_str())
    }

    /// The ports that were published when it was attached.
    pub fn ports(&self) -> Vec<Port> {
        let mappings = self.entry.iter().filter_map(|entry| entry.capability_args.get("portMappings"));
        let mappings = mappings.filter_map(Value::as_array).flatten();
        let mut ports: Vec<_> = mappings.filter_map(port).collect();
        ports.sort();
        ports
    }
}

fn port(mapping: &Value) -> Option<Port> {
    let mapping = mapping.as_object()?;
    let field = |name: &str| cni::decode::field(mapping, name);
    let number = |name: &str| field(name)?.as_u64().and_then(|number| u16::try_from(number).ok());
    let host_ip = field("hostIP").and_then(Value::as_str).filter(|ip| !ip.is_empty());
    Some(Port {
        host_ip: host_ip.map(str::to_owned),
        host: number("hostPort").filter(|port| *port != 0)?,
        container: number("containerPort")?,
        protocol: field("protocol").and_then(Value::as_str).unwrap_or("tcp").to_lowercase(),
    })
}

/// One entry a key. A record without a cache entry whose interface leads to another namespace than this host's is another node's on
/// the same kernel, and left out.
pub(super) fn join(
    entries: Vec<Entry>,
    made: Vec<Made>,
    spaces: &[Space],
    by_path: &ByPath,
    names: &Names,
) -> Vec<Attached> {
    let mut both: BTreeMap<Attachment, (Option<Entry>, Option<Made>)> = BTreeMap::new();
    for made in made {
        let key = made.key.clone();
        both.entry(key).or_default().1 = Some(made);
    }
    for entry in entries {
        let key = entry.attachment.clone();
        both.entry(key).or_default().0 = Some(entry);
    }
    let joined = both.into_iter().map(|(key, (entry, made))| {
        let netns = entry.as_ref().and_then(Entry::namespace).map(str::to_owned);
        let netns =
            netns.or_else(|| made.as_ref().map(|made| made.netns.clone()).filter(|it| !it.is_empty()));
        let space = netns.as_ref().and_then(|netns| by_path.get(netns).copied());
        let gone = netns.as_deref().filter(|_| space.is_none()).and_then(|it| netns::gone(Path::new(it)));
        let result = entry.as_ref().and_then(|entry| entry.add_result().ok().flatten());
        let name = names.get(key.container.as_str()).cloned();
        let (file, unruled, chained, unpublished) = (None, Vec::new(), Vec::new(), Vec::new());
        let (abandoned, lost) = (false, Vec::new());
        Attached {
            key,
            name,
            entry,
            result,
            made,
            lost,
            netns,
            space,
            gone,
            file,
            unruled,
            chained,
            unpublished,
            abandoned,
        }
    });
    let mut all: Vec<_> = joined.filter(|attached| !is_of_another_node(attached, spaces)).collect();
    all.sort_by_cached_key(|attached| {
        let Attachment { network, container, ifname } = &attached.key;
        (network.clone(), Natural::of(attached.label()), container.clone(), Natural::of(ifname.as_str()))
    });
    all
}

fn is_of_another_node(attached: &Attached, spaces: &[Space]) -> bool {
    let inside = attached.space.and_then(|space| spaces.get(space)?.link(attached.key.ifname.as_str()));
    // Indices may fit by chance.
    let named = |near: &Link| {
        let noted = attached.made.as_ref().and_then(|made| made.host_link.as_ref());
        noted.is_none_or(|noted| *noted == near.name)
    };
    attached.entry.is_none()
        && inside.is_some_and(|inside| inside.is_veth() && !spaces[0].other_end(inside).is_some_and(named))
}

/// As docker and podman shorten ids.
const SHORT: usize = 12;
