//! Which subnet to ask for. Pure: who gets it, etcd says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};

use super::view::View;
use crate::{definition::Pool, names::NodeName};

/// Subnets of `pool` to try, in an order of the host's own, so that hosts that come at once do not all ask for the same: a
/// few picked by a hash, then all from there on. Only what `view` shows as free.
pub fn choices<'a>(pool: Pool, node: &NodeName, view: &'a View) -> impl Iterator<Item = IpNetwork> + 'a {
    let bits = u32::from(pool.host - pool.network.prefix());
    // The first 2^32 subnets of a pool are enough for anybody.
    let slots = 1_u64 << bits.min(32);
    let picks: Vec<u64> = (0..PICKS).map(|attempt| hash(node, pool, attempt) % slots).collect();
    let start = picks.last().copied().unwrap_or_default();
    let rest = (0..slots.min(SCAN)).map(move |step| (start + step) % slots);
    picks
        .into_iter()
        .chain(rest)
        .filter_map(move |slot| subnet(pool, slot))
        .filter(|subnet| view.is_free(*subnet))
}

/// The `slot`-th subnet of a pool.
fn subnet(pool: Pool, slot: u64) -> Option<IpNetwork> {
    let first = match pool.network.network() {
        IpAddr::V4(v4) => {
            let offset = u32::try_from(slot).ok()?.checked_shl(32 - u32::from(pool.host))?;
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) | offset))
        }
        IpAddr::V6(v6) => {
            let offset = u128::from(slot).checked_shl(128 - u32::from(pool.host))?;
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) | offset))
        }
    };
    IpNetwork::new(first, pool.host).ok()
}

fn hash(node: &NodeName, pool: Pool, attempt: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(node.as_str());
    hash.update([0]);
    hash.update(pool.network.to_string());
    hash.update(attempt.to_be_bytes());
    let [a, b, c, d, e, f, g, h, ..] = <[u8; 32]>::from(hash.finalize());
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

const PICKS: u32 = 8;
/// More than the hosts that a network can have.
const SCAN: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn choices_cover_the_pool_once_picked_over() {
        let pool = Pool { network: "10.244.0.0/20".parse().unwrap(), host: 24 };
        let view = View::default();
        let all: Vec<_> = choices(pool, &"h1".parse().unwrap(), &view).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 16);
        assert!(all.iter().all(|subnet| subnet.prefix() == 24 && pool.network.contains(subnet.ip())));
        let other = choices(pool, &"h2".parse().unwrap(), &view).next();
        assert_ne!(all.first().copied(), other);
    }

    #[test]
    fn pools_of_any_size() {
        let whole = Pool { network: "10.244.7.0/24".parse().unwrap(), host: 24 };
        let view = View::default();
        assert_eq!(choices(whole, &"h1".parse().unwrap(), &view).next(), Some(whole.network));
        let huge = Pool { network: "fd00::/8".parse().unwrap(), host: 64 };
        let first = choices(huge, &"h1".parse().unwrap(), &view).next().unwrap();
        assert!(huge.network.contains(first.ip()) && first.ip() == first.network());
    }
}
