//! Telling the neighbours on a link whose address this is now, so that nobody goes on sending to its last owner.
//!
//! The kernel does it, when it is told to and its own address changes: an ARP announcement (RFC 5227, section 3) for each IPv4
//! address, an unsolicited neighbour advertisement (RFC 4861, section 7.2.6) for each IPv6 one. Sending them from here
//! would take a packet socket, and closing one waits for an RCU grace period (`packet_release`, net/packet/af_packet.c):
//! 13 ms, four times what the rest of an attachment takes.

use crate::{
    error::Result,
    link::{self, Dev},
    mac::MacAddr,
    netlink::Request,
    route::Family,
    sysctl,
};

/// Has the kernel announce the IPv6 addresses of a link, from now on and whenever it goes up or gets another MAC address. For
/// the namespace of the calling thread: netlink has no word for it, as it has for IPv4 ([`link::change::Change::arp_notify`]).
pub fn switch_on_v6(dev: &Dev) -> Result<()> {
    sysctl::write(&sysctl::conf(Family::V6, &dev.name, "ndisc_notify"), "1")
}

/// Announces now: gives the link the MAC address that it has (`NETDEV_CHANGEADDR`, in net/ipv4/devinet.c and
/// net/ipv6/ndisc.c). Lost where the link's other end does not listen yet: see [`link::wait_running`].
pub fn now(dev: &Dev, mac: MacAddr) -> Request {
    link::change(dev).mac(mac).request()
}
