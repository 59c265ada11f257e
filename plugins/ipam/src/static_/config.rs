//! The configuration of `static`, as written and as checked.

use std::net::IpAddr;

use cni::{
    error::Error,
    request::Request,
    result::{Dns, IpConfig, Route},
};
use ipnetwork::IpNetwork;
use serde::Deserialize;

use crate::requested::{ARGS_IPS, ArgsConf, CNI_ARGS_IP, RUNTIME_IPS, each, fits_version, network};

#[derive(Debug, Deserialize)]
struct NetConf {
    ipam: IpamConf,
    #[serde(default, rename = "runtimeConfig")]
    runtime: RuntimeConf,
    #[serde(default)]
    args: ArgsConf,
}

/// `ipam`, without its `type`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct IpamConf {
    addresses: Vec<AddressConf>,
    routes: Vec<Route>,
    dns: Dns,
}

/// One of `addresses`. Configurations from before 1.0.0 also have a `version`, which says nothing new.
#[derive(Debug, Deserialize)]
pub(crate) struct AddressConf {
    /// Read only when nothing replaces it.
    #[serde(default)]
    address: String,
    #[serde(default, deserialize_with = "cni::decode::optional_ip")]
    gateway: Option<IpAddr>,
}

/// `runtimeConfig`: capabilities.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct RuntimeConf {
    #[serde(default)]
    ips: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Config {
    pub(super) addresses: Vec<IpConfig>,
    pub(super) routes: Vec<Route>,
    pub(super) dns: Dns,
}

impl Config {
    /// `runtimeConfig.ips` replace `args.cni.ips`, which replace the addresses of `ipam` and, appended to them, of
    /// `CNI_ARGS`.
    pub(super) fn parse(request: &Request) -> Result<Self, Error> {
        let NetConf { ipam, runtime, args } = request.decode()?;
        let IpamConf { addresses, routes, dns } = ipam;
        let from_environment = from_cni_args(request)?;
        let addresses = match (&runtime.ips[..], &args.cni.ips[..]) {
            ([], []) => {
                let written = addresses.iter().enumerate().map(|(i, conf)| {
                    let address = network(&format!("ipam.addresses[{i}].address"), &conf.address)?;
                    Ok(IpConfig { interface: None, address, gateway: conf.gateway })
                });
                let written: Vec<_> = written.collect::<Result<_, Error>>()?;
                written.into_iter().chain(from_environment).collect()
            }
            ([], ips) => without_gateway(each(ARGS_IPS, ips, network)?),
            (ips, _) => without_gateway(each(RUNTIME_IPS, ips, network)?),
        };
        fits_version(request.version, addresses.iter().map(|ip| ip.address.is_ipv4()))?;
        Ok(Self { addresses, routes, dns })
    }
}

/// `IP`, each with the last `GATEWAY` that is in its subnet.
fn from_cni_args(request: &Request) -> Result<Vec<IpConfig>, Error> {
    let args = request.args()?;
    let mut addresses = without_gateway(each(CNI_ARGS_IP, &args.ip, network)?);
    for ip in &mut addresses {
        ip.gateway = args.gateway.iter().rev().copied().find(|gateway| ip.address.contains(*gateway));
    }
    Ok(addresses)
}

fn without_gateway(addresses: Vec<IpNetwork>) -> Vec<IpConfig> {
    addresses.into_iter().map(|address| IpConfig { interface: None, address, gateway: None }).collect()
}
