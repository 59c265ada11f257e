//! The dummy plugin's configuration: `NetConf` as it is written, `Config` as it was understood.

use cni::{error::Error, request::Request, result::Dns};
use serde::Deserialize;
use serde_json::Value;

/// Every key of the configuration that the plugin reads, as it is written. Each is described in this crate's README.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetConf {
    pub ipam: Value,
    pub dns: Dns,
}

/// A configuration that can be carried out, as far as the text can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub dns: Dns,
}

impl Config {
    /// Checks the configuration of a request. Fails with code 7 naming field and value.
    pub fn new(request: &Request) -> Result<Self, Error> {
        request.decode().and_then(Self::from_conf)
    }

    fn from_conf(NetConf { ipam, dns }: NetConf) -> Result<Self, Error> {
        if ipam.get("type").is_none_or(|kind| kind == "") {
            return Err(Error::invalid_config(
                "ipam",
                ipam,
                "the interface is there for its addresses alone",
            ));
        }
        Ok(Self { dns })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_what_it_is_for() {
        let parse = |conf: Value| {
            let conf = cni::decode::decode(&conf).map_err(|err| err.msg)?;
            Config::from_conf(conf).map(|config| config.dns.nameservers).map_err(|err| err.msg)
        };
        let why = "the interface is there for its addresses alone";
        assert_eq!(parse(json!({})), Err(format!("ipam: null: {why}")));
        assert_eq!(parse(json!({"ipam": {"type": ""}})), Err(format!("ipam: {{\"type\":\"\"}}: {why}")));
        assert_eq!(parse(json!({"IPAM": {"type": "static"}})), Ok(vec![]));
        let dns = json!({"ipam": {"type": "static"}, "dns": {"nameservers": ["192.0.2.1"]}});
        assert_eq!(parse(dns), Ok(vec!["192.0.2.1".to_owned()]));
    }

    /// The README's table has each key, and no other.
    #[test]
    fn the_readme_lists_every_option() {
        let rows = include_str!("../README.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let keys = cni::decode::field_names::<NetConf>().iter().copied();
        assert_eq!(rows.collect::<BTreeSet<_>>(), keys.collect());
    }
}
