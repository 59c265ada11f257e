//! The client's link for IPv6: a socket for routers or one for servers, whichever is asked.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    os::fd::{AsRawFd, RawFd},
};

use kernel::{
    error::{Error, Result},
    link::Dev,
    mac::MacAddr,
    routers::RouterSocket,
};

use crate::v6::client::{Heard, Outgoing};

/// A link to send and receive on.
#[derive(Debug)]
pub enum Wire {
    Routers(RouterSocket),
    Servers { socket: UdpSocket, link: u32 },
}

impl Wire {
    /// In the namespace of the calling thread; `mac` is the link's.
    pub fn to_routers(dev: &Dev, mac: MacAddr) -> Result<Self> {
        Ok(Self::Routers(RouterSocket::open(dev, mac)?))
    }

    /// In the namespace of the calling thread; `own` is the link's link-local address.
    pub fn to_servers(dev: &Dev, own: Ipv6Addr) -> Result<Self> {
        let link = dev.index.into();
        let open = || {
            let socket = UdpSocket::bind(SocketAddrV6::new(own, CLIENT_PORT, 0, link))?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>(socket)
        };
        let failed = |err| Error::new(format!("listen to DHCPv6 on {}", dev.name), err);
        Ok(Self::Servers { socket: open().map_err(failed)?, link })
    }

    pub fn carries(&self, outgoing: &Outgoing) -> bool {
        matches!(
            (self, outgoing),
            (Self::Routers(_), Outgoing::Routers) | (Self::Servers { .. }, Outgoing::Servers(_))
        )
    }

    pub fn send(&self, outgoing: &Outgoing) -> Result<()> {
        match (self, outgoing) {
            (Self::Routers(socket), Outgoing::Routers) => socket.solicit(),
            (Self::Servers { socket, link }, Outgoing::Servers(message)) => {
                let to = SocketAddrV6::new(ALL_SERVERS, SERVER_PORT, 0, *link);
                let sent = socket.send_to(message, to);
                sent.map(drop).map_err(|err| Error::new("send to the DHCPv6 servers", err))
            }
            _ => Err(Error::new("send on a link", io::Error::other("opened for somebody else"))),
        }
    }

    /// None when there is nothing yet.
    pub fn receive(&self) -> Result<Option<Heard>> {
        match self {
            Self::Routers(socket) => {
                Ok(socket.receive()?.map(|(from, message)| Heard::Router { from, message }))
            }
            Self::Servers { socket, .. } => {
                let mut buffer = [0; LONGEST];
                match socket.recv(&mut buffer) {
                    Ok(length) => Ok(Some(Heard::Server(buffer[..length].to_vec()))),
                    Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(None),
                    Err(err) => Err(Error::new("receive from the DHCPv6 servers", err)),
                }
            }
        }
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Routers(socket) => socket.as_raw_fd(),
            Self::Servers { socket, .. } => socket.as_raw_fd(),
        }
    }
}

/// All_DHCP_Relay_Agents_and_Servers (RFC 8415, section 7.1).
const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;
/// What an Ethernet carries in one frame, and more.
const LONGEST: usize = 2048;
