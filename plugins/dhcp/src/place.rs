//! The link of a client, in the container's namespace: messages out and in, and what a lease changes there. Namespaces are
//! opened for as long as there is something to say, so that a container's end is not held up.

use std::{net::Ipv4Addr, path::Path};

use ipnetwork::IpNetwork;
use kernel::{
    address::{self, Dad},
    frames::{End, FrameSocket},
    link::{self, Dev, Link, Mtu},
    mac::MacAddr,
    netlink::Netlink,
    netns::{Netns, NetnsId, OpenError},
    route::{self, SCOPE_LINK},
};

use crate::{
    client::{Outgoing, To},
    lease::Lease,
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

/// A link to send and receive on.
#[derive(Debug)]
pub struct Wire {
    pub frames: FrameSocket,
    pub mac: MacAddr,
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

    /// Opens the link, and sets it up if it is down, as the reference does.
    pub fn open(&self, expected: NetnsId) -> Result<Wire, Error> {
        self.enter(expected)?.run(|| {
            let mut netlink = Netlink::open()?;
            let link = link::by_name(&mut netlink, &self.ifname)?;
            if !link.is_up() {
                netlink.execute(link::change(&link.dev()).up().request())?;
            }
            let mac = link.mac.ok_or_else(|| Error::NotEthernet(link.name.clone()))?;
            Ok(Wire { frames: FrameSocket::open(&link.dev(), CLIENT_PORT)?, mac })
        })?
    }

    /// Lowers the link's MTU to the network's. It is never raised: what is below may carry less.
    pub fn fit_mtu(&self, expected: NetnsId, lease: &Lease) -> Result<(), Error> {
        let Some(mtu) = lease.mtu else { return Ok(()) };
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
            Ok(netlink.execute(address::remove(&link.dev(), IpNetwork::V4(lease.address)))?)
        })?
    }

    /// Puts the address of a lease that was lost back, or another that was granted in its place.
    pub fn put_on(&self, expected: NetnsId, lease: &Lease, priority: Option<u32>) -> Result<(), Error> {
        self.enter(expected)?.run(|| {
            let (mut netlink, link) = self.link()?;
            let dev = link.dev();
            netlink.execute(address::replace(&dev, IpNetwork::V4(lease.address), Dad::Skip))?;
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

fn routes(dev: &Dev, lease: &Lease, priority: Option<u32>) -> Vec<kernel::netlink::Request> {
    let result = lease.result(priority);
    let routes = result.routes.iter().map(|wanted| {
        let scope = if wanted.gw.is_none() { SCOPE_LINK } else { 0 };
        let to = route::Route::to(wanted.dst);
        route::append(&route::Route { gateway: wanted.gw, dev: Some(dev.index), priority, scope, ..to })
            .ok_if_exists()
    });
    routes.collect()
}

impl Wire {
    pub fn send(&self, outgoing: &Outgoing) -> kernel::error::Result<()> {
        let Outgoing { message, from, to } = outgoing;
        let (address, mac) = match to {
            To::Everybody => (Ipv4Addr::BROADCAST, MacAddr::BROADCAST),
            To::Server { address, mac } => (*address, *mac),
        };
        let from = End { mac: self.mac, address: *from, port: CLIENT_PORT };
        self.frames.send(from, End { mac, address, port: SERVER_PORT }, message)
    }
}

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
