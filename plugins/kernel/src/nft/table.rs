//! Tables, chains, sets and maps: what is made once and then refers to itself by name. Knows no rule and no element.

use netlink_packet_netfilter::{
    NetfilterProtoFamily,
    nftables::{
        ChainAttribute, Hook as HookAttribute, HookNumber, SetAttribute, SetDescription, SetFlags,
        TableAttribute,
    },
};

use super::{
    attribute::{nested, number},
    value::{Type, key_len, type_number},
};

/// The packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames on a bridge.
    Bridge,
}

/// A table by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table<'a> {
    /// Family of its packets.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
}

/// A chain; `base` is what hooks it into the kernel's path of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    /// The table that holds it.
    pub table: Table<'a>,
    /// Its name.
    pub name: &'a str,
    /// `None` for a chain that is only jumped to.
    pub base: Option<Base>,
}

/// Where and when a base chain runs. Its policy is to accept: a chain of ours never drops what no rule of it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// What its rules may do.
    pub kind: ChainKind,
    /// The point in the packet's path.
    pub hook: Hook,
    /// Order among the chains of a hook, lowest first.
    pub priority: i32,
}

/// The type of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// May accept and drop.
    Filter,
    /// May translate addresses; sees the first packet of a connection.
    Nat,
}

/// A point in the path of a packet (`NF_INET_*`, the same numbers in the bridge family).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// On arrival.
    Prerouting,
    /// Before delivery to this host.
    Input,
    /// Between interfaces.
    Forward,
    /// Sent by this host.
    Output,
    /// Before departure.
    Postrouting,
}

/// A set, or with `data` a map, by its name and types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set<'a> {
    /// The table that holds it.
    pub table: Table<'a>,
    /// Its name.
    pub name: &'a str,
    /// Types of the key; two to five are a concatenation.
    pub key: &'a [Type],
    /// Types of a map's data; empty for a set.
    pub data: &'a [Type],
    /// Whether keys may be networks. Such a set is a tree (one type) or a pipapo (a concatenation), which the kernel
    /// copies whole at each change: for few elements only.
    pub intervals: bool,
}

impl<'a> Table<'a> {
    /// A chain of this table that is only jumped to.
    pub const fn chain(self, name: &'a str) -> Chain<'a> {
        Chain { table: self, name, base: None }
    }

    /// A chain of this table that the kernel runs at a hook.
    pub const fn base_chain(self, name: &'a str, kind: ChainKind, hook: Hook, priority: i32) -> Chain<'a> {
        Chain { table: self, name, base: Some(Base { kind, hook, priority }) }
    }

    /// A set of this table.
    pub const fn set(self, name: &'a str, key: &'a [Type]) -> Set<'a> {
        Set { table: self, name, key, data: &[], intervals: false }
    }

    /// A map of this table.
    pub const fn map(self, name: &'a str, key: &'a [Type], data: &'a [Type]) -> Set<'a> {
        Set { table: self, name, key, data, intervals: false }
    }

    pub(crate) fn attributes(self) -> Vec<TableAttribute> {
        vec![TableAttribute::Name(self.name.to_owned())]
    }
}

impl Chain<'_> {
    pub(crate) fn attributes(self) -> Vec<ChainAttribute> {
        let mut attributes = vec![
            ChainAttribute::Table(self.table.name.to_owned()),
            ChainAttribute::Name(self.name.to_owned()),
        ];
        if let Some(Base { kind, hook, priority }) = self.base {
            attributes.push(ChainAttribute::Hook(vec![
                HookAttribute::Number(HookNumber::Other(hook.number())),
                HookAttribute::Priority(priority.cast_unsigned()),
            ]));
            attributes.push(ChainAttribute::Policy(NF_ACCEPT));
            attributes.push(ChainAttribute::Type(kind.name().to_owned()));
        }
        attributes
    }
}

impl<'a> Set<'a> {
    /// The same set, with networks as keys.
    #[must_use]
    pub const fn of_intervals(self) -> Self {
        Self { intervals: true, ..self }
    }

    /// `id` tells the sets of one batch apart.
    pub(crate) fn attributes(self, id: u32) -> Vec<SetAttribute> {
        let mut flags = SetFlags::empty();
        let mut attributes = vec![
            SetAttribute::Table(self.table.name.to_owned()),
            SetAttribute::Name(self.name.to_owned()),
            SetAttribute::Id(id),
            SetAttribute::KeyType(type_number(self.key)),
            SetAttribute::KeyLen(count(key_len(self.key))),
        ];
        if !self.data.is_empty() {
            flags |= SetFlags::Map;
            attributes.push(SetAttribute::DataType(type_number(self.data)));
            attributes.push(SetAttribute::DataLen(count(key_len(self.data))));
        }
        if self.intervals {
            flags |= SetFlags::Interval;
        }
        if self.intervals && self.key.len() > 1 {
            flags |= SetFlags::Concat;
            attributes.push(SetAttribute::Description(vec![self.fields()]));
        }
        attributes.push(SetAttribute::Flags(flags));
        attributes.push(SetAttribute::UserData(self.byte_orders()));
        attributes
    }

    /// How `nft list` has to read a single value; in a concatenation it knows from the types (libnftnl udata.h).
    fn byte_orders(self) -> Vec<u8> {
        let mut data = Vec::new();
        for (kind, types) in [(KEY_BYTE_ORDER, self.key), (DATA_BYTE_ORDER, self.data)] {
            let [single] = types else { continue };
            let order = match single {
                Type::Verdict => continue,
                Type::Mark | Type::Ifname => HOST_ENDIAN,
                _ => BIG_ENDIAN,
            };
            data.extend([kind, 4]);
            data.extend(order.to_ne_bytes());
        }
        data
    }

    /// Where one part of a concatenation of intervals ends and the next begins.
    fn fields(self) -> SetDescription {
        let field = |part: &Type| nested(NFTA_LIST_ELEM, &[number(NFTA_SET_FIELD_LEN, count(part.len()))]);
        SetDescription::Concat(self.key.iter().map(field).collect())
    }
}

impl From<Family> for NetfilterProtoFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::Inet => Self::Inet,
            Family::Ip => Self::IPv4,
            Family::Ip6 => Self::IPv6,
            Family::Bridge => Self::Bridge,
        }
    }
}

impl std::fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let family = match self.family {
            Family::Inet => "inet",
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Bridge => "bridge",
        };
        write!(f, "{family} {}", self.name)
    }
}

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.table, self.name)
    }
}

impl std::fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.table, self.name)
    }
}

impl Hook {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

impl ChainKind {
    fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("keys have some dozen bytes")
}

const NF_ACCEPT: u32 = 1;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_FIELD_LEN: u16 = 1;
/// NFTNL_UDATA_SET_KEYBYTEORDER, NFTNL_UDATA_SET_DATABYTEORDER; `enum byteorder` of nftables' include/datatype.h
const KEY_BYTE_ORDER: u8 = 0;
const DATA_BYTE_ORDER: u8 = 1;
const HOST_ENDIAN: u32 = 1;
const BIG_ENDIAN: u32 = 2;
