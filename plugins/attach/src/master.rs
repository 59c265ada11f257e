//! The link that containers' interfaces are made on (macvlan, ipvlan, vlan).

use cni::{
    error::{Code, Error},
    names::{IfName, NetnsPath},
    request::Request,
};
use kernel::{
    link::{self, Link, Mtu},
    netlink::Netlink,
    route::{self, Family},
};

use crate::container::Container;

/// What a configuration says of its master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The interface of an earlier plugin, or else the default route's, if `None`.
    pub name: Option<IfName>,
    /// It is in the container's namespace.
    pub in_container: bool,
}

/// A master and where it is.
#[derive(Debug)]
pub struct Master {
    pub link: Link,
    pub in_container: bool,
}

impl Wish {
    /// From `master` and `linkInContainer`. Fails with code 7.
    pub fn parse(master: &str, link_in_container: bool) -> Result<Self, Error> {
        let name = match master {
            "" => None,
            name => Some(
                name.parse().map_err(|why| Error::invalid_config("master", format_args!("{name:?}"), why))?,
            ),
        };
        Ok(Self { name, in_container: link_in_container })
    }

    /// The master that the configuration names, or else the interface that the plugin before in the chain made, or else the
    /// default route's link. Fails with code 7 where there is none.
    pub fn find(
        &self,
        request: &Request,
        netns: &NetnsPath,
        host: &mut Netlink,
        container: &mut Container,
    ) -> anyhow::Result<Master> {
        let (name, in_container) = match (&self.name, request.prev_result()?) {
            (Some(name), _) => (name.to_string(), self.in_container),
            (None, Some(previous)) => {
                let [only] = &previous.interfaces[..] else {
                    let value = previous.interfaces.len();
                    let why = "of several or no interfaces none is the master without \"master\"";
                    return Err(Error::invalid_config("prevResult.interfaces", value, why).into());
                };
                (only.name.clone(), only.sandbox == netns.as_str() || self.in_container)
            }
            (None, None) => {
                let nl = if self.in_container { &mut container.netlink } else { &mut *host };
                return Ok(Master { link: of_default_route(nl)?, in_container: self.in_container });
            }
        };
        let nl = if in_container { &mut container.netlink } else { host };
        let place = if in_container { "the container" } else { "the host" };
        let link = link::find(nl, &name)?.ok_or_else(|| {
            Error::invalid_config("master", &name, format_args!("{place} has no such link"))
        })?;
        Ok(Master { link, in_container })
    }

    /// For STATUS: the master is there (code 50), if it is the host's and named.
    pub fn require(&self, host: &mut Netlink) -> anyhow::Result<()> {
        let Some(name) = self.name.as_ref().filter(|_| !self.in_container) else { return Ok(()) };
        if link::find(host, name.as_str())?.is_some() {
            return Ok(());
        }
        Err(Error::new(Code::NotAvailable, format!("master: {name}: the host has no such link")).into())
    }
}

impl Master {
    /// Fails (code 7) where an interface would be larger than the master that its packets leave by.
    pub fn require_room(&self, mtu: Option<Mtu>) -> Result<(), Error> {
        match mtu {
            Some(mtu) if u32::from(mtu) > self.link.mtu => {
                let why = format!("is more than the {} of {}", self.link.mtu, self.link.name);
                Err(Error::invalid_config("mtu", mtu, why))
            }
            _ => Ok(()),
        }
    }
}

fn of_default_route(nl: &mut Netlink) -> anyhow::Result<Link> {
    for family in [Family::V4, Family::V6] {
        if let Some(index) = route::default_link(nl, family)? {
            return Ok(link::by_index(nl, index)?);
        }
    }
    Err(Error::invalid_config("master", "absent", "there is no default route whose link could serve").into())
}
