//! GC of a list: which attachments live, which are to go, and the going.

use std::{fmt, path::Path};

use cni::{
    error::Error,
    names::{ContainerId, IfName},
    request::Command,
    version::Version,
};
use serde::Serialize;

use super::{Attach, Runtime, event::Event, input};
use crate::{cache::Entry, conf::NetworkList};

/// What a GC would do to a network's attachments.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// Those that live, and those of which nobody can tell.
    pub keep: Vec<Entry>,
    pub remove: Vec<(Entry, Gone)>,
}

/// Why an attachment is taken for dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Nothing is at the path of its namespace.
    NetnsGone,
    /// The path holds something else, such as the file that `ip netns` mounts a namespace on, after a reboot.
    NotANetns,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NetnsGone => "netns gone",
            Self::NotANetns => "not a netns",
        })
    }
}

/// An attachment as GC names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Valid {
    #[serde(rename = "containerID")]
    pub container: ContainerId,
    pub ifname: IfName,
}

impl Plan {
    /// Sorts the entries of the network by whether `gone` says that a namespace is. An entry that names no namespace
    /// stays: nobody can tell.
    pub fn new(list: &NetworkList, entries: Vec<Entry>, gone: impl Fn(&Path) -> Option<Gone>) -> Self {
        let mut plan = Self::default();
        for entry in entries.into_iter().filter(|entry| entry.attachment.network == list.name) {
            match entry.namespace().and_then(|netns| gone(Path::new(netns))) {
                None => plan.keep.push(entry),
                Some(why) => plan.remove.push((entry, why)),
            }
        }
        plan
    }

    fn valid(&self) -> Vec<Valid> {
        let valid = |entry: &Entry| Valid {
            container: entry.attachment.container.clone(),
            ifname: entry.attachment.ifname.clone(),
        };
        self.keep.iter().map(valid).collect()
    }
}

impl Runtime<'_> {
    /// DEL of what the plan removes, then GC of each plugin with what it keeps, where the list's version has GC. Goes on past
    /// errors and returns all of them. Does nothing where the list says `disableGC`.
    pub fn gc(&mut self, list: &NetworkList, plan: &Plan) -> Result<(), Vec<Error>> {
        if list.disable_gc {
            (self.report)(Event::Disabled { key: "disableGC" });
            return Ok(());
        }
        let mut errors: Vec<_> = plan
            .remove
            .iter()
            .filter_map(|(entry, _)| self.del(list, &Attach::of_entry(entry)).err())
            .collect();
        if list.version < Version::V1_1_0 {
            (self.report)(Event::NotInVersion { command: Command::Gc, version: list.version });
        } else {
            let valid = plan.valid();
            let environment = input::environment(Command::Gc, None);
            errors.extend(
                self.ask_all(list, Command::Gc, &environment, |plugin| input::of_gc(list, plugin, &valid)),
            );
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}
