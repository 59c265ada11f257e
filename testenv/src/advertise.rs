//! Router advertisements of the lab's own (RFC 4861, section 4.2), for hosts that learn from them.

use std::io::{self, IoSlice};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendmsg, setsockopt, socket,
    sockopt,
};

use crate::ns::Ns;

/// Type 134, 64 hops, a router for 1800 s, and no option.
const ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// What has crossed a router is no advertisement (section 6.1.2).
const HOPS: i32 = 255;

impl Ns {
    /// Sends one advertisement out of `link`, as a default router of half an hour.
    #[track_caller]
    pub fn advertise(&self, link: &str) {
        self.run(|| advertise(link))
            .unwrap_or_else(|cause| panic!("{}: advertise on {link}: {cause}", self.name()));
    }
}

fn advertise(link: &str) -> io::Result<()> {
    let socket = socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6)?;
    setsockopt(&socket, sockopt::Ipv6MulticastHops, &HOPS)?;
    let to = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES, 0, 0, if_nametoindex(link)?));
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(&ADVERTISEMENT)], &[], MsgFlags::empty(), Some(&to))?;
    Ok(())
}
