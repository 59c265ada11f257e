//! Which link carries the tunnels, and what it looks like now. Knows no peer.

use std::net::IpAddr;

use cni::names::IfName;
use kernel::{
    address,
    error::Result,
    link::{self, LinkIndex},
    netlink::Netlink,
    route::{self, Filter},
};

use crate::{
    definition::Definition,
    desired,
    family::Family,
    machine::Underlay,
    names::Mtu,
    onlink::{Neighbourhood, Reach},
};

/// What is known of the underlay beforehand. What is not given is found: the link by the address, else by the default
/// route; the address as the first global one of the link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub device: Option<IfName>,
    pub address: Option<IpAddr>,
    /// The link that served last: it goes on without a default route, which comes and goes with addresses.
    pub last: Option<u32>,
}

/// The underlay now; `None` while there is no link or no address that serves.
pub fn find(nl: &mut Netlink, definition: &Definition, wanted: &Wanted) -> Result<Option<Underlay>> {
    let family = definition.underlay;
    let all = address::list_all(nl)?;
    let Some(index) = index(nl, wanted, family, &all)? else { return Ok(None) };
    let link = match link::by_index(nl, index) {
        Err(err) if err.is_missing() => return Ok(None),
        link => link?,
    };
    let serves = |address: &&address::Address| {
        let ip = address.network.ip();
        address.link == index
            && Family::of(ip) == family
            && address.scope == route::SCOPE_UNIVERSE
            && !address.is_tentative()
            && !definition.pools.iter().any(|pool| pool.network.contains(ip))
            && wanted.address.is_none_or(|wanted| wanted == ip)
    };
    let Some(address) = all.iter().find(serves).map(|address| address.network.ip()) else { return Ok(None) };
    let Ok(mtu) = Mtu::try_from(link.mtu.min(65_535)) else { return Ok(None) };
    Ok(Some(Underlay {
        mtu,
        up: link.is_running(),
        address,
        around: around(nl, family, index)?,
        addresses: all.iter().map(|address| address.network.ip()).collect(),
        index: index.into(),
        name: link.name,
    }))
}

fn index(
    nl: &mut Netlink,
    wanted: &Wanted,
    family: Family,
    all: &[address::Address],
) -> Result<Option<LinkIndex>> {
    if let Some(device) = &wanted.device {
        return Ok(link::find(nl, device.as_str())?.map(|link| link.index));
    }
    if let Some(ip) = wanted.address {
        return Ok(all.iter().find(|address| address.network.ip() == ip).map(|address| address.link));
    }
    Ok(route::default_link(nl, family.into())?.or_else(|| wanted.last.map(LinkIndex::from)))
}

/// The main table's routes through the link, less our own.
fn around(nl: &mut Netlink, family: Family, index: LinkIndex) -> Result<Neighbourhood> {
    let filter = Filter { table: Some(route::TABLE_MAIN), dev: Some(index), protocol: None };
    let routes = route::list(nl, family.into(), filter)?;
    let foreign = routes.into_iter().filter(|route| {
        route.protocol != desired::PROTOCOL && route.kind == route::KIND_UNICAST && route.dev == Some(index)
    });
    Ok(Neighbourhood::new(
        foreign.map(|route| (route.dst, if route.gateway.is_none() { Reach::Link } else { Reach::Router })),
    ))
}
