//! Asking the routers of a link who they are, and hearing what they say (RFC 4861, section 6). Knows nothing of what they
//! say.

use std::{
    io::{self, ErrorKind, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsRawFd, RawFd},
};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    error::{Error, Result},
    link::Dev,
    mac::MacAddr,
};

/// A socket for the ICMPv6 of one link. It never blocks, and keeps its namespace alive.
#[derive(Debug)]
pub struct RouterSocket {
    socket: Socket,
    link: u32,
    mac: MacAddr,
}

impl RouterSocket {
    /// Opens it for a link of the namespace of the calling thread, which has `mac`.
    pub fn open(dev: &Dev, mac: MacAddr) -> Result<Self> {
        let link = dev.index.into();
        let open = || -> io::Result<Self> {
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
            socket.set_nonblocking(true)?;
            socket.bind_device(Some(dev.name.as_bytes()))?;
            socket.set_multicast_if_v6(link)?;
            // A router answers, and is believed, only over no other.
            socket.set_multicast_hops_v6(NEVER_FORWARDED)?;
            socket.set_recv_hoplimit_v6(true)?;
            Ok(Self { socket, link, mac })
        };
        open().map_err(|err| Error::new(format!("listen to routers on {}", dev.name), err))
    }

    /// Sends a router solicitation to all routers, from the link-local address if there is one. A link that is down is an
    /// error.
    pub fn solicit(&self) -> Result<()> {
        let source = [&[SOURCE_LINK_LAYER, 1][..], &self.mac.0].concat();
        // The kernel puts in the checksum.
        let message = [&[SOLICITATION, 0, 0, 0, 0, 0, 0, 0][..], &source].concat();
        let to = SocketAddrV6::new(ALL_ROUTERS, 0, 0, self.link).into();
        self.socket.send_to(&message, &to).map(drop).map_err(|err| Error::new("solicit routers", err))
    }

    /// The next ICMPv6 message of at most 2048 bytes that no router forwarded, and who sent it; none when there is none yet.
    pub fn receive(&self) -> Result<Option<(Ipv6Addr, Vec<u8>)>> {
        let mut buffer = [0; LONGEST];
        let mut control = nix::cmsg_space!(i32);
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let fd = self.socket.as_raw_fd();
            let received = recvmsg::<SockaddrIn6>(fd, &mut parts, Some(&mut control), MsgFlags::empty());
            let (length, from, hops) = match received.map_err(io::Error::from) {
                Ok(message) => {
                    let hops = message.cmsgs().ok().and_then(|mut all| {
                        all.find_map(|cmsg| match cmsg {
                            ControlMessageOwned::Ipv6HopLimit(hops) => Some(hops),
                            _ => None,
                        })
                    });
                    (message.bytes, message.address.map(|address| address.ip()), hops)
                }
                Err(err) if err.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(err) if err.kind() == ErrorKind::Interrupted => continue,
                Err(err) => return Err(Error::new("receive from routers", err)),
            };
            if let (Some(from), Some(NEVER_FORWARDED_RECEIVED)) = (from, hops) {
                return Ok(Some((from, buffer[..length].to_vec())));
            }
        }
    }
}

impl AsRawFd for RouterSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const SOLICITATION: u8 = 133;
/// The option, of eight bytes.
const SOURCE_LINK_LAYER: u8 = 1;
const NEVER_FORWARDED: u32 = 255;
const NEVER_FORWARDED_RECEIVED: i32 = 255;
const LONGEST: usize = 2048;
