//! How people name the container that a verb is about, and the container id that follows from it.

use std::{
    convert::Infallible,
    env, io,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use cni::names::{ContainerId, NameError};
use sha2::{Digest, Sha512};

/// A container as written: `netns:PATH|NAME`, `pid:N`, a path, or a name that `ip netns` knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A namespace's file.
    Path(PathBuf),
    /// A file in `/run/netns`.
    Named(String),
    /// The namespace of a process.
    Pid(String),
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
            _ => path_or_name(text),
        })
    }
}

impl Selector {
    /// The absolute path of the namespace. Links are not followed: the path names the container.
    pub fn netns(&self) -> io::Result<PathBuf> {
        match self {
            Self::Path(path) => Ok(clean(&env::current_dir()?.join(path))),
            Self::Named(name) => Ok(Path::new(NETNS_DIR).join(name)),
            Self::Pid(pid) => Ok(clean(&Path::new("/proc").join(pid).join("ns/net"))),
        }
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
    use super::*;

    #[test]
    fn selectors() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            let Ok(selector) = text.parse::<Selector>();
            assert_eq!(selector.netns().unwrap(), Path::new(expected), "{text}");
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

    #[test]
    fn the_container_id_is_cnitools() {
        // printf %s /var/run/netns/testing | sha512sum
        let id = container_id(Path::new("/var/run/netns/testing")).unwrap();
        assert_eq!(id.as_str(), "cnitool-77383ca0a0715733ca6f");
    }
}
