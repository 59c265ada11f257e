//! Reading and writing neighbours, forwarding entries and routes of a network. Knows which are ours, not which are wanted.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;
use kernel::{
    error::Result,
    fdb,
    link::LinkIndex,
    neighbour,
    netlink::{Netlink, Request},
    route::{self, Filter, Route},
};

use super::Links;
use crate::{
    definition::Definition,
    desired::{self, Way},
    diff::{Actual, ActualRoute, Change},
    family::Family,
    plan,
};

/// The kernel's tables as far as they concern the network.
pub fn dump(nl: &mut Netlink, definition: &Definition, links: Links) -> Result<Actual> {
    let mut actual = Actual::default();
    for entry in neighbour::list(nl, Some(links.device))? {
        if let Some((ip, entry)) = ours_neighbour(&entry, links) {
            actual.neighbours.insert(ip, entry);
        }
    }
    for entry in fdb::list(nl, links.device)? {
        if let Some((mac, dst)) = ours_fdb(&entry, links) {
            actual.fdb.entry(mac).or_default().insert(dst);
        }
    }
    for family in Family::ALL {
        let filter = Filter { table: Some(route::TABLE_MAIN), protocol: Some(desired::PROTOCOL), dev: None };
        for route in route::list(nl, family.into(), filter)? {
            if let Some((prefix, metric, found)) = ours_route(&route, definition, links) {
                actual.routes.entry(prefix).or_default().insert(metric, found);
            }
        }
    }
    Ok(actual)
}

/// An entry of our device: permanent ones with their MAC, the kernel's own without.
pub fn ours_neighbour(
    entry: &neighbour::Neighbour,
    links: Links,
) -> Option<(std::net::IpAddr, Option<kernel::mac::MacAddr>)> {
    let permanent = entry.state & neighbour::PERMANENT != 0;
    (entry.link == links.device).then(|| (entry.address, entry.mac.filter(|_| permanent)))
}

/// A destination of our device.
pub fn ours_fdb(entry: &fdb::Entry, links: Links) -> Option<(kernel::mac::MacAddr, std::net::IpAddr)> {
    let remote = entry.remote.filter(|_| entry.link == links.device && entry.table == fdb::Table::Own)?;
    Some((entry.mac, remote))
}

/// A route of our protocol that is this network's: through its device, or into its pools.
pub fn ours_route(
    route: &Route,
    definition: &Definition,
    links: Links,
) -> Option<(IpNetwork, u32, ActualRoute)> {
    let ours = route.protocol == desired::PROTOCOL && route.table == route::TABLE_MAIN;
    if !ours || !(route.dev == Some(links.device) || definition.holds(route.dst)) {
        return None;
    }
    Some((route.dst, route.priority.unwrap_or_default(), way(route, links)))
}

fn way(route: &Route, links: Links) -> ActualRoute {
    let plain = Route {
        dst: route.dst,
        gateway: route.gateway,
        dev: route.dev,
        priority: route.priority,
        protocol: route.protocol,
        onlink: route.onlink,
        ..Route::to(route.dst)
    };
    let Some(gateway) = route.gateway.filter(|_| *route == plain) else { return ActualRoute::Odd };
    match (route.dev, route.onlink) {
        (Some(dev), true) if dev == links.device => ActualRoute::Way(Way::Tunnel { gateway }),
        (Some(dev), false) if dev == links.underlay => ActualRoute::Way(Way::Direct { gateway }),
        _ => ActualRoute::Odd,
    }
}

/// Makes the changes in order and says which failed and why. `between` is called after each batch, to read the events that
/// it caused before the kernel has to drop some.
pub fn write(
    nl: &mut Netlink,
    links: Links,
    changes: &[Change],
    mut between: impl FnMut(),
) -> Result<Vec<(Change, String)>> {
    let mut failures = Vec::new();
    for batch in plan::batches(changes) {
        let requests: Vec<Request> = batch.iter().map(|change| request(*change, links)).collect();
        let answers = nl.ask(&requests)?;
        failures.extend(answers.failures.into_iter().map(|(index, err)| (batch[index], err.to_string())));
        between();
    }
    Ok(failures)
}

fn request(change: Change, links: Links) -> Request {
    match change {
        Change::SetNeighbour { ip, mac } => {
            neighbour::replace(&neighbour::Neighbour::permanent(links.device, ip, mac, desired::PROTOCOL))
        }
        Change::SetFdb { mac, dst } => fdb::replace(&fdb::Entry::behind(links.device, mac, dst)),
        Change::SetRoute { prefix, way } => route::replace(&wanted_route(prefix, way, links)),
        Change::RemoveRoute { prefix, metric } => {
            route::remove(&Route { priority: Some(metric), protocol: desired::PROTOCOL, ..Route::to(prefix) })
        }
        Change::RemoveFdb { mac } => {
            fdb::remove(&fdb::Entry { remote: None, ..fdb::Entry::behind(links.device, mac, NOWHERE) })
        }
        Change::RemoveNeighbour { ip } => neighbour::remove(links.device, ip),
    }
}

fn wanted_route(prefix: IpNetwork, way: Way, links: Links) -> Route {
    let (gateway, dev, onlink) = match way {
        Way::Tunnel { gateway } => (gateway, links.device, true),
        Way::Direct { gateway } => (gateway, links.underlay, false),
    };
    Route {
        gateway: Some(gateway),
        dev: Some(dev),
        priority: Some(desired::metric(prefix)),
        protocol: desired::PROTOCOL,
        onlink,
        ..Route::to(prefix)
    }
}

/// How many links of `family` routes lead through `dev`; for reports.
pub fn count(actual: &Actual) -> BTreeMap<&'static str, usize> {
    [
        ("neighbours", actual.neighbours.values().flatten().count()),
        ("fdb", actual.fdb.len()),
        ("routes", actual.routes.len()),
    ]
    .into()
}

/// The links of a network from the names of its devices.
pub fn links(device: u32, underlay: u32) -> Links {
    Links { device: LinkIndex::from(device), underlay: LinkIndex::from(underlay) }
}

const NOWHERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
