//! What a rule can look at in a packet and its surroundings.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{Expressions, Meta, MetaKey, Payload, Register};

use super::attribute::number;

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
    /// `th sport`
    SourcePort,
    /// `th dport`
    DestinationPort,
    /// `ct mark`
    CtMark,
    /// `ct state`: one bit for each state, see [`super::rule::Rule::any_bit`].
    CtState,
    /// `ct status`: `IPS_*` bits.
    CtStatus,
    /// `ct direction`
    CtDirection,
    /// `ct original ip daddr`: before translation.
    CtOriginalIp4Destination,
    /// `ct original ip6 daddr`: before translation.
    CtOriginalIp6Destination,
    /// `ct original proto-dst`: the port before translation.
    CtOriginalDestinationPort,
    /// `fib daddr type`: what the routing tables say of the destination (`RTN_*`).
    DestinationType,
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
            Self::Iifname | Self::Oifname => 16,
            Self::Ip6Source | Self::Ip6Destination | Self::CtOriginalIp6Destination => 16,
            Self::Ip4Source | Self::Ip4Destination | Self::CtOriginalIp4Destination => 4,
            Self::Mark | Self::CtMark | Self::CtState | Self::CtStatus | Self::DestinationType => 4,
            Self::EtherSource => 6,
            Self::SourcePort | Self::DestinationPort | Self::CtOriginalDestinationPort => 2,
            Self::Nfproto | Self::L4Proto | Self::CtDirection => 1,
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
            Self::SourcePort => self.payload(TRANSPORT_HEADER, 0, to),
            Self::DestinationPort => self.payload(TRANSPORT_HEADER, 2, to),
            Self::CtState => ct(NFT_CT_STATE, to),
            Self::CtDirection => ct(NFT_CT_DIRECTION, to),
            Self::CtStatus => ct(NFT_CT_STATUS, to),
            Self::CtMark => ct(NFT_CT_MARK, to),
            Self::CtOriginalIp4Destination => ct_original(NFT_CT_DST_IP, to),
            Self::CtOriginalIp6Destination => ct_original(NFT_CT_DST_IP6, to),
            Self::CtOriginalDestinationPort => ct_original(NFT_CT_PROTO_DST, to),
            Self::DestinationType => fib_destination_type(to),
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

fn ct(key: u32, to: Register) -> Expressions {
    other("ct", vec![number(NFTA_CT_KEY, key), number(NFTA_CT_DREG, to.into())])
}

fn ct_original(key: u32, to: Register) -> Expressions {
    let direction = DefaultNla::new(NFTA_CT_DIRECTION, vec![IP_CT_DIR_ORIGINAL]);
    other("ct", vec![number(NFTA_CT_KEY, key), number(NFTA_CT_DREG, to.into()), direction])
}

fn fib_destination_type(to: Register) -> Expressions {
    let attributes = vec![
        number(NFTA_FIB_DREG, to.into()),
        number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE),
        number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR),
    ];
    other("fib", attributes)
}

pub(crate) fn other(name: &str, attributes: Vec<DefaultNla>) -> Expressions {
    Expressions::Other { expression_type: name.to_owned(), attributes }
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
/// `enum nft_ct_keys` and `enum nft_ct_attributes`
const NFT_CT_STATE: u32 = 0;
const NFT_CT_DIRECTION: u32 = 1;
const NFT_CT_STATUS: u32 = 2;
pub(crate) const NFT_CT_MARK: u32 = 3;
const NFT_CT_PROTO_DST: u32 = 12;
const NFT_CT_DST_IP: u32 = 20;
const NFT_CT_DST_IP6: u32 = 22;
const NFTA_CT_DREG: u16 = 1;
pub(crate) const NFTA_CT_KEY: u16 = 2;
const NFTA_CT_DIRECTION: u16 = 3;
pub(crate) const NFTA_CT_SREG: u16 = 4;
const IP_CT_DIR_ORIGINAL: u8 = 0;
/// `enum nft_fib_attributes`, `enum nft_fib_result`, `enum nft_fib_flags`
const NFTA_FIB_DREG: u16 = 1;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
const NFTA_FIB_F_DADDR: u32 = 1 << 1;
