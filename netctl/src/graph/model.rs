//! What a picture shows of each host. Knows no place on paper.

use std::collections::{BTreeMap, BTreeSet};

use kernel::link::{Kind, Link};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    doctor::Wire,
    facts::{Facts, tunnel::Report},
    verb::ps::{self, Row},
};

/// All hosts, what is wrong with them, and perhaps the way of a packet.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    pub hosts: Vec<Host>,
    /// As the doctor says them.
    pub findings: Vec<Value>,
    /// As `trace -o json` says them.
    pub hops: Vec<Value>,
}

/// A host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Host {
    pub name: String,
    /// Those that lead out of the host.
    pub devices: Vec<Device>,
    pub groups: Vec<Group>,
}

/// A device of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Device {
    pub name: String,
    pub kind: String,
    pub addresses: Vec<String>,
    pub mac: Option<String>,
    pub mtu: u32,
    pub up: bool,
    /// Of a tunnel.
    pub vxlan: Option<Vxlan>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Vxlan {
    pub vni: u32,
    pub port: u16,
}

/// Containers that hang on the same device of the host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Group {
    /// A bridge, or what a macvlan is on; none where each has a veth of its own.
    pub device: Option<Device>,
    pub members: Vec<Row>,
}

/// What a node tells for a picture.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Told {
    pub host: Host,
    pub report: Report,
    pub findings: Vec<Wire>,
}

impl Host {
    pub fn new(facts: &Facts) -> Self {
        let mut members: BTreeMap<Option<String>, Vec<Row>> = BTreeMap::new();
        for row in ps::rows(facts) {
            members.entry(row.hangs_on(facts)).or_default().push(row);
        }
        let host = facts.host();
        let device = |name: &str| host.link(name).map(|link| device(facts, link));
        let groups = members.into_iter().map(|(on, members)| {
            let on = on.as_deref().and_then(device);
            Group { device: on, members }
        });
        let groups: Vec<_> = groups.collect();
        let taken: BTreeSet<_> =
            groups.iter().filter_map(|group| group.device.as_ref()).map(|it| it.name.clone()).collect();
        let ports: BTreeSet<_> = host.links.iter().filter_map(|link| link.master).collect();
        let of_containers: BTreeSet<_> =
            groups.iter().flat_map(|group| &group.members).filter_map(Row::host_link).collect();
        let leads_out = |link: &&Link| {
            let is_part = taken.contains(&link.name) || of_containers.contains(link.name.as_str());
            let is_empty_bridge = link.is_bridge() && ports.contains(&link.index);
            link.name != "lo" && !is_part && !is_empty_bridge
        };
        let devices = host.links.iter().filter(leads_out).map(|link| self::device(facts, link)).collect();
        Self { name: facts.node.clone(), devices, groups }
    }
}

fn device(facts: &Facts, link: &Link) -> Device {
    let vxlan = match link.kind {
        Some(Kind::Vxlan { vni, port, .. }) => Some(Vxlan { vni, port }),
        _ => None,
    };
    Device {
        name: link.name.clone(),
        kind: link.kind.as_ref().map_or("device", Kind::name).to_owned(),
        addresses: facts.host().addresses_of(link).iter().map(ToString::to_string).collect(),
        mac: link.mac.map(|mac| mac.to_string()),
        mtu: link.mtu,
        up: link.is_up(),
        vxlan,
    }
}

impl Picture {
    /// The tunnels that join hosts.
    pub fn tunnels(&self) -> Vec<Vxlan> {
        let devices = self.hosts.iter().flat_map(|host| &host.devices);
        let all: BTreeSet<_> = devices.filter_map(|device| device.vxlan.clone()).collect();
        all.into_iter().collect()
    }

    /// What is wrong with a device or a namespace of a host.
    pub fn wrong(&self, host: &str, names: &[&str]) -> Vec<&Value> {
        let text = |value: &Value, key: &str| value["where"][key].as_str().unwrap_or_default().to_owned();
        let is_there = |found: &&Value| {
            let (netns, device) = (text(found, "netns"), text(found, "device"));
            let is_named = |name: &str| !name.is_empty() && names.contains(&name);
            // A container's interfaces have names that others have too.
            let inside = !netns.is_empty() && netns != "host";
            // What has no device is the host's.
            let of_host = if device.is_empty() { "host" } else { &device };
            text(found, "node") == host && is_named(if inside { &netns } else { of_host })
        };
        self.findings.iter().filter(is_there).collect()
    }
}
