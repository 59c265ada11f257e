//! The host's own way to its containers. A macvlan and the link that it is on can't talk to each other by design; a macvlan
//! of the host's own beside the containers' can.
//!
//! One a network, made with its first attachment and removed with its last, with a route to each container's addresses. It
//! has the host's addresses of the master again, each alone, so that containers reach the host by the address they know.

use cni::names::NetworkName;
use kernel::{
    address::{self, Dad},
    link::{self, Link, change::AddrGenMode},
    macvlan::{self, Mode},
    netlink::Netlink,
    route::{self, Route, SCOPE_LINK, SCOPE_UNIVERSE},
};
use std::net::IpAddr;

/// The name of a network's shim: the same on every node, short enough for any network.
pub(crate) fn name(network: &NetworkName) -> String {
    let key = cni::names::Attachment {
        network: network.clone(),
        // Not a container's ID: those hold no more than the letters of names, and this is one of the suite's own.
        container: "tenon.shim".parse().expect("it is a valid ID"),
        ifname: "shim".parse().expect("it is a valid name"),
    };
    format!("mvs{}", key.hash(NAME_DIGITS))
}

/// Makes the shim if it is not there, and leads `addresses` through it. The caller holds the network's lock, shared.
pub(crate) fn ensure(
    host: &mut Netlink,
    network: &NetworkName,
    master: &Link,
    addresses: &[IpAddr],
) -> anyhow::Result<()> {
    let name = name(network);
    let shim = match link::find(host, &name)? {
        Some(shim) => shim,
        None => create(host, &name, master)?,
    };
    let routes = addresses.iter().map(|address| {
        route::replace(&Route { dev: Some(shim.index), scope: SCOPE_LINK, ..Route::to((*address).into()) })
    });
    Ok(host.batch(&routes.collect::<Vec<_>>())?)
}

fn create(host: &mut Netlink, name: &str, master: &Link) -> anyhow::Result<Link> {
    let request = macvlan::add(link::new(name), master.index, Mode::Bridge, None);
    let shim = match link::create(host, request, name) {
        // Another attachment of the network was first.
        Err(err) if err.is_exists() => link::by_name(host, name)?,
        made => made?,
    };
    let addresses = address::list(host, &master.dev())?;
    let own = addresses.iter().filter(|address| address.scope == SCOPE_UNIVERSE);
    let own = own.map(|a| address::add(&shim.dev(), a.network.ip().into(), Dad::Skip).ok_if_exists());
    let quiet = link::change(&shim.dev()).addr_gen_mode(AddrGenMode::None).request();
    let up = link::change(&shim.dev()).alias("tenon:shim").up().request();
    host.batch(&[quiet, up].into_iter().chain(own).collect::<Vec<_>>())?;
    Ok(shim)
}

/// Takes the routes to `addresses` away again; accepts that they are gone.
pub(crate) fn remove_routes(host: &mut Netlink, shim: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
    let Some(shim) = link::find(host, shim)? else { return Ok(()) };
    let routes = addresses.iter().map(|address| {
        route::remove(&Route { dev: Some(shim.index), scope: SCOPE_LINK, ..Route::to((*address).into()) })
    });
    Ok(host.batch(&routes.collect::<Vec<_>>())?)
}

/// With `mvs` they fill an interface's name but for one.
const NAME_DIGITS: usize = 11;
