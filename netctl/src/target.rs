//! How people name the container that a verb is about, and the container id that follows from it.

use std::{
    convert::Infallible,
    env, io,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use cni::names::{ContainerId, IfName, NameError, NetworkName};
use kernel::netns::Netns;
use sha2::{Digest, Sha512};

use crate::cache::Entry;

/// A container as written: `netns:PATH|NAME`, `pid:N`, `id:PREFIX`, a path, or a name that `ip netns` knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A namespace's file.
    Path(PathBuf),
    /// A file in `/run/netns`.
    Named(String),
    /// The namespace of a process.
    Pid(String),
    /// The beginning of a container id.
    Id(String),
}

impl FromStr for Selector {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let path_or_name = |text: &str| {
            if text.contains('/') || text == "." || text == ".." {
                Self::Path(text.into())
            } else {
                Self::Named(text.to_owned())
            }
        };
        Ok(match text.split_once(':') {
            Some(("netns", rest)) => path_or_name(rest),
            Some(("pid", rest)) => Self::Pid(rest.to_owned()),
            Some(("id", rest)) => Self::Id(rest.to_owned()),
            _ => path_or_name(text),
        })
    }
}

impl Selector {
    /// The absolute path of the namespace; `None` of a container id, which names none. Links are not followed: the path
    /// names the container.
    pub fn netns(&self) -> io::Result<Option<PathBuf>> {
        match self {
            Self::Path(path) => Ok(Some(clean(&env::current_dir()?.join(path)))),
            Self::Named(name) => Ok(Some(Path::new(NETNS_DIR).join(name))),
            Self::Pid(pid) => Ok(Some(clean(&Path::new("/proc").join(pid).join("ns/net")))),
            Self::Id(_) => Ok(None),
        }
    }

    /// The attachments of the container to `network` by `ifname` among `entries`: those whose namespace is the one that the selector
    /// names, by path or, while it lives, by identity; for want of one, a bare name is tried as the beginning of a container id.
    pub fn attachments<'a>(
        &self,
        entries: &'a [Entry],
        network: &NetworkName,
        ifname: &IfName,
    ) -> io::Result<Vec<&'a Entry>> {
        let here =
            |entry: &&Entry| entry.attachment.network == *network && entry.attachment.ifname == *ifname;
        let by_id = |prefix: &str| {
            let named = |entry: &&Entry| entry.attachment.container.as_str().starts_with(prefix);
            entries.iter().filter(here).filter(named).collect::<Vec<_>>()
        };
        let Some(path) = self.netns()? else {
            return Ok(match self {
                Self::Id(prefix) => by_id(prefix),
                _ => Vec::new(),
            });
        };
        let open = |path: &Path| Netns::open(path).ok().map(|netns| netns.id());
        let wanted = open(&path);
        let same = |entry: &&Entry| {
            entry
                .netns
                .as_deref()
                .map(Path::new)
                .is_some_and(|netns| netns == path || wanted.is_some() && wanted == open(netns))
        };
        let found: Vec<_> = entries.iter().filter(here).filter(same).collect();
        Ok(match self {
            Self::Named(name) if found.is_empty() => by_id(name),
            _ => found,
        })
    }
}

/// The id that cnitool gives the container of a namespace, so that either can delete what the other added:
/// `cnitool-` and the first ten bytes of the SHA-512 of the path.
pub fn container_id(netns: &Path) -> Result<ContainerId, NameError> {
    let hash = Sha512::digest(netns.as_os_str().as_encoded_bytes());
    let digits: String = hash.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    format!("cnitool-{digits}").parse()
}

/// `path` without `.`, `..` and doubled slashes, by its letters alone, as Go's `filepath.Clean`.
fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut clean, part| {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
        clean
    })
}

/// Where `ip netns` keeps namespaces.
const NETNS_DIR: &str = "/run/netns";

#[cfg(test)]
mod tests {
    use cni::names::Attachment;

    use super::*;

    #[test]
    fn selectors() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let Ok(selector) = text.parse::<Selector>();
            assert_eq!(selector.netns().unwrap().as_deref(), Some(Path::new(expected)), "{text}");
        }
        check("netns:/var/run/netns/a", "/var/run/netns/a");
        check("/var/run//netns/./b/../a/", "/var/run/netns/a");
        check("/../a", "/a");
        check("a", "/run/netns/a");
        check("netns:a", "/run/netns/a");
        check("a:b", "/run/netns/a:b");
        check("pid:12", "/proc/12/ns/net");
        let here = env::current_dir().unwrap();
        check("./a", here.join("a").to_str().unwrap());
    }

    fn entry(network: &str, container: &str, ifname: &str, netns: Option<&str>) -> Entry {
        Entry {
            attachment: Attachment {
                network: network.parse().unwrap(),
                container: container.parse().unwrap(),
                ifname: ifname.parse().unwrap(),
            },
            netns: netns.map(str::to_owned),
            config: Vec::new(),
            args: Vec::new(),
            capability_args: serde_json::Map::new(),
            result: None,
        }
    }

    #[test]
    fn attachments_are_found_by_namespace_and_by_id() {
        let entries = [
            entry("net", "abc1", "eth0", Some("/nowhere/a")),
            entry("net", "abc2", "eth0", Some("/nowhere/b")),
            entry("net", "abc2", "eth1", Some("/nowhere/b")),
            entry("other", "abc2", "eth0", Some("/nowhere/b")),
            entry("net", "self", "eth0", Some("/proc/self/ns/net")),
            entry("net", "old", "eth0", None),
        ];
        #[track_caller]
        fn check(entries: &[Entry], text: &str, expected: &[&str]) {
            let Ok(selector) = text.parse::<Selector>();
            let (network, ifname) = ("net".parse().unwrap(), "eth0".parse().unwrap());
            let found = selector.attachments(entries, &network, &ifname).unwrap();
            let found: Vec<_> = found.iter().map(|entry| entry.attachment.container.as_str()).collect();
            assert_eq!(found, expected, "{text}");
        }
        check(&entries, "/nowhere/a", &["abc1"]);
        check(&entries, "netns:/nowhere/x/../b", &["abc2"]);
        check(&entries, "/nowhere/c", &[]);
        check(&entries, "id:abc", &["abc1", "abc2"]);
        check(&entries, "id:abc2", &["abc2"]);
        check(&entries, "abc1", &["abc1"]);
        check(&entries, "id:", &["abc1", "abc2", "self", "old"]);
        // Another path to the same namespace.
        check(&entries, &format!("pid:{}", std::process::id()), &["self"]);
    }

    #[test]
    fn the_container_id_is_cnitools() {
        // printf %s /var/run/netns/testing | sha512sum
        let id = container_id(Path::new("/var/run/netns/testing")).unwrap();
        assert_eq!(id.as_str(), "cnitool-77383ca0a0715733ca6f");
    }
}
