//! Sockets of this host that wait for somebody, and whose they are. Knows no connection.

use std::{fs, io, net::IpAddr};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

use crate::error::{Error, Result};

/// A socket that waits: a TCP or SCTP listener, or a UDP socket that is not connected to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// IP protocol number.
    pub protocol: u8,
    /// The unspecified address for a socket that takes every address of the host; `::` is taken to mean IPv4 too, as
    /// it does unless IPV6_V6ONLY is set.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    inode: u32,
}

impl Listener {
    /// Whether what is sent to `address` (the unspecified one: to any of the host) at `port` may be for this socket.
    pub fn takes(&self, protocol: u8, address: IpAddr, port: u16) -> bool {
        let dual = self.address.is_ipv6() && self.address.is_unspecified();
        (self.protocol, self.port) == (protocol, port)
            && (dual || self.address.is_ipv4() == address.is_ipv4())
            && (self.address == address || self.address.is_unspecified() || address.is_unspecified())
    }

    /// The process that holds it, as number and name. Looks into every process: for error messages. `None` when it
    /// has ended, or belongs to the kernel.
    pub fn process(&self) -> Option<(u32, String)> {
        let wanted = format!("socket:[{}]", self.inode);
        let processes = fs::read_dir("/proc").ok()?.flatten();
        for process in processes {
            let Some(number) = process.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let files = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
            let mut links = files.filter_map(|file| fs::read_link(file.path()).ok());
            if links.any(|link| link.to_str() == Some(wanted.as_str())) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some((number, name.trim_end().to_owned()));
            }
        }
        None
    }
}

/// The sockets of the calling thread's namespace that wait by one protocol. The kernel walks its listeners, not its
/// connections. None where the kernel can't tell (inet_diag is a module of its own): then nobody knows.
pub fn list(protocol: u8) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for family in [AF_INET, AF_INET6] {
        match dump(protocol, family) {
            Ok(found) => listeners.extend(found),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(Error::new(format!("list sockets of protocol {protocol}"), err)),
        }
    }
    Ok(listeners)
}

fn dump(protocol: u8, family: u8) -> io::Result<Vec<Listener>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(protocol, family), 0)?;
    let (mut listeners, mut buffer) = (Vec::new(), Vec::with_capacity(RECEIVE));
    loop {
        buffer.clear();
        match socket.recv(&mut buffer, 0) {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                .map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err.to_string()))?;
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(listeners),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => {
                    let SocketId { source_port, source_address, .. } = response.header.socket_id;
                    listeners.push(Listener {
                        protocol,
                        address: source_address.to_canonical(),
                        port: source_port,
                        inode: response.header.inode,
                    });
                }
                _ => {}
            }
        }
    }
}

fn request(protocol: u8, family: u8) -> Vec<u8> {
    // A UDP socket that waits for anybody is in the state that TCP calls closed (udp_set_default_state).
    let states = if protocol == UDP { StateFlags::CLOSE } else { StateFlags::LISTEN };
    let request = InetRequest {
        family,
        protocol,
        extensions: ExtensionFlags::empty(),
        states,
        socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message =
        NetlinkMessage::new(header, NetlinkPayload::from(SockDiagMessage::InetRequest(request)));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

const UDP: u8 = 17;
const RECEIVE: usize = 32 * 1024;
