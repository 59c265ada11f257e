//! The addresses that a runtime asks for, as `host-local` and `static` both find them: `CNI_ARGS`, `args.cni.ips` and
//! `runtimeConfig.ips`.

use std::net::IpAddr;

use cni::{decode::parse_cidr, error::Error};
use ipnetwork::IpNetwork;
use serde::Deserialize;

/// `args`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ArgsConf {
    #[serde(default)]
    pub(crate) cni: CniArgsConf,
}

/// `args.cni`.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct CniArgsConf {
    #[serde(default)]
    pub(crate) ips: Vec<String>,
}

/// An address with or without a prefix length, which host-local has no use for: the range's subnet has one.
pub(crate) fn address(field: &str, text: &str) -> Result<IpAddr, Error> {
    let address = parse_cidr(text).map(|network| network.ip()).or_else(|| text.parse().ok());
    let address =
        address.ok_or_else(|| Error::invalid_config(field, format!("{text:?}"), "is not an IP address"))?;
    Ok(address.to_canonical())
}

/// An address with its prefix length.
pub(crate) fn network(field: &str, text: &str) -> Result<IpNetwork, Error> {
    parse_cidr(text).ok_or_else(|| {
        Error::invalid_config(field, format!("{text:?}"), "is not an address with a prefix length")
    })
}

/// Parses each element of a list, with a field name that tells which.
pub(crate) fn each<T>(
    field: &str,
    texts: &[String],
    parse: impl Fn(&str, &str) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    texts.iter().enumerate().map(|(i, text)| parse(&format!("{field}[{i}]"), text)).collect()
}

/// The names of the three places, for errors.
pub(crate) const CNI_ARGS_IP: &str = "CNI_ARGS IP";
pub(crate) const ARGS_IPS: &str = "args.cni.ips";
pub(crate) const RUNTIME_IPS: &str = "runtimeConfig.ips";

/// Below 0.3.0 a result has one address a family (CNI 0.2.0, "Result").
pub(crate) fn fits_version(
    version: cni::version::Version,
    mut are_ipv4: impl Iterator<Item = bool> + Clone,
) -> Result<(), Error> {
    let v4 = are_ipv4.clone().filter(|v4| *v4).count();
    let v6 = are_ipv4.by_ref().filter(|v4| !v4).count();
    if version < cni::version::Version::V0_3_0 && (v4 > 1 || v6 > 1) {
        let why = "does not support more than 1 address per family";
        return Err(Error::invalid_config("cniVersion", version, why));
    }
    Ok(())
}
