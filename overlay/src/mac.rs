//! The MAC addresses of overlay devices: derived, so that neither a restart nor a new device changes one, and their
//! form in JSON. Knows no device.

use kernel::mac::MacAddr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{family::Family, names::NodeName};

/// The address of `node`'s device over an underlay of `family`: `02` (locally administered, unicast) and the first five
/// bytes of a SHA-256 over the three parts, each with its length before it. 40 bits leave a collision among 10,000 hosts at
/// 5 in 100,000; it is found when the second host registers.
pub fn derived(cluster: &str, node: &NodeName, family: Family) -> MacAddr {
    let mut hash = Sha256::new();
    for part in [cluster, node.as_str(), &family.to_string()] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let [a, b, c, d, e, ..] = <[u8; 32]>::from(hash.finalize());
    MacAddr([2, a, b, c, d, e])
}

/// A [`MacAddr`] as JSON writes it: `"02:11:22:33:44:55"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MacText(pub MacAddr);

impl Serialize for MacText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MacText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_addresses_are_pinned_and_apart() {
        let node = |name: &str| name.parse::<NodeName>().unwrap();
        let h1 = derived("tenon", &node("h1"), Family::V4);
        // Pinned: a host's upgrade must not change what its peers have in their tables.
        assert_eq!(h1.to_string(), "02:58:d6:87:a2:e0");
        assert!(!h1.is_multicast() && h1.is_local());
        assert_ne!(h1, derived("tenon", &node("h1"), Family::V6));
        assert_ne!(h1, derived("tenon", &node("h2"), Family::V4));
        // Parts do not run into each other.
        assert_ne!(derived("tenonh", &node("1"), Family::V4), derived("tenon", &node("h1"), Family::V4));
    }
}
