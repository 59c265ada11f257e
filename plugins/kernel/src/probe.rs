//! Asking a link whether somebody has an IPv4 address already (RFC 5227). IPv6 does it by itself.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacketSlice, EtherType, Ethernet2Header, SlicedPacket};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
    },
};

use crate::{
    error::{Error, Result},
    link::{Dev, LinkIndex},
    mac::MacAddr,
};

/// Sends ARP probes for `address` from `mac` on a link of the namespace of the calling thread, and listens: who answers, or
/// asks for the same address, has it or is about to. Waits about a second; RFC 5227 would have up to seven, which is made
/// for links that are slow to come up.
pub fn owner(dev: &Dev, mac: MacAddr, address: Ipv4Addr) -> Result<Option<MacAddr>> {
    let probe = || -> io::Result<Option<MacAddr>> {
        let link = link_address(dev.index)?;
        let packet =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
        bind(packet.as_raw_fd(), &link)?;
        for _ in 0..PROBES {
            if let Some(owner) = ask(&packet, &link, mac, address)? {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    };
    probe().map_err(|err| Error::new(format!("probe for {address} on {}", dev.name), err))
}

fn ask(packet: &OwnedFd, link: &LinkAddr, mac: MacAddr, address: Ipv4Addr) -> io::Result<Option<MacAddr>> {
    let probe = arp_frame(mac, Ipv4Addr::UNSPECIFIED, address);
    sendto(packet.as_raw_fd(), &probe, link, MsgFlags::empty())?;
    let deadline = Instant::now() + INTERVAL;
    let mut frame = [0; FRAME];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(packet.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(err) => return Err(err.into()),
        }
        let length = recv(packet.as_raw_fd(), &mut frame, MsgFlags::empty())?;
        if let Some(owner) = claimed_by(&frame[..length.min(FRAME)], address).filter(|owner| *owner != mac) {
            return Ok(Some(owner));
        }
    }
}

/// Where to send by link index: what `getifaddrs` makes of a link is such an address already, and nothing else makes
/// one without `unsafe`. It lists all links, so this is for a container's namespace, not for a host with thousands.
pub(crate) fn link_address(index: LinkIndex) -> io::Result<LinkAddr> {
    let wanted = usize::try_from(u32::from(index)).map_err(io::Error::other)?;
    let links = getifaddrs()?.filter_map(|entry| entry.address?.as_link_addr().copied());
    let mut found = links.filter(|address| address.ifindex() == wanted);
    found.next().ok_or_else(|| Errno::ENODEV.into())
}

/// An ARP request for `target`, to everybody.
fn arp_frame(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let header =
        Ethernet2Header { source: mac.0, destination: MacAddr::BROADCAST.0, ether_type: EtherType::ARP };
    let arp = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: mac.0,
        sender_ipv4: sender.octets(),
        target_mac: [0; 6],
        target_ipv4: target.octets(),
    };
    [&header.to_bytes()[..], &arp.to_bytes()[..]].concat()
}

/// The sender of a frame that claims `address`: an ARP packet sent from it, or another's probe for it.
fn claimed_by(frame: &[u8], address: Ipv4Addr) -> Option<MacAddr> {
    let sliced = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(etherparse::NetSlice::Arp(arp)) = sliced.net else { return None };
    let (sender, of, to) = parts(&arp)?;
    let probes = of.is_unspecified() && to == address && arp.operation() == ArpOperation::REQUEST;
    (of == address || probes).then_some(sender)
}

fn parts(arp: &ArpPacketSlice<'_>) -> Option<(MacAddr, Ipv4Addr, Ipv4Addr)> {
    if arp.proto_addr_type() != EtherType::IPV4 {
        return None;
    }
    let v4 = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from);
    let sender = MacAddr(arp.sender_hw_addr().try_into().ok()?);
    Some((sender, v4(arp.sender_protocol_addr())?, v4(arp.target_protocol_addr())?))
}

const PROBES: u32 = 3;
const INTERVAL: Duration = Duration::from_millis(350);
/// Ethernet and ARP, with room.
const FRAME: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims() {
        let (other, ours) = (MacAddr([2, 0, 0, 0, 0, 9]), Ipv4Addr::new(10, 1, 0, 7));
        let elsewhere = Ipv4Addr::new(10, 1, 0, 8);
        let check = |sender, target, expected| {
            assert_eq!(claimed_by(&arp_frame(other, sender, target), ours), expected, "{sender} {target}");
        };
        check(ours, elsewhere, Some(other));
        check(ours, ours, Some(other));
        check(Ipv4Addr::UNSPECIFIED, ours, Some(other));
        check(elsewhere, ours, None);
        check(Ipv4Addr::UNSPECIFIED, elsewhere, None);
        assert_eq!(claimed_by(&[0; 20], ours), None);
    }
}
