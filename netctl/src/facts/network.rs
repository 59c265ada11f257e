//! A configured network, with what the verbs ask of every kind of network.

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path, time::Duration};

use cni::{decode::field, request::Request};
use ipam::{
    host_local,
    owner::Owner,
    range::{Range, RangeSet},
    store,
};
use ipnetwork::IpNetwork;
use serde_json::{Map, Value};

use crate::conf::NetworkList;

/// A network of the directory.
#[derive(Debug)]
pub struct Network {
    pub list: NetworkList,
    /// The type of the first plugin.
    pub driver: String,
    pub bridge: Option<String>,
    /// The link that a macvlan or ipvlan is on, as configured.
    pub master: Option<String>,
    pub is_gateway: bool,
    pub masquerade: bool,
    pub hairpin: bool,
    pub isolated: bool,
    pub promiscuous: bool,
    /// Its ports are in VLANs of the bridge.
    pub has_vlans: bool,
    pub mtu: Option<u32>,
    /// `ipam.type`.
    pub ipam: Option<String>,
    /// Where host-local leases; the error where its configuration is not understood.
    pub pool: Option<Result<host_local::Pool, String>>,
    /// Why the plugin would refuse the configuration.
    pub refused: Option<String>,
    /// The leases by address; the owner is missing where the file says none.
    pub leases: Vec<(IpAddr, Option<Owner>)>,
    /// Those of the last minute.
    pub new: BTreeSet<IpAddr>,
}

impl Network {
    /// Reads the leases too; they are in `networks` unless the configuration says otherwise.
    pub fn new(list: NetworkList, networks: &Path) -> Self {
        let first = &list.plugins[0];
        let config = &first.config;
        let text = |key: &str| field(config, key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let flag = |key: &str| field(config, key).and_then(Value::as_bool).unwrap_or_default();
        let driver = first.plugin_type.clone();
        let ipam = field(config, "ipam").and_then(Value::as_object);
        let ipam_type = ipam.and_then(|ipam| field(ipam, "type")?.as_str()).map(str::to_owned);
        let pool = (ipam_type.as_deref() == Some("host-local"))
            .then(|| host_local::pool(&request(&list, config, networks)).map_err(|err| err.to_string()));
        let place = pool.as_ref().and_then(|pool| pool.as_ref().ok()).map(|pool| &pool.place);
        let leases = place.map(|place| store::look(place).unwrap_or_default()).unwrap_or_default();
        let is_new = |address: &IpAddr| {
            let age = place.and_then(|place| age(&place.leases().join(address.to_string())));
            age.is_some_and(|age| age < IN_FLIGHT)
        };
        let new = leases.iter().map(|(address, _)| *address).filter(is_new).collect();
        let bridge = (driver == "bridge").then(|| text("bridge").unwrap_or("cni0").to_owned());
        let mtu = field(config, "mtu").and_then(Value::as_u64).filter(|mtu| *mtu != 0);
        Self {
            bridge,
            master: text("master").map(str::to_owned),
            is_gateway: flag("isGateway") || flag("isDefaultGateway"),
            masquerade: flag("ipMasq"),
            hairpin: flag("hairpinMode"),
            isolated: flag("portIsolation"),
            promiscuous: flag("promiscMode"),
            has_vlans: field(config, "vlan").and_then(Value::as_i64).is_some_and(|vlan| vlan != 0)
                || field(config, "vlanTrunk").and_then(Value::as_array).is_some_and(|all| !all.is_empty()),
            mtu: mtu.and_then(|mtu| mtu.try_into().ok()),
            leases,
            new,
            refused: refused(&list, config, networks).or_else(|| pool.clone()?.err()),
            driver,
            ipam: ipam_type,
            pool,
            list,
        }
    }

    /// The sets of ranges of host-local.
    pub fn sets(&self) -> &[RangeSet] {
        self.pool.as_ref().and_then(|pool| pool.as_ref().ok()).map_or(&[], |pool| &pool.sets)
    }

    /// The subnets of the ranges, each once.
    pub fn subnets(&self) -> Vec<IpNetwork> {
        let ranges = self.sets().iter().flat_map(RangeSet::ranges);
        let mut subnets: Vec<_> = ranges.map(|range| network_of(range.subnet)).collect();
        subnets.dedup();
        subnets
    }

    pub fn gateways(&self) -> Vec<IpAddr> {
        let ranges = self.sets().iter().flat_map(RangeSet::ranges);
        let mut gateways: Vec<_> = ranges.filter_map(|range| range.gateway).collect();
        gateways.dedup();
        gateways
    }

    /// Whether a plugin of that type is in the list.
    pub fn has_plugin(&self, plugin_type: &str) -> bool {
        self.list.plugins.iter().any(|plugin| plugin.plugin_type == plugin_type)
    }
}

/// How many addresses the ranges can give: gateways are in them and not given. Large IPv6 ranges count as `u64::MAX`.
pub fn capacity(sets: &[RangeSet]) -> u64 {
    let ranges = sets.iter().flat_map(|set| set.ranges().iter().map(move |range| (set, range)));
    ranges.fold(0, |sum, (set, range)| sum.saturating_add(size(set, range)))
}

fn size(set: &RangeSet, range: &Range) -> u64 {
    let number = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    };
    let all = number(range.end).saturating_sub(number(range.start)).saturating_add(1);
    let gateway = range.gateway.is_some_and(|it| set.is_gateway(it) && range.start <= it && it <= range.end);
    u64::try_from(all).unwrap_or(u64::MAX).saturating_sub(u64::from(gateway))
}

/// How long ago a file was written; `None` where that is not known.
fn age(file: &Path) -> Option<Duration> {
    fs::metadata(file).and_then(|it| it.modified()).ok()?.elapsed().ok()
}

/// The subnet without host bits.
pub fn network_of(subnet: IpNetwork) -> IpNetwork {
    IpNetwork::new(subnet.network(), subnet.prefix()).unwrap_or(subnet)
}

/// Of our bridge, which takes what the reference takes.
fn refused(list: &NetworkList, config: &Map<String, Value>, networks: &Path) -> Option<String> {
    let is_bridge = list.plugins[0].plugin_type == "bridge";
    let request = is_bridge.then(|| request(list, config, networks))?;
    bridge::config::Config::without_args(&request).err().map(|err| err.to_string())
}

/// What the plugin would be asked with.
fn request(list: &NetworkList, config: &Map<String, Value>, networks: &Path) -> Request {
    let mut config = config.clone();
    let ipam = config.iter_mut().find(|(key, _)| key.eq_ignore_ascii_case("ipam"));
    if let Some(ipam) = ipam.and_then(|(_, ipam)| ipam.as_object_mut())
        && field(ipam, "dataDir").and_then(Value::as_str).is_none_or(str::is_empty)
    {
        ipam.insert("dataDir".to_owned(), networks.to_string_lossy().into());
    }
    Request {
        name: list.name.clone(),
        version: list.version,
        plugin_type: list.plugins[0].plugin_type.clone(),
        config,
        raw_args: String::new(),
        path: Vec::new(),
        stdin: Vec::new(),
    }
}

/// What an ADD may take from its lease to its record, with a plugin in between that waits for a network's answer.
const IN_FLIGHT: Duration = Duration::from_secs(60);
