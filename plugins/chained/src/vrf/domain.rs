//! An interface that changes its domain of routing: into a VRF, or out of one.
//!
//! The kernel sets it down and up for that (`cycle_netdev`, drivers/net/vrf.c), and what it had goes: its routes, and its IPv6
//! addresses unless `keep_addr_on_down` says otherwise. So they are put back in the same send, the routes of the one domain's
//! table in the other's. Knows no CNI.

use kernel::{
    address::{self, Address, Dad},
    error::Result,
    link::{self, Dev, change::Change},
    netlink::{Netlink, Request},
    route::{self, Family, Filter, KIND_UNICAST, PROTOCOL_KERNEL, PROTOCOL_RA, Route, SCOPE_LINK},
};

/// What an interface has that would go.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kept {
    dev: Dev,
    addresses: Vec<Address>,
    /// In whatever table; those that the kernel made with an address too.
    routes: Vec<Route>,
    /// Its ways among those of routes that other interfaces have too, each as a route.
    shared: Vec<Route>,
}

impl Kept {
    pub(super) fn of(nl: &mut Netlink, dev: &Dev) -> Result<Self> {
        let addresses = address::list(nl, dev)?;
        let (mut routes, mut shared) = (Vec::new(), Vec::new());
        for family in [Family::V4, Family::V6] {
            let through = Filter { dev: Some(dev.index), ..Filter::default() };
            let unicast = route::list(nl, family, through)?.into_iter().filter(|it| it.kind == KIND_UNICAST);
            let (several, alone): (Vec<_>, Vec<_>) = unicast.partition(|it| !it.next_hops.is_empty());
            routes.extend(alone);
            // The kernel joins IPv6 routes of one rank, and keeps those of an interface that went down. An IPv4 route of several
            // interfaces was made as one, and is none of this one's.
            if family == Family::V6 {
                shared.extend(several.iter().flat_map(|it| own_hops(it, dev)));
            }
        }
        Ok(Self { dev: dev.clone(), addresses, routes, shared })
    }

    /// Begins a change of the interface.
    pub(super) fn change(&self) -> Change {
        link::change(&self.dev)
    }

    /// The routes that move when the domain's table `from` is left: those that somebody made.
    pub(super) fn moving(&self, from: u32) -> impl Iterator<Item = &Route> {
        self.made().filter(move |route| route.table == from)
    }

    /// Routers advertise their own again.
    fn made(&self) -> impl Iterator<Item = &Route> {
        self.routes
            .iter()
            .chain(&self.shared)
            .filter(|route| ![PROTOCOL_KERNEL, PROTOCOL_RA].contains(&route.protocol))
    }

    /// What puts it back once the interface has changed from the domain with table `from` to that with table `to`. Is content
    /// with what it finds there.
    pub(super) fn put_back(&self, from: u32, to: u32) -> Vec<Request> {
        let mut requests = Vec::new();
        for address in self.addresses.iter().filter(|address| address.network.is_ipv6()) {
            requests.extend(renew(&self.dev, address));
        }
        requests.extend(self.not_connected(from, to));
        requests.extend(self.shared.iter().map(route::remove));
        let table = |route: &Route| if route.table == from { to } else { route.table };
        let mut routes: Vec<_> = self.made().map(|it| Route { table: table(it), ..it.clone() }).collect();
        // Direct routes before those by a gateway, which they lead to.
        routes.sort_by_key(|route| route.gateway.is_some());
        // Beside those of another interface in the domain.
        requests.extend(routes.iter().map(|route| route::append(route).ok_if_exists()));
        requests
    }

    /// Removes the routes to the addresses' networks that the kernel makes with them, and that were not there.
    fn not_connected(&self, from: u32, to: u32) -> Vec<Request> {
        let was_there = |address: &&Address| {
            let leads_there = |route: &Route| {
                (route.dst.network(), route.dst.prefix())
                    == (address.network.network(), address.network.prefix())
            };
            self.routes.iter().any(|it| it.protocol == PROTOCOL_KERNEL && it.table == from && leads_there(it))
        };
        let gone = self.addresses.iter().filter(|address| address.peer.is_none() && !was_there(address));
        let connected = gone.map(|address| Route {
            dev: Some(self.dev.index),
            scope: SCOPE_LINK,
            protocol: PROTOCOL_KERNEL,
            table: to,
            ..Route::to(address.network)
        });
        connected.map(|route| route::remove(&route)).collect()
    }
}

fn own_hops(route: &Route, dev: &Dev) -> Vec<Route> {
    let own = route.next_hops.iter().filter(|hop| hop.dev == dev.index);
    let alone = own.map(|hop| Route {
        gateway: hop.gateway,
        dev: Some(hop.dev),
        onlink: hop.onlink,
        next_hops: Vec::new(),
        ..route.clone()
    });
    alone.collect()
}

/// An address that was given is given anew: one that the kernel kept has no route to its network before the link is found to be
/// ready, which is a moment later. It was in use, so nobody is asked whether it is somebody else's.
fn renew(dev: &Dev, address: &Address) -> Vec<Request> {
    if address.is_dynamic() || address.peer.is_some() {
        return Vec::new();
    }
    let add = address::add(dev, address.network, Dad::Skip).ok_if_exists();
    // The link-local one is the kernel's own matter, unless somebody gave it.
    if address.scope == SCOPE_LINK { vec![add] } else { vec![address::remove(dev, address.network), add] }
}

#[cfg(test)]
mod tests;
