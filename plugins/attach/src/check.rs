//! CHECK's questions that every mode asks: is what the result says still in the container?
//!
//! Only what an ADD made is asked for. Later members of the chain may have changed a MAC, an MTU, flags, or added routes and
//! addresses, and are not second-guessed (CNI 1.1.0, section 2, "CHECK").

use std::net::IpAddr;

use cni::{
    error::{Code, Error},
    names::{Attachment, NetnsPath},
    result::{AddResult, Interface},
};
use kernel::{
    address,
    link::{self, Link},
    netlink::Netlink,
    route::{self, Family, Filter, TABLE_MAIN},
};

use crate::container::{Container, kernel_route};

/// The interface that `result` names for this attachment: its index there, and what it says.
pub fn container_interface<'a>(
    result: &'a AddResult,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> Result<(usize, &'a Interface), Error> {
    let ours = |interface: &&Interface| {
        interface.name == attachment.ifname.as_str() && interface.sandbox == netns.as_str()
    };
    let found = result.interfaces.iter().enumerate().find(|(_, interface)| ours(interface));
    found.ok_or_else(|| {
        let names: Vec<_> =
            result.interfaces.iter().map(|i| format!("{} in {:?}", i.name, i.sandbox)).collect();
        let why = format!("has no interface {} in {:?}", attachment.ifname, netns.as_str());
        Error::invalid_config("prevResult.interfaces", format!("{names:?}"), why)
    })
}

/// The link of that name in the container; it must be up unless `may_be_down`.
pub fn link_in_container(container: &mut Container, name: &str, may_be_down: bool) -> anyhow::Result<Link> {
    let link = link::find(&mut container.netlink, name)?.ok_or_else(|| failed(format!("{name} is gone")))?;
    if !link.is_up() && !may_be_down {
        return Err(failed(format!("{name} is down")).into());
    }
    Ok(link)
}

/// The addresses that `result` gives its `interface`th interface are on `link`.
pub fn addresses(nl: &mut Netlink, link: &Link, result: &AddResult, interface: usize) -> anyhow::Result<()> {
    let present = address::list(nl, &link.dev())?;
    for ip in result.ips.iter().filter(|ip| ip.interface == Some(interface)) {
        if !present.iter().any(|address| address.network == ip.address) {
            return Err(failed(format!("{} has lost its address {}", link.name, ip.address)).into());
        }
    }
    Ok(())
}

/// The routes of `result` are there, with their gateway and in their table.
pub fn routes(nl: &mut Netlink, link: &Link, result: &AddResult) -> anyhow::Result<()> {
    for v4 in [true, false] {
        let wanted: Vec<_> = result.routes.iter().filter(|route| route.dst.is_ipv4() == v4).collect();
        if wanted.is_empty() {
            continue;
        }
        let family = if v4 { Family::V4 } else { Family::V6 };
        let present = route::list(nl, family, Filter::default())?;
        for route in wanted {
            let expected = kernel_route(&link.dev(), route, result);
            if !present.iter().any(|route| leads_the_same_way(route, &expected)) {
                let via =
                    expected.gateway.map_or_else(String::new, |gateway: IpAddr| format!(" via {gateway}"));
                let table = expected.table;
                return Err(
                    failed(format!("the route to {}{via} in table {table} is gone", route.dst)).into()
                );
            }
        }
    }
    Ok(())
}

/// The device is not compared: a VRF or a tunnel of a later plugin may carry the route now. Neither is the gateway of a
/// route that is in a table of its own: source based routing, which may come later, takes it out of the main one.
fn leads_the_same_way(present: &route::Route, expected: &route::Route) -> bool {
    let gateway = present.gateway == expected.gateway
        || present.next_hops.iter().any(|hop| hop.gateway == expected.gateway);
    // RT_TABLE_UNSPEC, DEFAULT, MAIN, LOCAL.
    let is_own = !matches!(present.table, 0 | 253..=255);
    let has_moved = expected.table == TABLE_MAIN && is_own;
    (has_moved || gateway && present.table == expected.table)
        && present.dst.network() == expected.dst.network()
        && present.dst.prefix() == expected.dst.prefix()
}

/// What CHECK answers: something that ADD made is not as it was.
pub fn failed(what: String) -> Error {
    Error::new(Code::Internal, what)
}
