//! Router advertisements: how addresses are had on the link, and who resolves names there. Knows no state.

use std::net::Ipv6Addr;

use dhcproto::{
    Decodable, Decoder,
    v6::{DhcpOption, OptionCode},
};
use etherparse::{
    Icmpv6Slice, Icmpv6Type,
    icmpv6::{Icmpv6PayloadSlice, NdpOptionSlice, UnknownNdpOptionSlice},
};
use ipnetwork::Ipv6Network;

use crate::v6::message::names;

/// What a router says, as far as a client is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Advert {
    /// Its address, if it is a default router.
    pub router: Option<Ipv6Addr>,
    /// A DHCPv6 server grants addresses.
    pub managed: bool,
    /// A DHCPv6 server tells the rest.
    pub other: bool,
    pub prefixes: Vec<Prefix>,
    pub name_servers: Vec<Ipv6Addr>,
    pub search: Vec<String>,
}

/// RFC 4861, section 4.6.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    pub network: Ipv6Network,
    pub on_link: bool,
    /// Whoever likes may have an address in it.
    pub autonomous: bool,
    /// Seconds; `u32::MAX` is for ever.
    pub valid: u32,
}

impl Advert {
    /// An ICMPv6 message that came from `from` over no router; none of what is no advertisement.
    pub fn parse(message: &[u8], from: Ipv6Addr) -> Option<Self> {
        let icmp = Icmpv6Slice::from_slice(message).ok()?;
        let (Icmpv6Type::RouterAdvertisement(header), Ok(Icmpv6PayloadSlice::RouterAdvertisement(body))) =
            (icmp.icmp_type(), icmp.payload_slice())
        else {
            return None;
        };
        if !from.is_unicast_link_local() {
            return None;
        }
        let mut advert = Self {
            router: (header.router_lifetime > 0).then_some(from),
            managed: header.managed_address_config,
            other: header.other_config,
            ..Self::default()
        };
        for option in body.options_iterator() {
            match option.ok()? {
                NdpOptionSlice::PrefixInformation(info) => {
                    let network = Ipv6Network::new(info.prefix().into(), info.prefix_length()).ok()?;
                    advert.prefixes.push(Prefix {
                        network,
                        on_link: info.on_link(),
                        autonomous: info.autonomous_address_configuration(),
                        valid: info.valid_lifetime(),
                    });
                }
                NdpOptionSlice::Unknown(option) => advert.resolver(&option),
                _ => {}
            }
        }
        Some(advert)
    }

    /// RFC 8106, sections 5.1 and 5.2: two bytes of kind and length, two of nothing, four of lifetime.
    fn resolver(&mut self, option: &UnknownNdpOptionSlice<'_>) {
        let bytes = option.as_bytes();
        let (Some(&kind), Some(lifetime), Some(value)) = (bytes.first(), bytes.get(4..8), bytes.get(8..))
        else {
            return;
        };
        if lifetime == [0; 4] {
            return;
        }
        match kind {
            NAME_SERVERS => {
                let (addresses, _) = value.as_chunks::<16>();
                self.name_servers.extend(addresses.iter().map(|octets| Ipv6Addr::from(*octets)));
            }
            SEARCH => self.search.extend(search(value)),
            _ => {}
        }
    }

    /// The prefix that an address is made from: 64 bits of it, and 64 that tell the interfaces apart.
    pub fn autonomous(&self) -> Option<Prefix> {
        let usable = |prefix: &&Prefix| {
            let network = prefix.network.network();
            prefix.autonomous
                && prefix.valid > 0
                && prefix.network.prefix() == INTERFACE_BITS
                && !network.is_unicast_link_local()
                && !network.is_multicast()
        };
        self.prefixes.iter().find(usable).copied()
    }

    /// The length of the prefix on the link that has `address`; 128 when none has.
    pub fn prefix_length(&self, address: Ipv6Addr) -> u8 {
        let has = |prefix: &&Prefix| prefix.on_link && prefix.valid > 0 && prefix.network.contains(address);
        self.prefixes.iter().find(has).map_or(128, |prefix| prefix.network.prefix())
    }
}

/// The names are written as in DHCPv6, with zeros behind, so that option's decoder serves.
fn search(value: &[u8]) -> Vec<String> {
    let code = u16::from(OptionCode::DomainSearchList).to_be_bytes();
    let Ok(length) = u16::try_from(value.len()) else { return Vec::new() };
    let option = [&code[..], &length.to_be_bytes(), value].concat();
    match DhcpOption::decode(&mut Decoder::new(&option)) {
        Ok(DhcpOption::DomainSearchList(list)) => names(&list),
        _ => Vec::new(),
    }
}

const NAME_SERVERS: u8 = 25;
const SEARCH: u8 = 31;
/// The kernel makes addresses from no other prefixes either (RFC 4291, section 2.5.1).
const INTERFACE_BITS: u8 = 64;
