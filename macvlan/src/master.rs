//! The link that the containers' interfaces are made on.

use attach::container::Container;
use cni::{error::Error, names::NetnsPath, request::Request};
use kernel::{
    link::{self, Link},
    netlink::Netlink,
    route::{self, Family},
};

use crate::config::Config;

/// A master and where it is.
#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) link: Link,
    pub(crate) in_container: bool,
}

/// The master that the configuration names, or else the interface that the plugin before in the chain made, or else the
/// default route's link.
pub(crate) fn find(
    request: &Request,
    config: &Config,
    netns: &NetnsPath,
    host: &mut Netlink,
    container: &mut Container,
) -> anyhow::Result<Master> {
    let (name, in_container) = match (&config.master, request.prev_result()?) {
        (Some(name), _) => (name.to_string(), config.link_in_container),
        (None, Some(previous)) => {
            let [only] = &previous.interfaces[..] else {
                let value = previous.interfaces.len();
                let why = "of several or no interfaces none is the master without \"master\"";
                return Err(Error::invalid_config("prevResult.interfaces", value, why).into());
            };
            (only.name.clone(), only.sandbox == netns.as_str() || config.link_in_container)
        }
        (None, None) => {
            let nl = if config.link_in_container { &mut container.netlink } else { &mut *host };
            return Ok(Master { link: of_default_route(nl)?, in_container: config.link_in_container });
        }
    };
    let nl = if in_container { &mut container.netlink } else { host };
    let link = link::find(nl, &name)?;
    let place = if in_container { "the container" } else { "the host" };
    let link =
        link.ok_or_else(|| Error::invalid_config("master", &name, format_args!("{place} has no such link")))?;
    Ok(Master { link, in_container })
}

fn of_default_route(nl: &mut Netlink) -> anyhow::Result<Link> {
    for family in [Family::V4, Family::V6] {
        if let Some(index) = route::default_link(nl, family)? {
            return Ok(link::by_index(nl, index)?);
        }
    }
    Err(Error::invalid_config("master", "absent", "there is no default route whose link could serve").into())
}
