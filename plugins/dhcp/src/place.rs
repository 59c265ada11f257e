//! Where a client's link is, in the container's namespace, and what a lease changes there. Namespaces are opened for as
//! long as there is something to say, so that a container's end is not held up.

use std::{net::Ipv6Addr, path::Path};

use ipnetwork::{IpNetwork, Ipv6Network};
use kernel::{
    address::{self, Dad},
    link::{self, Dev, Link, Mtu},
    mac::MacAddr,
    netlink::{Netlink, Request},
    netns::{Netns, NetnsId, OpenError},
    route::{self, Family, SCOPE_LINK},
    sysctl,
};

use crate::{
    client::{Outgoing, Wire},
    lease::Lease,
    v4, v6,
};

/// Where a client's link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// As this process sees it.
    pub netns: String,
    pub ifname: String,
}

/// Why a link can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Netns(#[from] OpenError),
    #[error("{0}")]
    Kernel(#[from] kernel::error::Error),
    #[error("{0} has no Ethernet address")]
    NotEthernet(String),
    #[error("{0} names another namespace now")]
    Replaced(String),
}

impl Error {
    /// The container's interface is no more, and will not come back.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Netns(err) => err.is_missing() || err.is_not_netns(),
            Self::Kernel(err) => err.is_missing(),
            Self::Replaced(_) => true,
            Self::NotEthernet(_) => false,
        }
    }
}

impl Place {
    /// Which namespace it is in now.
    pub fn netns_id(&self) -> Result<NetnsId, Error> {
        Ok(Netns::open(Path::new(&self.netns))?.id())
    }

    fn enter(&self, expected: NetnsId) -> Result<Netns, Error> {
        let netns = Netns::open(Path::new(&self.netns))?;
        if netns.id() != expected {
            return Err(Error::Replaced(self.netns.clone()));
        }
        Ok(netns)
    }

    /// Sets the link up if it is down, as the reference does, and says its address.
    pub fn ready(&self, expected: NetnsId) -> Result<MacAddr, Error> {
        self.enter(expected)?.run(|| {
            let (mut netlink, link) = self.link()?;
            set_up(&mut netlink, &link)
        })?
    }

    /// Has the kernel keep what routers say of the link, and make no addresses by itself; default routes get the metric
    /// `priority`.
    pub fn ready_v6(&self, expected: NetnsId, priority: Option<u32>) -> Result<(), Error> {
        self.enter(expected)?.run(|| {
            let (mut netlink, link) = self.link()?;
            let set = |key, value: &str| sysctl::ensure(&sysctl::conf(Family::V6, &self.ifname, key), value);
            set("disable_ipv6", "0")?;
            set("autoconf", "0")?;
            if let Some(priority) = priority {
                match set("ra_defrtr_metric", &priority.to_string()) {
                    Err(err) if err.is_missing() => log::warn!("{err}: kernels have this since 5.12"),
                    set => drop(set?),
                }
            }
            // Also in a container that forwards (Documentation/networking/ip-sysctl.rst).
            set("accept_ra", "2")?;
            let dev = link.dev();
            let made = address::list(&mut netlink, &dev)?.into_iter().filter(address::Address::is_dynamic);
            Ok(netlink.batch(&made.map(|made| address::remove(&dev, made.network)).collect::<Vec<_>>())?)
        })?
    }

    /// Opens the link for `outgoing` and what is answered, and sets it up if it is down.
    pub fn open(&self, expected: NetnsId, outgoing: &Outgoing) -> Result<Wire, Error> {
        self.enter(expected)?.run(|| {
            let (mut netlink, link) = self.link()?;
            let mac = set_up(&mut netlink, &link)?;
            let dev = link.dev();
            match outgoing {
                Outgoing::V4(_) => Ok(Wire::V4(v4::wire::Wire::open(&dev, mac)?)),
                Outgoing::V6(v6::client::Outgoing::Routers) => {
                    let wire = Wire::V6(v6::wire::Wire::to_routers(&dev, mac)?);
                    // Then, since the kernel solicits too once it has an address, and the answer may be to that.
                    link_local(&mut netlink, &dev, mac)?;
                    Ok(wire)
                }
                Outgoing::V6(v6::client::Outgoing::Servers(_)) => {
                    let own = link_local(&mut netlink, &dev, mac)?;
                    Ok(Wire::V6(v6::wire::Wire::to_servers(&dev, own)?))
                }
            }
        })?
    }

    /// Lowers the link's MTU to the network's. It is never raised: what is below may carry less.
    pub fn fit_mtu(&self, expected: NetnsId, lease: &Lease) -> Result<(), Error> {
        let Some(mtu) = lease.mtu() else { return Ok(()) };
        self.enter(expected)?.run(|| {
            let (mut netlink, link) = self.link()?;
            if let (true, Ok(mtu)) = (mtu < link.mtu, Mtu::try_from(mtu)) {
                netlink.execute(link::change(&link.dev()).mtu(mtu).request())?;
            }
            Ok(())
        })?
    }

    /// Takes the address off the link, and the routes with it.
    pub fn take_off(&self, expected: NetnsId, lease: &Lease) -> Result<(), Error> {
        self.enter(expected)?.run(|| {
            let (mut netlink, link) = self.link()?;
            Ok(netlink.execute(address::remove(&link.dev(), lease.address()))?)
        })?
    }

    /// Puts the address of a lease that was lost back, or another that was granted in its place.
    pub fn put_on(&self, expected: NetnsId, lease: &Lease, priority: Option<u32>) -> Result<(), Error> {
        self.enter(expected)?.run(|| {
            let (mut netlink, link) = self.link()?;
            let dev = link.dev();
            netlink.execute(address::replace(&dev, lease.address(), Dad::Skip))?;
            Ok(netlink.batch(&routes(&dev, lease, priority))?)
        })?
    }

    /// Fails when the interface is gone.
    pub fn require(&self, expected: NetnsId) -> Result<(), Error> {
        self.enter(expected)?.run(|| self.link().map(drop))?
    }

    fn link(&self) -> Result<(Netlink, Link), Error> {
        let mut netlink = Netlink::open()?;
        let link = link::by_name(&mut netlink, &self.ifname)?;
        Ok((netlink, link))
    }
}

fn set_up(netlink: &mut Netlink, link: &Link) -> Result<MacAddr, Error> {
    if !link.is_up() {
        netlink.execute(link::change(&link.dev()).up().request())?;
    }
    link.mac.ok_or_else(|| Error::NotEthernet(link.name.clone()))
}

/// A link-local address that may be used. The kernel's own is not until it has looked for another owner, for a second or
/// two: that of a new interface, whose MAC address is nobody else's, need not wait.
fn link_local(netlink: &mut Netlink, dev: &Dev, mac: MacAddr) -> Result<Ipv6Addr, Error> {
    for found in address::list(netlink, dev)? {
        match found.network {
            IpNetwork::V6(v6) if v6.ip().is_unicast_link_local() && !found.is_tentative() => {
                return Ok(v6.ip());
            }
            _ => {}
        }
    }
    let address = mac.link_local();
    // 64 is a prefix length.
    let network = IpNetwork::V6(Ipv6Network::new(address, 64).expect("64 is a prefix length"));
    netlink.batch(&[address::remove(dev, network), address::add(dev, network, Dad::Skip).ok_if_exists()])?;
    Ok(address)
}

fn routes(dev: &Dev, lease: &Lease, priority: Option<u32>) -> Vec<Request> {
    let result = lease.result(priority);
    let routes = result.routes.iter().map(|wanted| {
        let scope = if wanted.gw.is_none() { SCOPE_LINK } else { 0 };
        let to = route::Route::to(wanted.dst);
        route::append(&route::Route { gateway: wanted.gw, dev: Some(dev.index), priority, scope, ..to })
            .ok_if_exists()
    });
    routes.collect()
}
