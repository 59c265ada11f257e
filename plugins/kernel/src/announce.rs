//! Telling the neighbours on a link whose address this is now, so that nobody goes on sending to its last owner.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
};

use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, Icmpv6Type, PacketBuilder,
    icmpv6::NeighborAdvertisementHeader,
};
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, socket},
};

use crate::{
    error::{Error, Result},
    link::{Dev, LinkIndex},
    mac::MacAddr,
};

/// Announces that `addresses` are at `mac`, on a link of the namespace of the calling thread: an ARP announcement
/// (RFC 5227, section 3) for IPv4, an unsolicited neighbour advertisement (RFC 4861, section 7.2.6) for IPv6, one of
/// each. A link that is down is an error; one whose other end does not listen yet loses them silently.
pub fn announce(dev: &Dev, mac: MacAddr, addresses: &[IpAddr]) -> Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    let failed = |err: io::Error| Error::new(format!("announce addresses of {}", dev.name), err);
    let send = || -> io::Result<()> {
        let link = link_address(dev.index)?;
        // Protocol 0: to send only.
        let packet = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        for address in addresses {
            let frame = match address {
                IpAddr::V4(v4) => arp_announcement(mac, *v4),
                IpAddr::V6(v6) => neighbour_advertisement(mac, *v6)?,
            };
            sendto(packet.as_raw_fd(), &frame, &link, MsgFlags::empty())?;
        }
        Ok(())
    };
    send().map_err(failed)
}

/// Where to send by link index: what `getifaddrs` makes of a link is such an address already, and nothing else makes
/// one without `unsafe`. It lists all links, so this is for a container's namespace, not for a host with thousands.
pub(crate) fn link_address(index: LinkIndex) -> io::Result<LinkAddr> {
    let wanted = usize::try_from(u32::from(index)).map_err(io::Error::other)?;
    let links = getifaddrs()?.filter_map(|entry| entry.address?.as_link_addr().copied());
    let mut found = links.filter(|address| address.ifindex() == wanted);
    found.next().ok_or_else(|| Errno::ENODEV.into())
}

fn arp_announcement(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    arp_frame(mac, address, address)
}

/// An ARP request for `target`, to everybody.
pub(crate) fn arp_frame(mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
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

fn neighbour_advertisement(mac: MacAddr, address: Ipv6Addr) -> io::Result<Vec<u8>> {
    let kind = NeighborAdvertisementHeader { router: false, solicited: false, r#override: true };
    let target: Vec<u8> =
        address.octets().into_iter().chain(TARGET_LINK_LAYER_ADDRESS).chain(mac.0).collect();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac.0, ALL_NODES_MAC)
        .ipv6(address.octets(), ALL_NODES.octets(), HOP_LIMIT)
        .icmpv6(Icmpv6Type::NeighborAdvertisement(kind))
        .write(&mut frame, &target)
        .map_err(io::Error::other)?;
    Ok(frame)
}

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// Receivers drop what a router may have forwarded (RFC 4861, section 7.1.2).
const HOP_LIMIT: u8 = 255;
/// Option 2, one unit of eight bytes (RFC 4861, section 4.6.1).
const TARGET_LINK_LAYER_ADDRESS: [u8; 2] = [2, 1];

#[cfg(test)]
mod tests {
    use super::{arp_announcement, neighbour_advertisement};
    use crate::mac::MacAddr;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

    #[test]
    fn lays_out_arp() {
        let frame = arp_announcement(MAC, [10, 1, 0, 7].into());
        let expected = "ffffffffffff020000000007080600010800060400010200000000070a0100070000000000000a010007";
        assert_eq!(hex(&frame), expected);
    }

    #[test]
    fn lays_out_advertisement() {
        let frame = neighbour_advertisement(MAC, "fd00::7".parse().unwrap()).unwrap();
        let (ethernet, rest) = frame.split_at(14);
        assert_eq!(hex(ethernet), "33330000000102000000000786dd");
        let (ip, icmp) = rest.split_at(40);
        assert_eq!(
            hex(ip),
            "6000000000203afffd000000000000000000000000000007ff020000000000000000000000000001"
        );
        assert_eq!(hex(&icmp[..2]), "8800");
        assert_eq!(hex(&icmp[4..]), "20000000fd0000000000000000000000000000070201020000000007");
        assert_eq!(checksum(ip, icmp), 0xffff);
    }

    /// RFC 4443, section 2.3: the sum over pseudo header and message, checksum included, is all ones.
    fn checksum(ip: &[u8], icmp: &[u8]) -> u32 {
        let length = u8::try_from(icmp.len()).unwrap();
        let covered = [&ip[8..40], &[0, 0, 0, length, 0, 0, 0, 58], icmp].concat();
        let sum: u32 = covered.chunks(2).map(|pair| u32::from(pair[0]) * 256 + u32::from(pair[1])).sum();
        (sum & 0xffff) + (sum >> 16)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
