//! What a rule does with what it matched, in nft's words. Knows no condition.

use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey};

use super::{
    attribute::number,
    field::{Field, NFT_CT_MARK, NFTA_CT_KEY, NFTA_CT_SREG, Part, other},
    rule::{Rule, register},
    table::Set,
    value::{REGISTER, Type, Value},
};

impl Rule<'_> {
    /// `counter`
    #[must_use]
    pub fn counter(self) -> Self {
        self.expression(other("counter", vec![]))
    }

    /// `-m conntrack --ctstate` of iptables, in the form that iptables-save reads: a match of x_tables within nf_tables
    /// (nft_compat). `states` are `XT_CONNTRACK_*` bits, see [`super::rule::RELATED`].
    #[must_use]
    pub fn iptables_states(self, states: u16) -> Self {
        // struct xt_conntrack_mtinfo3: addresses, then expiry, protocol and ports, then the flags.
        let mut info = vec![0; CONNTRACK_INFO];
        info[MATCH_FLAGS..][..2].copy_from_slice(&XT_CONNTRACK_STATE.to_ne_bytes());
        info[STATE_MASK..][..2].copy_from_slice(&states.to_ne_bytes());
        let attributes = vec![
            DefaultNla::new(NFTA_MATCH_NAME, b"conntrack\0".to_vec()),
            number(NFTA_MATCH_REV, 3),
            DefaultNla::new(NFTA_MATCH_INFO, info),
        ];
        self.expression(other("match", attributes))
    }

    /// `reject`: answers with "port unreachable" of the packet's IP version.
    #[must_use]
    pub fn reject(self) -> Self {
        let code = DefaultNla::new(NFTA_REJECT_ICMP_CODE, vec![NFT_REJECT_ICMPX_PORT_UNREACH]);
        self.expression(other("reject", vec![number(NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH), code]))
    }

    /// `meta mark set mark or bits`
    #[must_use]
    pub fn set_mark_bits(self, bits: u32) -> Self {
        let set = vec![Meta::Key(MetaKey::Mark), Meta::SourceRegister(register(0))];
        self.load(&[Field::Mark.into()]).bitwise(!bits, bits).expression(Expressions::Meta(set))
    }

    /// `ct mark set ct mark or bits`
    #[must_use]
    pub fn set_ct_mark_bits(self, bits: u32) -> Self {
        let set = vec![number(NFTA_CT_KEY, NFT_CT_MARK), number(NFTA_CT_SREG, register(0).into())];
        self.load(&[Field::CtMark.into()]).bitwise(!bits, bits).expression(other("ct", set))
    }

    /// `masquerade`
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.expression(other("masq", vec![]))
    }

    /// `masquerade fully-random`: with source ports that nobody can guess.
    #[must_use]
    pub fn masquerade_fully_random(self) -> Self {
        self.expression(other("masq", vec![number(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY)]))
    }

    /// `redirect to :port`: to this host itself.
    #[must_use]
    pub fn redirect(self, port: u16) -> Self {
        let to = vec![
            number(NFTA_REDIR_REG_PROTO_MIN, register(0).into()),
            number(NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED),
        ];
        self.immediate(0, &Value::Port(port)).expression(other("redir", to))
    }

    /// `snat ip to address`
    #[must_use]
    pub fn snat(self, address: IpAddr) -> Self {
        self.immediate(0, &Value::Ip(address)).nat(NFT_NAT_SNAT, family(address), vec![])
    }

    /// `dnat ip to address`
    #[must_use]
    pub fn dnat(self, address: IpAddr) -> Self {
        self.immediate(0, &Value::Ip(address)).nat(NFT_NAT_DNAT, family(address), vec![])
    }

    /// `dnat ip to address:port`
    #[must_use]
    pub fn dnat_to_port(self, address: IpAddr, port: u16) -> Self {
        let behind = registers(family(address));
        let more = vec![
            number(NFTA_NAT_REG_PROTO_MIN, register(behind).into()),
            number(NFTA_NAT_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED),
        ];
        let rule = self.immediate(0, &Value::Ip(address)).immediate(behind, &Value::Port(port));
        rule.nat(NFT_NAT_DNAT, family(address), more)
    }

    /// `dnat ip to part . part map @map`, of a map to address and port.
    #[must_use]
    pub fn dnat_map(self, parts: &[Part], map: Set<'_>) -> Self {
        let family = map.data.first().copied().unwrap_or(Type::Ip4);
        let port = number(NFTA_NAT_REG_PROTO_MIN, register(registers(family)).into());
        let found = Lookup::DestinationRegister(register(0));
        self.look_up(parts, map, Some(found)).nat(NFT_NAT_DNAT, family, vec![port])
    }

    fn immediate(self, index: usize, value: &Value) -> Self {
        self.expression(Expressions::Immediate(vec![
            Immediate::DestinationRegister(register(index)),
            Immediate::Data(DataAttribute::Value(value.first())),
        ]))
    }

    /// The address is in the first registers.
    fn nat(self, kind: u32, family: Type, more: Vec<DefaultNla>) -> Self {
        let protocol = if family == Type::Ip6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 };
        let mut attributes = vec![
            number(NFTA_NAT_TYPE, kind),
            number(NFTA_NAT_FAMILY, protocol),
            number(NFTA_NAT_REG_ADDR_MIN, register(0).into()),
        ];
        attributes.extend(more);
        self.expression(other("nat", attributes))
    }
}

fn family(address: IpAddr) -> Type {
    if address.is_ipv4() { Type::Ip4 } else { Type::Ip6 }
}

/// How many of them a value takes.
fn registers(of: Type) -> usize {
    of.len().div_ceil(REGISTER)
}

/// `enum nft_match_attributes`; linux/netfilter/xt_conntrack.h, with the size rounded up to 8 (XT_ALIGN)
const NFTA_MATCH_NAME: u16 = 1;
const NFTA_MATCH_REV: u16 = 2;
const NFTA_MATCH_INFO: u16 = 3;
const CONNTRACK_INFO: usize = 168;
const MATCH_FLAGS: usize = 146;
const STATE_MASK: usize = 150;
const XT_CONNTRACK_STATE: u16 = 1;
/// `enum nft_reject_attributes`, `enum nft_reject_types`, `enum nft_reject_inet_code`
const NFTA_REJECT_TYPE: u16 = 1;
const NFTA_REJECT_ICMP_CODE: u16 = 2;
const NFT_REJECT_ICMPX_UNREACH: u32 = 2;
const NFT_REJECT_ICMPX_PORT_UNREACH: u8 = 1;
/// `enum nft_masq_attributes`, `enum nft_redir_attributes`, `enum nft_nat_attributes`, `enum nft_nat_types`
const NFTA_MASQ_FLAGS: u16 = 1;
const NFTA_REDIR_REG_PROTO_MIN: u16 = 1;
const NFTA_REDIR_FLAGS: u16 = 3;
const NFTA_NAT_TYPE: u16 = 1;
const NFTA_NAT_FAMILY: u16 = 2;
const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
const NFTA_NAT_FLAGS: u16 = 7;
const NFT_NAT_SNAT: u32 = 0;
const NFT_NAT_DNAT: u32 = 1;
/// linux/netfilter/nf_nat.h
const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 1 << 1;
const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 1 << 4;
/// `NFPROTO_*`
const NFPROTO_IPV4: u32 = 2;
const NFPROTO_IPV6: u32 = 10;
