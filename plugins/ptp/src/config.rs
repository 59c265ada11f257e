//! The ptp plugin's configuration: `NetConf` as it is written, `Config` as it was understood.

use attach::{hardware, mtu};
use cni::{error::Error, request::Request, result::Dns};
use serde::Deserialize;
use serde_json::Value;

/// Every key of the configuration that the plugin reads, as it is written. Each is described in this crate's README.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetConf {
    pub ip_masq: bool,
    pub ip_masq_backend: String,
    pub mtu: Value,
    pub ipam: Value,
    pub dns: Option<Dns>,
    pub runtime_config: RuntimeConfig,
    pub mac: String,
}

/// `runtimeConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RuntimeConfig {
    pub mac: String,
}

/// A configuration that can be carried out, as far as the text can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub masquerade: bool,
    pub mtu: mtu::Wish,
    /// Replaces what the address plugin says, even when it is empty.
    pub dns: Option<Dns>,
    /// The address asked for the container's interface.
    pub mac: Option<kernel::mac::MacAddr>,
}

impl Config {
    /// Checks the configuration of a request for an ADD or a CHECK. Fails with code 7 naming field and value, or with code 4
    /// for `CNI_ARGS`.
    pub fn new(request: &Request) -> Result<Self, Error> {
        let args = request.args()?;
        let NetConf { ip_masq, ip_masq_backend, mtu, ipam, dns, runtime_config, mac } = request.decode()?;
        if ipam.get("type").is_none_or(|kind| kind == "") {
            return Err(Error::invalid_config("ipam", ipam, "this mode routes, and so needs addresses"));
        }
        attach::ruleset::masquerade::check_backend(&ip_masq_backend)?;
        let mac = hardware::MacSources {
            runtime: Some(&runtime_config.mac),
            args: None,
            environment: args.mac.as_deref(),
            configured: Some(&mac),
        };
        Ok(Self { masquerade: ip_masq, mtu: mtu::Wish::parse(&mtu)?, dns, mac: mac.requested()? })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// The README's table has each key, and no other.
    #[test]
    fn the_readme_lists_every_option() {
        let rows = include_str!("../README.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let keys = cni::decode::field_names::<super::NetConf>().iter().copied();
        assert_eq!(rows.collect::<BTreeSet<_>>(), keys.collect());
    }
}
