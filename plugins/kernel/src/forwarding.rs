//! Making a namespace a router without cutting it off.

use std::collections::BTreeSet;

use crate::{
    error::Result,
    link::{self, Link},
    netlink::Netlink,
    route::{self, Family, Filter},
    sysctl,
};

/// Lets IPv4 packets pass from link to link, in the namespace of the calling thread. Writes nothing if they do.
pub fn enable_v4() -> Result<()> {
    sysctl::ensure("net/ipv4/ip_forward", "1").map(drop)
}

/// Lets IPv6 packets pass from link to link, in the namespace of the calling thread, which `nl` must be of too.
///
/// A router does not listen to routers (RFC 4861, section 6.2.7): at the switch the kernel drops the default routes it
/// learned from advertisements (`rt6_purge_dflt_routers`, net/ipv6/route.c) and learns no more, unless the link says
/// `accept_ra=2`. So the links that depend on advertisements get that first: those with learned routes, and hardware
/// that is up and may yet learn one. Bridges and virtual links do not: containers must not advertise to the host.
pub fn enable_v6(nl: &mut Netlink) -> Result<()> {
    let switch = sysctl::conf(Family::V6, "all", "forwarding");
    if sysctl::read(&switch)? == "1" {
        return Ok(());
    }
    for link in advertised(nl)? {
        let accept = sysctl::conf(Family::V6, &link.name, "accept_ra");
        let read = sysctl::read(&accept);
        let written = read.and_then(|value| if value == "1" { sysctl::write(&accept, "2") } else { Ok(()) });
        // A link may go while we look at it, and one with a tiny MTU has no IPv6.
        written.or_else(|err| if err.is_missing() { Ok(()) } else { Err(err) })?;
    }
    sysctl::write(&switch, "1")
}

fn advertised(nl: &mut Netlink) -> Result<Vec<Link>> {
    let filter = Filter { protocol: Some(route::PROTOCOL_RA), ..Filter::default() };
    let learned = route::list(nl, Family::V6, filter)?;
    let hops = |route: &route::Route| -> Vec<_> {
        route.dev.into_iter().chain(route.next_hops.iter().map(|hop| hop.dev)).collect()
    };
    let learned: BTreeSet<_> = learned.iter().flat_map(hops).collect();
    let depends = |link: &Link| learned.contains(&link.index) || is_uplink(link);
    Ok(link::list(nl)?.into_iter().filter(depends).collect())
}

fn is_uplink(link: &Link) -> bool {
    link.kind.is_none() && !link.is_loopback() && link.is_up() && link.master.is_none()
}
