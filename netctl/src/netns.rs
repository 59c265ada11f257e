//! What a runtime must know of a namespace before it lets plugins at it.

use std::path::Path;

use cni::names::IfName;
use kernel::{
    link,
    netlink::Netlink,
    netns::{Netns, OpenError},
};

use crate::runtime::gc::Gone;

/// Why there is no namespace at `path`; `None` when there is one, or when it can't be told.
pub fn gone(path: &Path) -> Option<Gone> {
    match Netns::open(path) {
        Err(OpenError::Missing { .. }) => Some(Gone::NetnsGone),
        Err(OpenError::NotNetns { .. }) => Some(Gone::NotANetns),
        Err(OpenError::Other(_)) | Ok(_) => None,
    }
}

/// Whether the namespace at `path` has such an interface; `None` when it can't be told.
pub fn has_interface(path: &Path, name: &IfName) -> Option<bool> {
    let netns = match Netns::open(path) {
        Err(OpenError::Missing { .. } | OpenError::NotNetns { .. }) => return Some(false),
        opened => opened.ok()?,
    };
    let mut netlink = Netlink::open_in(&netns).ok()?;
    link::find(&mut netlink, name.as_str()).ok().map(|link| link.is_some())
}
