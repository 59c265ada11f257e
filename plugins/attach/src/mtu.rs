//! The MTU that the way out of the host allows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kernel::{
    error::Result,
    link,
    netlink::Netlink,
    route::{self, Family},
};

/// The MTU of the default route's link, of IPv4 or else of IPv6; `None` without a default route.
pub fn of_default_route(host: &mut Netlink) -> Result<Option<u32>> {
    for (family, outside) in [(Family::V4, OUTSIDE_V4), (Family::V6, OUTSIDE_V6)] {
        // One look-up costs the same however many routes there are.
        let link = match route::lookup(host, outside) {
            Ok(route) if route.gateway.is_some() => route.dev,
            Ok(_) => route::default_link(host, family)?,
            Err(_) => None,
        };
        if let Some(index) = link {
            return link::by_index(host, index).map(|link| Some(link.mtu));
        }
    }
    Ok(None)
}

/// Addresses for documentation (RFC 5737, RFC 3849), which nothing but a default route should lead to.
const OUTSIDE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OUTSIDE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
