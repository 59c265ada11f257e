//! The configuration of `sbr`, raw and checked.

use std::net::IpAddr;

use cni::{error::Error, request::Request};
use serde::Deserialize;

/// The configuration as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NetConf {
    table: Option<u32>,
    gateways: Vec<String>,
    add_source_hints: bool,
}

/// The configuration, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Somebody else's table, which only gets rules.
    pub(super) table: Option<u32>,
    /// In place of those of the result, at most one of each IP version.
    pub(super) gateways: Vec<IpAddr>,
    pub(super) source_hints: bool,
}

impl Config {
    pub(super) fn new(request: &Request) -> Result<Self, Error> {
        let NetConf { table, gateways, add_source_hints: source_hints } = request.decode()?;
        if table == Some(0) {
            return Err(Error::invalid_config("table", 0, "is no table"));
        }
        let mut parsed: Vec<IpAddr> = Vec::new();
        for (index, text) in gateways.iter().enumerate() {
            let field = format!("gateways[{index}]");
            let bad = |why| Error::invalid_config(&field, format!("{text:?}"), why);
            let gateway: IpAddr = text.parse().map_err(|_| bad("is not an IP address"))?;
            if parsed.iter().any(|other| other.is_ipv4() == gateway.is_ipv4()) {
                return Err(bad("is a second one of its IP version"));
            }
            parsed.push(gateway);
        }
        Ok(Self { table, gateways: parsed, source_hints })
    }
}
