//! The bridge in the container's namespace that the interface becomes a port of. Somebody else made it.

use attach::container::Container;
use cni::{error::Error, names::IfName};
use kernel::link::{self, Dev};

/// The bridge of that name. Code 7 when there is none, or another link.
pub(crate) fn find(container: &mut Container, name: &IfName) -> anyhow::Result<Dev> {
    let why = match link::find(&mut container.netlink, name.as_str())? {
        Some(link) if link.is_bridge() => return Ok(link.dev()),
        Some(_) => "is a link of the container, but no bridge",
        None => "the container has no such link",
    };
    Err(Error::invalid_config("bridge", name, why).into())
}
