//! Numbers and names that a network is made of, valid by construction. Knows no file format but serde's.

use std::{fmt, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A number that is out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value} is not in {min}..={max}")]
pub struct RangeError {
    what: &'static str,
    value: u32,
    min: u32,
    max: u32,
}

fn within(what: &'static str, value: u32, min: u32, max: u32) -> Result<u32, RangeError> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(RangeError { what, value, min, max }) }
}

/// A VXLAN network identifier (RFC 7348, section 5): 24 bits. 0 is kept out, since tools take it for "none".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

impl Vni {
    /// The identifier of a network that names none: the same on every host, and another for each name (most likely:
    /// two networks of one host with one identifier are refused). Above 4095, where people number by hand.
    pub fn derived(network: &str) -> Self {
        let [a, b, c, ..] = <[u8; 32]>::from(Sha256::digest(network.as_bytes()));
        let hash = u32::from_be_bytes([0, a, b, c]);
        Self(MIN_DERIVED_VNI + hash % (MAX_VNI - MIN_DERIVED_VNI + 1))
    }

    /// The name of the network's device: `ovl<vni>`, at most 11 bytes.
    pub fn device(self) -> String {
        format!("ovl{}", self.0)
    }
}

impl TryFrom<u32> for Vni {
    type Error = RangeError;

    fn try_from(value: u32) -> Result<Self, RangeError> {
        within("VNI", value, 1, MAX_VNI).map(Self)
    }
}

impl From<Vni> for u32 {
    fn from(vni: Vni) -> Self {
        vni.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The largest IP packet of a link, in bytes: 68 (RFC 791, section 3.2) to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Mtu(u32);

impl TryFrom<u32> for Mtu {
    type Error = RangeError;

    fn try_from(value: u32) -> Result<Self, RangeError> {
        within("MTU", value, 68, 65_535).map(Self)
    }
}

impl From<Mtu> for u32 {
    fn from(mtu: Mtu) -> Self {
        mtu.0
    }
}

impl fmt::Display for Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A UDP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Port(NonZeroU16);

impl Port {
    /// IANA's for VXLAN (RFC 7348, section 8).
    pub const VXLAN: Self = Self(NonZeroU16::new(4789).expect("4789 is not 0"));
}

impl From<NonZeroU16> for Port {
    fn from(port: NonZeroU16) -> Self {
        Self(port)
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        port.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A host's name in a network: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most 253 bytes, as a host name is. It is part of keys
/// in directories, so nothing else is let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(String);

/// A string that is no host's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "node {0:?} must start with a letter or a digit, hold only letters, digits, '_', '.' and '-', and be at most {MAX_NODE} bytes"
)]
pub struct NodeNameError(String);

impl NodeName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(name: &str) -> Result<Self, NodeNameError> {
        Self::try_from(name.to_owned())
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;

    fn try_from(name: String) -> Result<Self, NodeNameError> {
        let starts_well = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let goes_on_well = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if starts_well && goes_on_well && name.len() <= MAX_NODE {
            Ok(Self(name))
        } else {
            // What strangers send is shown, but not at any length.
            Err(NodeNameError(name.chars().take(64).collect()))
        }
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const MAX_VNI: u32 = (1 << 24) - 1;
const MIN_DERIVED_VNI: u32 = 4096;
const MAX_NODE: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_ranges() {
        for (value, good) in [(0, false), (1, true), (16_777_215, true), (16_777_216, false)] {
            assert_eq!(Vni::try_from(value).is_ok(), good, "VNI {value}");
        }
        for (value, good) in [(67, false), (68, true), (9000, true), (65_535, true), (65_536, false)] {
            assert_eq!(Mtu::try_from(value).is_ok(), good, "MTU {value}");
        }
        assert_eq!(Mtu::try_from(1).unwrap_err().to_string(), "MTU 1 is not in 68..=65535");
        assert!(serde_json::from_str::<Port>("0").is_err());
        assert_eq!(u16::from(Port::VXLAN), 4789);
    }

    #[test]
    fn derived_identifiers_are_the_same_everywhere() {
        // Pinned: hosts of different versions must meet on one identifier.
        assert_eq!(u32::from(Vni::derived("lab")), 10_821_958);
        assert_ne!(Vni::derived("lab"), Vni::derived("lab2"));
        assert!(Vni::derived("lab").device().len() <= 15);
    }

    #[test]
    fn node_names() {
        for good in ["h1", "host-1.example_x", "9", &"x".repeat(253)] {
            assert!(good.parse::<NodeName>().is_ok(), "{good:?}");
        }
        for bad in ["", "-a", ".", "a/b", "a b", "å", "a\n", &"x".repeat(254)] {
            assert!(bad.parse::<NodeName>().is_err(), "{bad:?}");
        }
    }
}
