//! What a rule can look at in a packet and its surroundings.

use netlink_packet_netfilter::nftables::{Expressions, Meta, MetaKey, Payload, Register};

/// One thing to load, named as nft names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// `iifname`: empty where the packet came from no interface.
    Iifname,
    /// `oifname`
    Oifname,
    /// `meta nfproto`
    Nfproto,
    /// `meta l4proto`
    L4Proto,
    /// `meta mark`
    Mark,
    /// `ip saddr`
    Ip4Source,
    /// `ip daddr`
    Ip4Destination,
    /// `ip6 saddr`
    Ip6Source,
    /// `ip6 daddr`
    Ip6Destination,
    /// `ether saddr`
    EtherSource,
    /// `th dport`
    DestinationPort,
}

/// A field, or the first bits of it: `ip daddr & 255.255.0.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    pub(crate) field: Field,
    prefix: Option<u8>,
}

/// What must be so for a field to mean anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dependency {
    Ip4,
    Ip6,
}

impl Field {
    /// This field with all but its first `bits` bits cleared.
    pub fn prefix(self, bits: u8) -> Part {
        Part { field: self, prefix: (usize::from(bits) < 8 * self.len()).then_some(bits) }
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Self::Iifname | Self::Oifname | Self::Ip6Source | Self::Ip6Destination => 16,
            Self::Nfproto | Self::L4Proto => 1,
            Self::Mark | Self::Ip4Source | Self::Ip4Destination => 4,
            Self::EtherSource => 6,
            Self::DestinationPort => 2,
        }
    }

    pub(crate) fn dependency(self) -> Option<Dependency> {
        match self {
            Self::Ip4Source | Self::Ip4Destination => Some(Dependency::Ip4),
            Self::Ip6Source | Self::Ip6Destination => Some(Dependency::Ip6),
            _ => None,
        }
    }

    pub(crate) fn load(self, to: Register) -> Expressions {
        match self {
            Self::Iifname => meta(MetaKey::Iifname, to),
            Self::Oifname => meta(MetaKey::Oifname, to),
            Self::Nfproto => meta(MetaKey::Nfproto, to),
            Self::L4Proto => meta(MetaKey::L4Proto, to),
            Self::Mark => meta(MetaKey::Mark, to),
            Self::Ip4Source => self.payload(NETWORK_HEADER, 12, to),
            Self::Ip4Destination => self.payload(NETWORK_HEADER, 16, to),
            Self::Ip6Source => self.payload(NETWORK_HEADER, 8, to),
            Self::Ip6Destination => self.payload(NETWORK_HEADER, 24, to),
            Self::EtherSource => self.payload(LINK_HEADER, 6, to),
            Self::DestinationPort => self.payload(TRANSPORT_HEADER, 2, to),
        }
    }

    fn payload(self, base: u32, offset: u32, to: Register) -> Expressions {
        Expressions::Payload(vec![
            Payload::DestinationRegister(to),
            Payload::Base(base),
            Payload::Offset(offset),
            Payload::Len(u32::try_from(self.len()).unwrap_or(u32::MAX)),
        ])
    }
}

fn meta(key: MetaKey, to: Register) -> Expressions {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(to)])
}

impl Part {
    pub(crate) fn mask(self) -> Option<Vec<u8>> {
        let bits = self.prefix?;
        let byte = |index: usize| {
            let ones = usize::from(bits).saturating_sub(8 * index).min(8);
            u8::try_from(0xff00_u16 >> ones & 0xff).unwrap_or_default()
        };
        Some((0..self.field.len()).map(byte).collect())
    }
}

impl From<Field> for Part {
    fn from(field: Field) -> Self {
        Self { field, prefix: None }
    }
}

impl Dependency {
    /// `NFPROTO_*`
    pub(crate) fn nfproto(self) -> u8 {
        match self {
            Self::Ip4 => 2,
            Self::Ip6 => 10,
        }
    }
}

/// `enum nft_payload_bases`
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
