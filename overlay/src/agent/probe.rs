//! The probe for checksums that do not arrive: two UDP datagrams that differ in who writes the checksum, to a port of a peer
//! on which nobody listens. Its kernel drops what is damaged, and refuses the rest with an ICMP error. The peer needs no
//! agent for it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use etherparse::UdpHeader;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::UdpSocket, time::timeout};

use crate::machine::offload::Probed;

/// Asks one peer after another, by addresses of theirs behind the tunnel, until one gives an answer.
pub(super) async fn probe(peers: Vec<IpAddr>) -> Probed {
    for peer in peers {
        match ask(peer).await {
            Ok(Probed::Unanswered) => {}
            Ok(found) => return found,
            Err(err) => log::debug!("probe the checksums on the way to {peer}: {err}"),
        }
    }
    Probed::Unanswered
}

async fn ask(peer: IpAddr) -> io::Result<Probed> {
    let any: IpAddr =
        if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // What goes out by it has its checksum left to the device; the errors for both kinds come back to it.
    let plain = UdpSocket::bind((any, 0)).await?;
    plain.connect((peer, PORT)).await?;
    let own = plain.local_addr()?;
    let raw = Socket::new(Domain::for_address(own), Type::RAW, Some(Protocol::UDP))?;
    raw.set_nonblocking(true)?;
    raw.bind(&SocketAddr::new(own.ip(), 0).into())?;
    let whole = datagram(own, peer)?;
    for _ in 0..ROUNDS {
        raw.send_to(&whole, &SocketAddr::new(peer, 0).into())?;
        if !is_refused(&plain).await {
            return Ok(Probed::Unanswered);
        }
        plain.send(PAYLOAD).await?;
        if is_refused(&plain).await {
            return Ok(Probed::Whole);
        }
    }
    Ok(Probed::Broken { peer })
}

async fn is_refused(socket: &UdpSocket) -> bool {
    let answer = timeout(PATIENCE, socket.recv(&mut [0; 1])).await;
    matches!(answer, Ok(Err(err)) if err.kind() == io::ErrorKind::ConnectionRefused)
}

/// The datagram that `plain` sends, with its checksum: what a raw socket sends, no device touches.
fn datagram(own: SocketAddr, peer: IpAddr) -> io::Result<Vec<u8>> {
    let mut header =
        UdpHeader::without_ipv4_checksum(own.port(), PORT, PAYLOAD.len()).map_err(io::Error::other)?;
    let checksum = match (own.ip(), peer) {
        (IpAddr::V4(own), IpAddr::V4(peer)) => {
            header.calc_checksum_ipv4_raw(own.octets(), peer.octets(), PAYLOAD)
        }
        (IpAddr::V6(own), IpAddr::V6(peer)) => {
            header.calc_checksum_ipv6_raw(own.octets(), peer.octets(), PAYLOAD)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return Err(io::Error::other("two families"));
        }
    };
    header.checksum = checksum.map_err(io::Error::other)?;
    Ok([&header.to_bytes()[..], PAYLOAD].concat())
}

const PAYLOAD: &[u8] = b"tenon: does this checksum arrive?";
/// Where traceroute begins, and nobody listens.
const PORT: u16 = 33434;
/// So many in a row are no accident, and fewer than the kernel's burst of ICMP errors (net.ipv4.icmp_ratelimit).
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_millis(500);
