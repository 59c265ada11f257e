//! What our plugins have written down of their attachments, whichever plugin it was.

use attach::{
    addresses::of_attachment,
    lone,
    record::{Error, Records},
    ruleset::plan::Plan,
    supposed::Supposed,
};
use cni::{names::Attachment, request::Request};
use ipnetwork::IpNetwork;

/// One record.
#[derive(Debug, Clone)]
pub struct Made {
    pub plugin: &'static str,
    pub key: Attachment,
    pub netns: String,
    /// The host's end of a veth pair.
    pub host_link: Option<String>,
    pub bridge: Option<String>,
    /// What a macvlan, ipvlan or VLAN is on.
    pub master: Option<String>,
    pub addresses: Vec<IpNetwork>,
    pub masquerade: bool,
    /// What the attachment has in the suite's tables.
    pub ruleset: Plan,
}

impl Made {
    /// All records of this boot.
    pub fn all() -> Result<Vec<Self>, Error> {
        let mut all = Vec::new();
        for records in Records::of_every_network("bridge")? {
            all.extend(records.all()?.into_iter().map(|record| of_bridge(record.attachment, record.data)));
        }
        for records in Records::of_every_network("ptp")? {
            all.extend(records.all()?.into_iter().map(|record| of_ptp(record.attachment, record.data)));
        }
        for records in Records::of_every_network("macvlan")? {
            all.extend(records.all()?.into_iter().map(|record| of_macvlan(record.attachment, record.data)));
        }
        for kind in LONE {
            for records in Records::of_every_network(kind.plugin)? {
                all.extend(
                    records.all()?.into_iter().map(|record| of_lone(&kind, record.attachment, record.data)),
                );
            }
        }
        for records in Records::of_every_network("overlay")? {
            all.extend(records.all()?.into_iter().map(|record| of_overlay(record.attachment, record.data)));
        }
        Ok(all)
    }
}

/// What the plugin that made the attachment's interface is supposed to have written down; `None` where that is none of ours that
/// `Made` knows. `master` is the link that the interface is on.
pub(super) fn supposed(
    request: &Request,
    key: &Attachment,
    netns: &str,
    master: Option<&str>,
) -> anyhow::Result<Option<(Made, Supposed)>> {
    let netns = netns.to_owned();
    Ok(Some(match request.plugin_type.as_str() {
        "bridge" => {
            let data = bridge::state::Attached { netns, ..bridge::state::Attached::supposed(request, key)? };
            (of_bridge(key.clone(), data.clone()), Supposed::new("bridge", &data, data.ruleset(key))?)
        }
        "ptp" => {
            let result = request.prev_result()?.unwrap_or_default();
            let supposed = ptp::state::Attached::supposed(request, key, &result)?;
            let data = ptp::state::Attached { netns, ..supposed };
            (of_ptp(key.clone(), data.clone()), Supposed::new("ptp", &data, data.ruleset(key))?)
        }
        "overlay" => {
            let supposed = overlay::plugin::record::Attached::supposed(request, key)?;
            let data = overlay::plugin::record::Attached { netns, ..supposed };
            (of_overlay(key.clone(), data.clone()), Supposed::new("overlay", &data, data.ruleset(key))?)
        }
        "macvlan" => {
            let supposed = macvlan::state::Attached::supposed(request, key, master.unwrap_or_default())?;
            let data = macvlan::state::Attached { netns, ..supposed };
            (of_macvlan(key.clone(), data.clone()), Supposed::new("macvlan", &data, Plan::new())?)
        }
        other => {
            let Some(kind) = LONE.iter().find(|kind| kind.plugin == other) else { return Ok(None) };
            let (_, addresses) = of_attachment(&request.prev_result()?.unwrap_or_default(), key);
            let data = lone::Attached { master: master.map(str::to_owned), netns, addresses };
            (of_lone(kind, key.clone(), data.clone()), Supposed::new(kind.plugin, &data, Plan::new())?)
        }
    }))
}

/// Plugins whose attachments have one link, in the container.
const LONE: [lone::Kind; 4] = [ipvlan::KIND, vlan::KIND, dummy::KIND, tap::KIND];

fn of_overlay(key: Attachment, data: overlay::plugin::record::Attached) -> Made {
    let ruleset = data.ruleset(&key);
    Made {
        plugin: "overlay",
        key,
        netns: data.netns,
        host_link: Some(data.host_link),
        bridge: Some(data.bridge),
        master: None,
        addresses: data.addresses,
        masquerade: data.masquerade_beyond.is_some(),
        ruleset,
    }
}

fn of_bridge(key: Attachment, data: bridge::state::Attached) -> Made {
    let ruleset = data.ruleset(&key);
    Made {
        plugin: "bridge",
        key,
        netns: data.netns,
        host_link: Some(data.host_link),
        bridge: Some(data.bridge),
        master: None,
        addresses: data.addresses,
        masquerade: data.masquerade,
        ruleset,
    }
}

fn of_ptp(key: Attachment, data: ptp::state::Attached) -> Made {
    let ruleset = data.ruleset(&key);
    Made {
        plugin: "ptp",
        key,
        netns: data.netns,
        host_link: Some(data.host_link),
        bridge: None,
        master: None,
        addresses: data.addresses,
        masquerade: data.masquerade,
        ruleset,
    }
}

fn of_macvlan(key: Attachment, data: macvlan::state::Attached) -> Made {
    Made {
        plugin: "macvlan",
        key,
        netns: data.netns,
        host_link: None,
        bridge: None,
        master: Some(data.master),
        addresses: data.addresses.into_iter().map(IpNetwork::from).collect(),
        masquerade: false,
        ruleset: Plan::new(),
    }
}

/// Of a plugin whose attachments have one link in the container.
fn of_lone(kind: &lone::Kind, key: Attachment, data: lone::Attached) -> Made {
    Made {
        plugin: kind.plugin,
        key,
        netns: data.netns,
        host_link: None,
        bridge: None,
        master: data.master,
        addresses: data.addresses,
        masquerade: false,
        ruleset: Plan::new(),
    }
}
