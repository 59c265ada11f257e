//! The values that keys and data of sets and maps are made of, in the bytes the kernel compares and with the type
//! numbers by which `nft list` knows how to print them.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;

use crate::mac::MacAddr;

/// A data type of nft userspace: `enum datatypes` in nftables' include/datatype.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `ipv4_addr`
    Ip4,
    /// `ipv6_addr`
    Ip6,
    /// `ether_addr`
    Ether,
    /// `inet_proto`
    Protocol,
    /// `inet_service`
    Port,
    /// `mark`
    Mark,
    /// `ifname`
    Ifname,
    /// `verdict`: only alone, and only as data of a map.
    Verdict,
}

/// One value; several of them, in the order of a set's types, are a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// An address of either family.
    Ip(IpAddr),
    /// All addresses of a network; only in interval sets.
    Network(IpNetwork),
    /// An Ethernet address.
    Mac(MacAddr),
    /// An IP protocol number.
    Protocol(u8),
    /// A transport port.
    Port(u16),
    /// A packet or conntrack mark.
    Mark(u32),
    /// An interface name, at most 15 bytes: longer ones are cut.
    Ifname(String),
}

impl Type {
    /// Bytes of a value, without padding.
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Ip4 | Self::Mark | Self::Verdict => 4,
            Self::Ip6 | Self::Ifname => 16,
            Self::Ether => 6,
            Self::Protocol => 1,
            Self::Port => 2,
        }
    }

    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Verdict => NFT_DATA_VERDICT,
            Self::Ip4 => 7,
            Self::Ip6 => 8,
            Self::Ether => 9,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Mark => 19,
            Self::Ifname => 41,
        }
    }
}

/// The type number of a concatenation: six bits for each part (TYPE_BITS), the first part highest. There is room for
/// five.
pub(crate) fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, part| number << 6 | part.number())
}

/// Bytes of a key; in a concatenation every part fills whole 32-bit registers.
pub(crate) fn key_len(types: &[Type]) -> usize {
    match types {
        [single] => single.len(),
        parts => parts.iter().map(|part| part.len().next_multiple_of(REGISTER)).sum(),
    }
}

/// The bytes of a key, of the first addresses where it has networks.
pub(crate) fn first(key: &[Value]) -> Vec<u8> {
    concatenate(key, Value::first)
}

/// The bytes of a key, of the last addresses where it has networks.
pub(crate) fn last(key: &[Value]) -> Vec<u8> {
    concatenate(key, Value::last)
}

fn concatenate(key: &[Value], bytes: impl Fn(&Value) -> Vec<u8>) -> Vec<u8> {
    if let [single] = key {
        return bytes(single);
    }
    let mut all = Vec::new();
    for part in key {
        all.extend(bytes(part));
        all.resize(all.len().next_multiple_of(REGISTER), 0);
    }
    all
}

/// The values in a key that the kernel sent; `None` when it does not have the length of the types.
pub(crate) fn decode(types: &[Type], mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::with_capacity(types.len());
    for part in types {
        values.push(part.decode(bytes.get(..part.len())?)?);
        bytes = bytes.get(part.len().next_multiple_of(REGISTER)..).unwrap_or_default();
    }
    Some(values)
}

impl Type {
    fn decode(self, bytes: &[u8]) -> Option<Value> {
        Some(match self {
            Self::Ip4 => Value::Ip(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
            Self::Ip6 => Value::Ip(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
            Self::Ether => Value::Mac(MacAddr(bytes.try_into().ok()?)),
            Self::Protocol => Value::Protocol(*bytes.first()?),
            Self::Port => Value::Port(u16::from_be_bytes(bytes.try_into().ok()?)),
            Self::Mark => Value::Mark(u32::from_ne_bytes(bytes.try_into().ok()?)),
            Self::Ifname => {
                let name = bytes.split(|&byte| byte == 0).next()?;
                Value::Ifname(String::from_utf8_lossy(name).into_owned())
            }
            Self::Verdict => return None,
        })
    }
}

impl Value {
    pub(crate) fn first(&self) -> Vec<u8> {
        match self {
            Self::Ip(address) => octets(*address),
            Self::Network(network) => octets(network.network()),
            Self::Mac(mac) => mac.0.to_vec(),
            Self::Protocol(number) => vec![*number],
            Self::Port(port) => port.to_be_bytes().to_vec(),
            Self::Mark(mark) => mark.to_ne_bytes().to_vec(),
            Self::Ifname(name) => {
                let mut bytes = name.as_bytes().to_vec();
                bytes.truncate(IFNAMSIZ - 1);
                bytes.resize(IFNAMSIZ, 0);
                bytes
            }
        }
    }

    fn last(&self) -> Vec<u8> {
        match self {
            Self::Network(network) => octets(network.broadcast()),
            value => value.first(),
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Network(network) => write!(f, "{network}"),
            Self::Mac(mac) => write!(f, "{mac}"),
            Self::Protocol(number) => write!(f, "{number}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
            Self::Ifname(name) => write!(f, "{name}"),
        }
    }
}

/// A key as `nft` writes it: `cni0 . 10.1.0.5`.
pub(crate) fn display(key: &[Value]) -> String {
    key.iter().map(Value::to_string).collect::<Vec<_>>().join(" . ")
}

/// A register holds four bytes.
pub(crate) const REGISTER: usize = 4;
const IFNAMSIZ: usize = 16;
const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
