//! Rules: a builder that reads in the order of nft's own syntax.
//!
//! ```
//! # use kernel::nft::{rule::{Field, Rule}, table::{ChainKind, Family, Hook, Table}, value::Type};
//! const TABLE: Table<'_> = Table { family: Family::Inet, name: "example" };
//! let masquerade = TABLE.base_chain("postrouting", ChainKind::Nat, Hook::Postrouting, 100);
//! let containers = TABLE.set("containers", &[Type::Ifname, Type::Ip4]);
//! // iifname . ip saddr @containers ip daddr != 224.0.0.0/4 masquerade
//! Rule::new(masquerade)
//!     .in_set(&[Field::Iifname.into(), Field::Ip4Source.into()], containers)
//!     .not_within(Field::Ip4Destination, "224.0.0.0/4".parse()?)
//!     .masquerade();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What `nft list` would leave unsaid (the test for IPv4 before `ip saddr`) is put in as nft does. A rule that reads
//! wrong here reads wrong there: the tests compare each with what nft makes of the text.

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup,
    Operator, Register, RuleAttribute, Verdict as VerdictCode, VerdictAttribute,
};

pub use super::field::{Field, Part};
use super::{
    comment,
    field::Dependency,
    table::{Chain, Family, Set},
    value::{REGISTER, Value},
};

/// A rule of a chain, not yet sent.
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    pub(crate) chain: Chain<'a>,
    expressions: Vec<ListAttribute<ExpressionAttribute>>,
    /// What this rule has established so far.
    known: Option<Dependency>,
    comment: Option<&'a str>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on behind this hook; later base chains still see it.
    Accept,
    /// Is gone.
    Drop,
    /// Goes on with the next rule.
    Continue,
    /// Goes back to the chain that jumped here; in a base chain to its policy.
    Return,
    /// Goes through another chain and comes back.
    Jump(String),
    /// Goes through another chain and does not come back.
    Goto(String),
}

impl<'a> Rule<'a> {
    /// A rule that matches every packet and does nothing.
    pub fn new(chain: Chain<'a>) -> Self {
        Self { chain, expressions: Vec::new(), known: None, comment: None }
    }

    /// `field value`
    #[must_use]
    pub fn equal(self, field: impl Into<Part>, value: &Value) -> Self {
        self.compare(field.into(), Operator::Equal, value.first())
    }

    /// `field != value`
    #[must_use]
    pub fn not_equal(self, field: impl Into<Part>, value: &Value) -> Self {
        self.compare(field.into(), Operator::NotEqual, value.first())
    }

    /// `field network`
    #[must_use]
    pub fn within(self, field: Field, network: IpNetwork) -> Self {
        self.compare(field.prefix(network.prefix()), Operator::Equal, Value::Network(network).first())
    }

    /// `field "text*"`, or `field != "text*"`: a name that begins so, or does not.
    #[must_use]
    pub fn begins(self, field: Field, text: &str, negated: bool) -> Self {
        let operator = if negated { Operator::NotEqual } else { Operator::Equal };
        self.compare(field.into(), operator, text.as_bytes().to_vec())
    }

    /// `field != network`
    #[must_use]
    pub fn not_within(self, field: Field, network: IpNetwork) -> Self {
        self.compare(field.prefix(network.prefix()), Operator::NotEqual, Value::Network(network).first())
    }

    /// `part . part @set`
    #[must_use]
    pub fn in_set(self, parts: &[Part], set: Set<'_>) -> Self {
        self.look_up(parts, set, None)
    }

    /// `part . part != @set`
    #[must_use]
    pub fn not_in_set(self, parts: &[Part], set: Set<'_>) -> Self {
        self.look_up(parts, set, Some(Lookup::Flags(NFT_LOOKUP_F_INV)))
    }

    /// `part . part vmap @map`
    #[must_use]
    pub fn verdict_map(self, parts: &[Part], map: Set<'_>) -> Self {
        self.look_up(parts, map, Some(Lookup::DestinationRegister(Register::Verdict)))
    }

    /// `ct state established,related`: belongs to a connection that was let through before.
    #[must_use]
    pub fn established(self) -> Self {
        self.any_bit(Field::CtState, CT_ESTABLISHED | CT_RELATED)
    }

    /// `ct state invalid`
    #[must_use]
    pub fn invalid(self) -> Self {
        self.any_bit(Field::CtState, CT_INVALID)
    }

    /// `ct status dnat`: its connection's destination was translated.
    #[must_use]
    pub fn translated(self) -> Self {
        self.any_bit(Field::CtStatus, IPS_DST_NAT)
    }

    /// `ct direction original`: no answer.
    #[must_use]
    pub fn original_direction(self) -> Self {
        self.compare(Field::CtDirection.into(), Operator::Equal, vec![0])
    }

    /// `fib daddr type local`: sent to an address of this host.
    #[must_use]
    pub fn to_this_host(self) -> Self {
        self.compare(Field::DestinationType.into(), Operator::Equal, RTN_LOCAL.to_ne_bytes().to_vec())
    }

    /// `field bit,bit`: at least one of the bits is set.
    #[must_use]
    pub fn any_bit(self, field: Field, bits: u32) -> Self {
        self.load(&[field.into()]).bitwise(bits, 0).compare_register(Operator::NotEqual, vec![0; REGISTER])
    }

    /// `field & bits == bits`: all of the bits are set.
    #[must_use]
    pub fn all_bits(self, field: Field, bits: u32) -> Self {
        let value = bits.to_ne_bytes().to_vec();
        self.load(&[field.into()]).bitwise(bits, 0).compare_register(Operator::Equal, value)
    }

    /// `accept`, `drop`, `return`, `jump chain`, ...
    #[must_use]
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.expression(Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(verdict.attribute()),
        ]))
    }

    /// `comment "text"`
    #[must_use]
    pub fn commented(self, text: &'a str) -> Self {
        Self { comment: Some(text), ..self }
    }

    fn compare(self, part: Part, operator: Operator, value: Vec<u8>) -> Self {
        self.load(&[part]).compare_register(operator, value)
    }

    fn compare_register(self, operator: Operator, value: Vec<u8>) -> Self {
        self.expression(Expressions::Cmp(vec![
            Cmp::SourceRegister(register(0)),
            Cmp::Op(operator),
            Cmp::Data(DataAttribute::Value(value)),
        ]))
    }

    /// `& mask ^ xor` on the first register, in host order.
    pub(super) fn bitwise(self, mask: u32, xor: u32) -> Self {
        self.expression(Expressions::Bitwise(vec![
            Bitwise::SourceRegister(register(0)),
            Bitwise::DestinationRegister(register(0)),
            Bitwise::Length(4),
            Bitwise::Mask(DataAttribute::Value(mask.to_ne_bytes().to_vec())),
            Bitwise::Xor(DataAttribute::Value(xor.to_ne_bytes().to_vec())),
        ]))
    }

    pub(super) fn look_up(self, parts: &[Part], set: Set<'_>, how: Option<Lookup>) -> Self {
        let mut lookup = vec![Lookup::Set(set.name.to_owned()), Lookup::SourceRegister(register(0))];
        lookup.extend(how);
        self.load(parts).expression(Expressions::Lookup(lookup))
    }

    /// Puts the parts into registers, each behind the one before.
    pub(super) fn load(mut self, parts: &[Part]) -> Self {
        for part in parts {
            self = self.depend(part.field.dependency());
        }
        let mut next = 0;
        for part in parts {
            let length = part.field.len();
            self = self.expression(part.field.load(register(next)));
            if let Some(mask) = part.mask() {
                self = self.expression(Expressions::Bitwise(vec![
                    Bitwise::SourceRegister(register(next)),
                    Bitwise::DestinationRegister(register(next)),
                    Bitwise::Length(u32::try_from(length).unwrap_or(u32::MAX)),
                    Bitwise::Xor(DataAttribute::Value(vec![0; mask.len()])),
                    Bitwise::Mask(DataAttribute::Value(mask)),
                ]));
            }
            next += length.div_ceil(REGISTER);
        }
        self
    }

    /// Tests once what a field takes for granted, unless the table's family does.
    fn depend(self, dependency: Option<Dependency>) -> Self {
        let Some(dependency) = dependency.filter(|_| self.chain.table.family == Family::Inet) else {
            return self;
        };
        if self.known == Some(dependency) {
            return self;
        }
        let mut rule = self.compare(Field::Nfproto.into(), Operator::Equal, vec![dependency.nfproto()]);
        rule.known = Some(dependency);
        rule
    }

    pub(super) fn expression(mut self, expression: Expressions) -> Self {
        self.expressions.push(expression.into());
        self
    }

    pub(crate) fn attributes(self) -> Vec<RuleAttribute> {
        let mut attributes = vec![
            RuleAttribute::Table(self.chain.table.name.to_owned()),
            RuleAttribute::Chain(self.chain.name.to_owned()),
            RuleAttribute::Expressions(self.expressions),
        ];
        attributes.extend(self.comment.map(|text| RuleAttribute::UserData(comment::encode(text))));
        attributes
    }
}

impl Verdict {
    pub(crate) fn code(&self) -> VerdictCode {
        match self {
            Self::Drop => VerdictCode::Other(NF_DROP),
            Self::Accept => VerdictCode::Other(NF_ACCEPT),
            Self::Continue => VerdictCode::Continue,
            Self::Return => VerdictCode::Return,
            Self::Jump(_) => VerdictCode::Jump,
            Self::Goto(_) => VerdictCode::Goto,
        }
    }

    pub(crate) fn parse(attributes: &[VerdictAttribute]) -> Option<Self> {
        let chain = attributes.iter().find_map(|attribute| match attribute {
            VerdictAttribute::Chain(chain) => Some(chain.clone()),
            _ => None,
        });
        let code = attributes.iter().find_map(|attribute| match attribute {
            VerdictAttribute::Code(code) => Some(*code),
            _ => None,
        });
        Some(match code? {
            VerdictCode::Other(NF_DROP) => Self::Drop,
            VerdictCode::Other(NF_ACCEPT) => Self::Accept,
            VerdictCode::Continue => Self::Continue,
            VerdictCode::Return => Self::Return,
            VerdictCode::Jump => Self::Jump(chain?),
            VerdictCode::Goto => Self::Goto(chain?),
            _ => return None,
        })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Continue => f.write_str("continue"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// The 32-bit register of this number; 16 of them are there (NFT_REG32_COUNT).
pub(super) fn register(index: usize) -> Register {
    Register::from(NFT_REG32_00 + u32::try_from(index).unwrap_or(u32::MAX - NFT_REG32_00))
}

/// `XT_CONNTRACK_STATE_BIT` of `IP_CT_ESTABLISHED` and `IP_CT_RELATED`, and `XT_CONNTRACK_STATE_DNAT`: for
/// [`Rule::iptables_states`].
pub const ESTABLISHED: u16 = 1 << 1;
/// See [`ESTABLISHED`].
pub const RELATED: u16 = 1 << 2;
/// See [`ESTABLISHED`].
pub const DNAT: u16 = 1 << 7;

const NFT_REG32_00: u32 = 8;
const NFT_LOOKUP_F_INV: u32 = 1;
/// NF_CT_STATE_BIT, NF_CT_STATE_INVALID_BIT; `enum ip_conntrack_status`; linux/rtnetlink.h
const CT_INVALID: u32 = 1 << 0;
const CT_ESTABLISHED: u32 = 1 << 1;
const CT_RELATED: u32 = 1 << 2;
const IPS_DST_NAT: u32 = 1 << 5;
const RTN_LOCAL: u32 = 2;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
