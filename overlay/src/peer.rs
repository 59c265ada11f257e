//! One record of a peer for all data planes, and who is let in: a record that would harm another is refused alone, with
//! a reason that names it. Knows no directory and no kernel.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::mac::MacAddr;
use serde::{Deserialize, Serialize};

use crate::{
    definition::Definition,
    family::{self, Family, PerFamily},
    mac::MacText,
    names::NodeName,
};

/// What a host publishes of itself: shape checked, sense not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub node: NodeName,
    /// Where its tunnels end.
    pub underlay: PerFamily<IpAddr>,
    /// What is behind it. None yet is fine.
    #[serde(default)]
    pub subnets: Vec<IpNetwork>,
    /// Of its devices, by the family of the underlay.
    pub mac: PerFamily<MacText>,
}

/// A record as a directory holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Whoever is lower was there first and wins: a creation revision, or a place in a file.
    pub rank: u64,
    pub record: Result<Record, Refusal>,
}

/// All candidates, by their key in the directory.
pub type Candidates = BTreeMap<String, Candidate>;

/// A peer that may be programmed: every address is usable, nothing collides with another peer or with this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Of the network's underlay family.
    pub underlay: IpAddr,
    pub mac: MacText,
    pub subnets: Vec<IpNetwork>,
}

/// What of this host peers must keep off.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Us {
    pub node: Option<NodeName>,
    /// Of any link.
    pub addresses: BTreeSet<IpAddr>,
    pub mac: Option<MacText>,
    pub subnets: Vec<IpNetwork>,
}

/// Why a record is not used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Refusal {
    #[error("is no peer record: {0}")]
    Malformed(String),
    #[error("node {0} has another record, which came first")]
    DuplicateNode(NodeName),
    #[error("underlay: no {0} address")]
    NoUnderlay(Family),
    #[error("underlay: {0} is no host's address")]
    BadUnderlay(IpAddr),
    #[error("underlay: {0} is an address of this host")]
    OurUnderlay(IpAddr),
    #[error("underlay: {0} is inside the network's own pools")]
    UnderlayInPool(IpAddr),
    #[error("underlay: {address} is {other}'s")]
    TakenUnderlay { address: IpAddr, other: NodeName },
    #[error("mac: none for a {0} underlay")]
    NoMac(Family),
    #[error("mac: {0} is no host's address")]
    BadMac(MacAddr),
    #[error("mac: {0} is this host's")]
    OurMac(MacAddr),
    #[error("mac: {mac} is {other}'s")]
    TakenMac { mac: MacAddr, other: NodeName },
    #[error("subnets: {0} has bits set behind its prefix")]
    HostBits(IpNetwork),
    #[error("subnets: {0} is outside of the network's pools")]
    OutsidePools(IpNetwork),
    #[error("subnets: {subnet} overlaps this host's {ours}")]
    OurSubnet { subnet: IpNetwork, ours: IpNetwork },
    #[error("subnets: {subnet} overlaps {theirs} of {other}")]
    TakenSubnet { subnet: IpNetwork, theirs: IpNetwork, other: NodeName },
    #[error("subnets: {subnet} overlaps {other} of the same record")]
    OwnOverlap { subnet: IpNetwork, other: IpNetwork },
    #[error("subnets: {0} are more than the {MAX_SUBNETS} that one host may have")]
    TooMany(usize),
}

/// The outcome of [`admit`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admission {
    pub peers: BTreeMap<NodeName, Peer>,
    /// By key in the directory.
    pub refused: BTreeMap<String, Refusal>,
}

/// Lets in who may come in, the lowest rank first. Our own record is passed over in silence.
pub fn admit(definition: &Definition, us: &Us, candidates: &Candidates) -> Admission {
    let mut order: Vec<_> = candidates.iter().collect();
    order.sort_by_key(|(key, candidate)| (candidate.rank, *key));
    let mut door = Door { definition, us, taken: Taken::default() };
    let (mut peers, mut refused) = (Vec::with_capacity(order.len()), BTreeMap::new());
    for (key, candidate) in order {
        let admitted = candidate.record.as_ref().map_err(Refusal::clone).and_then(|record| {
            let ours = us.node.as_ref() == Some(&record.node);
            if ours { Ok(None) } else { door.admit(record).map(|peer| Some((record.node.clone(), peer))) }
        });
        match admitted {
            Ok(peer) => peers.extend(peer),
            Err(refusal) => {
                refused.insert(key.clone(), refusal);
            }
        }
    }
    // Made in one go, which is faster than one by one.
    Admission { peers: peers.into_iter().collect(), refused }
}

struct Door<'a> {
    definition: &'a Definition,
    us: &'a Us,
    taken: Taken<'a>,
}

/// Who has what already.
#[derive(Default)]
struct Taken<'a> {
    nodes: HashSet<&'a NodeName>,
    addresses: HashMap<IpAddr, &'a NodeName>,
    macs: HashMap<MacAddr, &'a NodeName>,
    /// By their first address; disjoint, so two look-ups find any overlap.
    subnets: BTreeMap<IpAddr, (IpNetwork, &'a NodeName)>,
}

impl<'a> Door<'a> {
    fn admit(&mut self, record: &'a Record) -> Result<Peer, Refusal> {
        let Record { node, underlay, subnets, mac } = record;
        if self.taken.nodes.contains(node) {
            return Err(Refusal::DuplicateNode(node.clone()));
        }
        let family = self.definition.underlay;
        let underlay = self.underlay(underlay.of(family).ok_or(Refusal::NoUnderlay(family))?)?;
        let mac = self.mac(mac.of(family).ok_or(Refusal::NoMac(family))?.0)?;
        if subnets.len() > MAX_SUBNETS {
            return Err(Refusal::TooMany(subnets.len()));
        }
        for (index, subnet) in subnets.iter().enumerate() {
            self.subnet(*subnet)?;
            if let Some(other) = subnets[..index].iter().find(|other| family::overlap(**other, *subnet)) {
                return Err(Refusal::OwnOverlap { subnet: *subnet, other: *other });
            }
        }
        self.taken.nodes.insert(node);
        self.taken.addresses.insert(underlay, node);
        self.taken.macs.insert(mac, node);
        self.taken.subnets.extend(subnets.iter().map(|subnet| (subnet.network(), (*subnet, node))));
        Ok(Peer { underlay, mac: MacText(mac), subnets: subnets.clone() })
    }

    fn underlay(&self, address: IpAddr) -> Result<IpAddr, Refusal> {
        if Family::of(address) != self.definition.underlay || !is_host(address) {
            return Err(Refusal::BadUnderlay(address));
        }
        if self.us.addresses.contains(&address) {
            return Err(Refusal::OurUnderlay(address));
        }
        if self.definition.pools.iter().any(|pool| pool.network.contains(address)) {
            return Err(Refusal::UnderlayInPool(address));
        }
        match self.taken.addresses.get(&address) {
            Some(other) => Err(Refusal::TakenUnderlay { address, other: (*other).clone() }),
            None => Ok(address),
        }
    }

    fn mac(&self, mac: MacAddr) -> Result<MacAddr, Refusal> {
        if mac.is_multicast() || mac == MacAddr([0; 6]) {
            return Err(Refusal::BadMac(mac));
        }
        if self.us.mac == Some(MacText(mac)) {
            return Err(Refusal::OurMac(mac));
        }
        match self.taken.macs.get(&mac) {
            Some(other) => Err(Refusal::TakenMac { mac, other: (*other).clone() }),
            None => Ok(mac),
        }
    }

    fn subnet(&self, subnet: IpNetwork) -> Result<(), Refusal> {
        if subnet.ip() != subnet.network() {
            return Err(Refusal::HostBits(subnet));
        }
        if !self.definition.holds(subnet) {
            return Err(Refusal::OutsidePools(subnet));
        }
        if let Some(ours) = self.us.subnets.iter().find(|ours| family::overlap(**ours, subnet)) {
            return Err(Refusal::OurSubnet { subnet, ours: *ours });
        }
        let before = self.taken.subnets.range(..=family::last_address(subnet)).next_back();
        match before {
            Some((_, (theirs, other))) if family::overlap(*theirs, subnet) => {
                Err(Refusal::TakenSubnet { subnet, theirs: *theirs, other: (*other).clone() })
            }
            _ => Ok(()),
        }
    }
}

/// Not one of the addresses that no single host has, and none that means another host elsewhere (link-local).
fn is_host(address: IpAddr) -> bool {
    let common = !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
    common
        && match address {
            IpAddr::V4(v4) => {
                !v4.is_broadcast() && !v4.is_link_local() && v4.octets()[0] != 0 && v4.octets()[0] < 240
            }
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
        }
}

/// One for each pool is usual; a record with more than this costs every host of the network.
const MAX_SUBNETS: usize = 16;

#[cfg(test)]
mod tests;
