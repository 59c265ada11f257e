//! Attachments whose records are lost, as when somebody emptied `/run/tenon`: what our plugins are supposed to have made, by the
//! configuration, the arguments and the result in libcni's cache.

use std::path::Path;

use anyhow::Context;
use attach::supposed::Supposed;
use chained::firewall::state::Shared;
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
};
use kernel::link::Link;

use super::{attachment::Attached, made, network::Network, space::Space};
use crate::{
    cache::{Cache, Entry},
    conf::{self, NetworkList},
    runtime::check,
};

/// Where to look.
pub(super) struct Sources<'a> {
    pub(super) networks: &'a [Network],
    pub(super) spaces: &'a [Space],
    pub(super) cache: &'a Cache,
    pub(super) conf_dir: &'a Path,
}

impl Sources<'_> {
    /// Completes the attachments without a record, and hands back what their networks have in the host's tables. Why that was not
    /// possible goes to `blind`.
    pub(super) fn complete(&self, attachments: &mut [Attached], blind: &mut Vec<String>) -> Vec<Shared> {
        let mut shared = Vec::new();
        for attached in attachments.iter_mut().filter(|it| it.made.is_none()) {
            let Some(entry) = attached.entry.clone() else { continue };
            let Some((inside, space)) = self.marked(attached) else { continue };
            let master = self.master(inside, space);
            match self.found(&entry, master.as_deref()) {
                Ok(all) if all.iter().any(|found| found.made.is_some()) => {
                    for found in all {
                        match found.made {
                            Some(made) => attached.made = Some(made),
                            None => attached.chained.extend(found.lost.iter().map(|it| it.ruleset.clone())),
                        }
                        attached.lost.extend(found.lost);
                        shared.extend(found.shared);
                    }
                }
                Ok(_) => {}
                Err(why) => blind.push(format!("what {} had, by its result: {why:#}", attached.key)),
            }
        }
        shared
    }

    /// Of each plugin of the list.
    fn found(&self, entry: &Entry, master: Option<&str>) -> anyhow::Result<Vec<Found>> {
        let netns = NetnsPath::new(entry.namespace().unwrap_or_default());
        let found = |request: &Request| {
            Found::new(request, &entry.attachment, &netns, master)
                .with_context(|| request.plugin_type.clone())
        };
        self.requests(entry)?.iter().map(found).collect()
    }

    /// The container's interface, if ours made it: other suites' plugins of the same names leave no mark on it, or on the host's end.
    fn marked(&self, attached: &Attached) -> Option<(&Link, &Space)> {
        let space = self.spaces.get(attached.space?)?;
        let inside = space.link(attached.key.ifname.as_str())?;
        let alias = attached.key.alias();
        let mut ends = [Some(inside), self.spaces[0].other_end(inside)].into_iter().flatten();
        ends.any(|link| link.alias.as_ref() == Some(&alias)).then_some((inside, space))
    }

    /// The link that the interface is on, of the host or in the same namespace.
    fn master(&self, inside: &Link, space: &Space) -> Option<String> {
        let at = if inside.peer_netnsid.is_some() { &self.spaces[0] } else { space };
        Some(at.link_at(inside.parent?)?.name.clone())
    }

    fn requests(&self, entry: &Entry) -> anyhow::Result<Vec<Request>> {
        let of_add: NetworkList;
        let now = self.networks.iter().find(|network| network.list.name == entry.attachment.network);
        let list = match now {
            // The oldest libcni did not note it.
            Some(network) if entry.config.is_empty() => &network.list,
            _ => {
                of_add = conf::list(&self.cache.file(&entry.attachment), &entry.config, self.conf_dir)?;
                &of_add
            }
        };
        Ok(check::requests(list, entry)?)
    }
}

/// What one plugin is supposed to have made.
#[derive(Default)]
struct Found {
    made: Option<made::Made>,
    lost: Option<Supposed>,
    shared: Option<Shared>,
}

impl Found {
    fn new(
        request: &Request,
        key: &Attachment,
        netns: &NetnsPath,
        master: Option<&str>,
    ) -> anyhow::Result<Self> {
        let mut found = Self::default();
        match request.plugin_type.as_str() {
            "portmap" => found.lost = chained::portmap::supposed(request, key, netns)?,
            "bandwidth" => found.lost = chained::bandwidth::supposed(request, key, netns)?,
            "firewall" => {
                let (lost, shared) = chained::firewall::supposed(request, key)?;
                (found.lost, found.shared) = (Some(lost), Some(shared));
            }
            _ => {
                if let Some((made, lost)) = made::supposed(request, key, netns.as_str(), master)? {
                    (found.made, found.lost) = (Some(made), Some(lost));
                }
            }
        }
        // What a later plugin of the list wrote down may be there still.
        if let Some(lost) = &found.lost
            && !lost.is_lost(key)?
        {
            found.lost = None;
        }
        Ok(found)
    }
}
