//! Which address next: round robin through a range set, and which set serves which requested address. Pure; whether
//! an address is free is the [`store`](crate::store)'s to say.

use std::net::IpAddr;

use crate::range::{Range, RangeSet, address, number};

/// The addresses of `set` in the order in which to try them, gateways left out: from the one after `last`, around, to
/// `last` itself, so that an address rests for as long as the set allows. From the start when `last` is unknown or no
/// longer in the set.
pub fn candidates(set: &RangeSet, last: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, &Range)> {
    let ranges = set.ranges();
    let whole = |range: &'_ Range| range.numbers();
    let current =
        last.and_then(|last| Some((ranges.iter().position(|range| range.contains(last))?, number(last))));
    let spans: Vec<_> = match current {
        None => ranges.iter().map(|range| (range, whole(range))).collect(),
        Some((at, last)) => {
            let (before, after) = (&ranges[..at], &ranges[at + 1..]);
            let current = &ranges[at];
            let rest = last.checked_add(1).map(|next| (current, next..=number(current.end)));
            let others = after.iter().chain(before).map(|range| (range, whole(range)));
            let tried_last = (current, number(current.start)..=last);
            rest.into_iter().chain(others).chain([tried_last]).collect()
        }
    };
    let addresses = spans
        .into_iter()
        .flat_map(|(range, span)| span.map(move |number| (address(range.start.is_ipv4(), number), range)));
    addresses.filter(|(address, _)| !set.is_gateway(*address))
}

/// A requested address that can't be served, whoever holds it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("requested address {address} is in no range ({ranges})")]
    Outside { address: IpAddr, ranges: String },
    #[error("requested address {address} is a gateway")]
    Gateway { address: IpAddr },
    #[error(
        "requested addresses {first} and {second} are both of range set {set}, and a set gives one address"
    )]
    SameSet { first: IpAddr, second: IpAddr, set: usize },
}

/// The requested address of each set, if any: every one in the set that holds it, or an error. The same address twice
/// counts once.
pub fn assign(sets: &[RangeSet], requested: &[IpAddr]) -> Result<Vec<Option<IpAddr>>, RequestError> {
    let mut assigned = vec![None; sets.len()];
    for &address in requested {
        let Some(set) = sets.iter().position(|set| set.range_of(address).is_some()) else {
            let ranges = sets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            return Err(RequestError::Outside { address, ranges });
        };
        if sets[set].is_gateway(address) {
            return Err(RequestError::Gateway { address });
        }
        match assigned[set].replace(address) {
            Some(first) if first != address => {
                return Err(RequestError::SameSet { first, second: address, set });
            }
            _ => {}
        }
    }
    Ok(assigned)
}

#[cfg(test)]
mod tests;
