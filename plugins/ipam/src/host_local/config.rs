//! The configuration of `host-local`, as written and as checked.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use cni::{error::Error, request::Request, result::Route};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, de};

use crate::{
    place::{DATA_DIR, Place},
    range::{RangeConf, RangeSet, SetConf, parse_sets},
    requested::{ARGS_IPS, ArgsConf, CNI_ARGS_IP, RUNTIME_IPS, address, each, fits_version},
};

#[derive(Debug, Deserialize)]
struct NetConf {
    ipam: IpamConf,
    #[serde(default, rename = "runtimeConfig")]
    runtime: RuntimeConf,
    #[serde(default)]
    args: ArgsConf,
}

/// `ipam`, without its `type`. The first four are a range of their own, from before there were `ranges`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IpamConf {
    #[serde(deserialize_with = "optional_cidr")]
    subnet: Option<IpNetwork>,
    #[serde(rename = "rangeStart", deserialize_with = "cni::decode::optional_ip")]
    range_start: Option<IpAddr>,
    #[serde(rename = "rangeEnd", deserialize_with = "cni::decode::optional_ip")]
    range_end: Option<IpAddr>,
    #[serde(deserialize_with = "cni::decode::optional_ip")]
    gateway: Option<IpAddr>,
    ranges: Vec<Vec<RangeConf>>,
    routes: Vec<Route>,
    #[serde(rename = "dataDir")]
    data_dir: String,
    #[serde(rename = "resolvConf")]
    resolv_conf: String,
}

/// `runtimeConfig`: capabilities.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RuntimeConf {
    #[serde(rename = "ipRanges")]
    ip_ranges: Vec<Vec<RangeConf>>,
    ips: Vec<String>,
}

/// What ADD needs to know.
#[derive(Debug)]
pub(super) struct Config {
    /// In the order of their numbers in `last_reserved_ip.<number>`.
    pub(super) sets: Vec<RangeSet>,
    pub(super) requested: Vec<IpAddr>,
    pub(super) routes: Vec<Route>,
    pub(super) resolv_conf: Option<PathBuf>,
    pub(super) place: Place,
}

impl Config {
    pub(super) fn parse(request: &Request) -> Result<Self, Error> {
        let NetConf { ipam, runtime, args } = request.decode()?;
        let IpamConf { subnet, range_start, range_end, gateway, ranges, routes, data_dir: _, resolv_conf } =
            ipam;
        let RuntimeConf { ip_ranges, ips } = runtime;
        let mut requested = each(CNI_ARGS_IP, &request.args()?.ip, address)?;
        requested.extend(each(ARGS_IPS, &args.cni.ips, address)?);
        requested.extend(each(RUNTIME_IPS, &ips, address)?);

        let single = subnet.map(|subnet| RangeConf { subnet, range_start, range_end, gateway });
        let confs: Vec<_> = arrays("runtimeConfig.ipRanges", ip_ranges)
            .chain(single.map(|range| SetConf::single("ipam".to_owned(), range)))
            .chain(arrays("ipam.ranges", ranges))
            .collect();
        let sets = parse_sets(&confs)?;
        fits_version(request.version, sets.iter().map(RangeSet::is_ipv4))?;
        let resolv_conf = Some(resolv_conf).filter(|path| !path.is_empty()).map(PathBuf::from);
        Ok(Self { sets, requested, routes, resolv_conf, place: place(request)? })
    }

    /// The sets, where there must be one.
    pub(super) fn some_sets(&self) -> Result<&[RangeSet], Error> {
        match &self.sets[..] {
            [] => Err(Error::invalid_config("ipam.ranges", "absent", "no IP ranges specified")),
            sets => Ok(sets),
        }
    }
}

/// All that DEL and GC need to know.
pub(super) fn place(request: &Request) -> Result<Place, Error> {
    #[derive(Deserialize)]
    struct Net {
        #[serde(default)]
        ipam: Ipam,
    }
    #[derive(Default, Deserialize)]
    struct Ipam {
        #[serde(default, rename = "dataDir")]
        data_dir: String,
    }
    let Net { ipam: Ipam { data_dir } } = request.decode()?;
    let data_dir = if data_dir.is_empty() { DATA_DIR } else { &data_dir };
    Ok(Place::new(Path::new(data_dir), &request.name))
}

fn arrays(field: &'static str, sets: Vec<Vec<RangeConf>>) -> impl Iterator<Item = SetConf> {
    sets.into_iter().enumerate().map(move |(i, ranges)| SetConf::array(format!("{field}[{i}]"), ranges))
}

fn optional_cidr<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpNetwork>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let subnet = cni::decode::parse_cidr(&text);
    subnet.map(Some).ok_or_else(|| de::Error::custom("is not an address with a prefix length"))
}
