//! Ranges of addresses: checked against their subnet and against each other. Pure; knows no leases.

use std::{collections::BTreeSet, fmt, net::IpAddr, ops::RangeInclusive};

use cni::error::Error;
use ipnetwork::IpNetwork;
use serde::Deserialize;

/// A range as a configuration writes it: one element of `ranges[]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RangeConf {
    /// Without host bits.
    #[serde(with = "cni::decode::cidr")]
    pub subnet: IpNetwork,
    /// First address, inclusive; see [`Range`] for the defaults of all three.
    #[serde(default, rename = "rangeStart", deserialize_with = "cni::decode::optional_ip")]
    pub range_start: Option<IpAddr>,
    /// Last address, inclusive.
    #[serde(default, rename = "rangeEnd", deserialize_with = "cni::decode::optional_ip")]
    pub range_end: Option<IpAddr>,
    /// Never handed out. Need not be in the subnet.
    #[serde(default, deserialize_with = "cni::decode::optional_ip")]
    pub gateway: Option<IpAddr>,
}

/// Addresses of one subnet that may be leased, with what their holders need to know about it.
///
/// Defaults, as in the reference: from the address after the subnet's own to the last one (in IPv4 the one before the
/// broadcast address), gateway the address after the subnet's own. Where the subnet has no address of its own to set
/// aside, both addresses of a /31 (RFC 3021) or /127 (RFC 6164) and the one of a /32 or /128 may be leased, and there
/// is no gateway unless it is named. The reference refuses those subnets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub subnet: IpNetwork,
    pub start: IpAddr,
    pub end: IpAddr,
    pub gateway: Option<IpAddr>,
}

impl Range {
    /// `field` names the range in errors, such as `ipam.ranges[0][1]`.
    fn parse(field: &str, conf: &RangeConf) -> Result<Self, Error> {
        let RangeConf { subnet, range_start, range_end, gateway } = conf;
        if subnet.ip() != subnet.network() {
            let why = format!("has host bits set; the subnet is {}/{}", subnet.network(), subnet.prefix());
            return Err(Error::invalid_config(&format!("{field}.subnet"), subnet, why));
        }
        if subnet.ip().to_canonical() != subnet.ip() {
            return Err(Error::invalid_config(&format!("{field}.subnet"), subnet, "is IPv4 written as IPv6"));
        }
        let within = |key: &str, address: IpAddr| match address.to_canonical() {
            address if subnet.contains(address) => Ok(address),
            address => {
                Err(Error::invalid_config(&format!("{field}.{key}"), address, format!("is not in {subnet}")))
            }
        };
        let defaults = defaults(subnet);
        let start = range_start.map_or(Ok(*defaults.addresses.start()), |a| within("rangeStart", a))?;
        let end = range_end.map_or(Ok(*defaults.addresses.end()), |a| within("rangeEnd", a))?;
        if start > end {
            return Err(Error::invalid_config(
                &format!("{field}.rangeStart"),
                start,
                format!("is after rangeEnd {end}"),
            ));
        }
        let gateway = gateway.map(|gateway| gateway.to_canonical());
        if let Some(gateway) = gateway.filter(|gateway| gateway.is_ipv4() != start.is_ipv4()) {
            let why = format!("is not of the family of {subnet}");
            return Err(Error::invalid_config(&format!("{field}.gateway"), gateway, why));
        }
        Ok(Self { subnet: *subnet, start, end, gateway: gateway.or(defaults.gateway) })
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.start.is_ipv4() && self.start <= address && address <= self.end
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.start) || other.contains(self.start)
    }

    /// The addresses as numbers, for [`address`].
    pub(crate) fn numbers(&self) -> RangeInclusive<u128> {
        number(self.start)..=number(self.end)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// Ranges of one family, out of which an attachment gets one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<Range>,
    /// The gateways of all sets of the configuration, so that no set leases what is a gateway for another.
    gateways: BTreeSet<IpAddr>,
}

impl RangeSet {
    fn parse(conf: &SetConf) -> Result<Self, Error> {
        let ranges = conf.ranges.iter().map(|(field, conf)| Range::parse(field, conf));
        let ranges: Vec<_> = ranges.collect::<Result<_, _>>()?;
        let Some(first) = ranges.first() else {
            return Err(Error::invalid_config(&conf.field, "[]", "holds no range"));
        };
        for (i, (range, (field, _))) in ranges.iter().zip(&conf.ranges).enumerate() {
            let field = format!("{field}.subnet");
            if range.start.is_ipv4() != first.start.is_ipv4() {
                let why =
                    format!("is of another family than {}; one address of each takes two sets", first.subnet);
                return Err(Error::invalid_config(&field, range.subnet, why));
            }
            if let Some(earlier) = ranges[..i].iter().find(|earlier| earlier.overlaps(range)) {
                let why = format!("range {range} overlaps with {earlier} of the same set");
                return Err(Error::invalid_config(&field, range.subnet, why));
            }
        }
        Ok(Self { ranges, gateways: BTreeSet::new() })
    }

    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The range that holds `address`, gateways included.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.contains(address))
    }

    /// Whether `address` is a gateway, of whichever set.
    pub fn is_gateway(&self, address: IpAddr) -> bool {
        self.gateways.contains(&address)
    }

    pub fn is_ipv4(&self) -> bool {
        self.ranges.iter().all(|range| range.start.is_ipv4())
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

/// A range set as a configuration writes it, with the names that errors give to it and to its ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetConf {
    field: String,
    ranges: Vec<(String, RangeConf)>,
}

impl SetConf {
    /// `field` is an array of ranges, such as `ipam.ranges[0]`.
    pub fn array(field: String, ranges: Vec<RangeConf>) -> Self {
        let named = ranges.into_iter().enumerate().map(|(i, range)| (format!("{field}[{i}]"), range));
        Self { ranges: named.collect(), field }
    }

    /// `field` is a single range.
    pub fn single(field: String, range: RangeConf) -> Self {
        Self { ranges: vec![(field.clone(), range)], field }
    }
}

/// Checks all sets of a configuration. No two of them may overlap.
pub fn parse_sets(confs: &[SetConf]) -> Result<Vec<RangeSet>, Error> {
    let mut sets: Vec<RangeSet> = Vec::with_capacity(confs.len());
    for conf in confs {
        let set = RangeSet::parse(conf)?;
        for (earlier, earlier_conf) in sets.iter().zip(confs) {
            let clash =
                set.ranges.iter().find(|range| earlier.ranges.iter().any(|other| other.overlaps(range)));
            if let Some(range) = clash {
                let why = format!("overlaps with {} ({earlier})", earlier_conf.field);
                return Err(Error::invalid_config(&conf.field, range, why));
            }
        }
        sets.push(set);
    }
    let gateways: BTreeSet<_> =
        sets.iter().flat_map(|set| &set.ranges).filter_map(|range| range.gateway).collect();
    for set in &mut sets {
        set.gateways.clone_from(&gateways);
    }
    Ok(sets)
}

struct Defaults {
    addresses: RangeInclusive<IpAddr>,
    gateway: Option<IpAddr>,
}

fn defaults(subnet: &IpNetwork) -> Defaults {
    let v4 = subnet.is_ipv4();
    let (first, last) = (number(subnet.network()), number(subnet.broadcast()));
    if last - first <= 1 {
        return Defaults { addresses: subnet.network()..=subnet.broadcast(), gateway: None };
    }
    let end = if v4 { last - 1 } else { last };
    Defaults { addresses: address(v4, first + 1)..=address(v4, end), gateway: Some(address(v4, first + 1)) }
}

/// An address as a number within its family.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The inverse of [`number`].
pub(crate) fn address(v4: bool, number: u128) -> IpAddr {
    match u32::try_from(number) {
        Ok(bits) if v4 => IpAddr::V4(bits.into()),
        _ => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests;
