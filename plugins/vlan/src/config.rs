//! The vlan plugin's configuration: `NetConf` as it is written, `Config` as it was understood.

use attach::{master, mtu};
use cni::{error::Error, request::Request, result::Dns};
use kernel::{link::Mtu, vlan::VlanId};
use serde::Deserialize;
use serde_json::Value;

/// Every key of the configuration that the plugin reads, as it is written. Each is described in this crate's README.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetConf {
    pub master: String,
    pub vlan_id: u16,
    pub mtu: u32,
    pub link_in_container: bool,
    pub ipam: Value,
    pub dns: Dns,
}

/// A configuration that can be carried out, as far as the text can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub master: master::Wish,
    pub id: VlanId,
    /// The master's if `None`.
    pub mtu: Option<Mtu>,
    pub dns: Dns,
}

impl Config {
    /// Checks the configuration of a request. Fails with code 7 naming field and value.
    pub fn new(request: &Request) -> Result<Self, Error> {
        request.decode().and_then(Self::from_conf)
    }

    fn from_conf(conf: NetConf) -> Result<Self, Error> {
        let NetConf { master, vlan_id, mtu, link_in_container, ipam: _, dns } = conf;
        Ok(Self {
            master: master::Wish::parse(&master, link_in_container)?,
            id: VlanId::try_from(vlan_id).map_err(|why| Error::invalid_config("vlanId", vlan_id, why))?,
            mtu: mtu::parse(mtu)?,
            dns,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check<T: PartialEq + std::fmt::Debug>(
        conf: Value,
        part: impl Fn(Config) -> T,
        expected: Result<T, &str>,
    ) {
        let conf = cni::decode::decode(&conf).map_err(|err| err.msg);
        let parsed = conf.and_then(|conf| Config::from_conf(conf).map_err(|err| err.msg));
        assert_eq!(parsed.map(part), expected.map_err(str::to_owned));
    }

    #[test]
    fn values_are_understood() {
        check(json!({}), |c| (c.master.name, u16::from(c.id), c.mtu), Ok((None, 0, None)));
        for id in [0, 1, 4094] {
            check(json!({"vlanId": id}), |c| u16::from(c.id), Ok(id));
        }
        check(json!({"VLANID": 7, "mtu": 1400}), |c| c.mtu.map(u32::from), Ok(Some(1400)));
        check(json!({"linkInContainer": true}), |c| c.master.in_container, Ok(true));
    }

    /// The reference's own error says that 4095 is fine.
    #[test]
    fn values_that_can_not_be() {
        let error = |conf, expected| check(conf, |_| (), Err(expected));
        error(json!({"vlanId": 4095}), "vlanId: 4095: is not within 0..=4094");
        error(json!({"vlanId": -1}), "vlanId: -1: invalid value: integer `-1`, expected u16");
        error(json!({"vlanId": 70000}), "vlanId: 70000: invalid value: integer `70000`, expected u16");
        error(json!({"mtu": 20}), "mtu: 20: MTU 20 is not within 68..=65535");
        error(json!({"master": "a b"}), "master: \"a b\": must not contain '/', ':' or white space");
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
