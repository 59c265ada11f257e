//! The IPv6 link-local address of an interface of the host through which it routes to containers.

use ipnetwork::{IpNetwork, Ipv6Network};
use kernel::{
    address::{self, Dad},
    link::Dev,
    mac::MacAddr,
    netlink::Request,
};

/// The requests that make the link-local address of `dev`, which is up, usable at once.
///
/// The kernel asks for the neighbours of packets that it forwards from that address, and while duplicate address detection
/// runs, for a second or two, it asks not at all (`ndisc_solicit`, net/ipv6/ndisc.c): what comes for a new container in the
/// meantime is lost. Nobody but containers with addresses of their own is on this link.
///
/// Others may do the same at the same time: each request is content with what it finds done.
pub fn usable_at_once(dev: &Dev, mac: MacAddr) -> [Request; 2] {
    // Whether the kernel has made it yet depends on the carrier.
    let address = IpNetwork::V6(Ipv6Network::new(mac.link_local(), 64).expect("64 is a prefix length"));
    [address::remove(dev, address), address::add(dev, address, Dad::Skip).ok_if_exists()]
}
