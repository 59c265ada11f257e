//! The ipvlan plugin's configuration: `NetConf` as it is written, `Config` as it was understood.

use attach::{master, mtu};
use cni::{error::Error, request::Request, result::Dns};
use kernel::{ipvlan::Mode, link::Mtu};
use serde::Deserialize;
use serde_json::Value;

/// Every key of the configuration that the plugin reads, as it is written. Each is described in this crate's README.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetConf {
    pub master: String,
    pub mode: String,
    pub mtu: u32,
    pub link_in_container: bool,
    pub ipam: Value,
    pub dns: Dns,
}

/// A configuration that can be carried out, as far as the text can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub master: master::Wish,
    pub mode: Mode,
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
        let NetConf { master, mode, mtu, link_in_container, ipam: _, dns } = conf;
        Ok(Self {
            master: master::Wish::parse(&master, link_in_container)?,
            mode: parse_mode(&mode)?,
            mtu: mtu::parse(mtu)?,
            dns,
        })
    }
}

fn parse_mode(mode: &str) -> Result<Mode, Error> {
    match mode {
        "" | "l2" => Ok(Mode::L2),
        "l3" => Ok(Mode::L3),
        "l3s" => Ok(Mode::L3s),
        other => Err(Error::invalid_config(
            "mode",
            format_args!("{other:?}"),
            "is none of \"l2\", \"l3\", \"l3s\"",
        )),
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
    fn defaults_are_the_references() {
        check(
            json!({}),
            |c| (c.master.name, c.master.in_container, c.mode, c.mtu),
            Ok((None, false, Mode::L2, None)),
        );
        check(json!({"MASTER": "eth0", "mtu": 1400}), |c| c.mtu.map(u32::from), Ok(Some(1400)));
        check(json!({"linkInContainer": true}), |c| c.master.in_container, Ok(true));
    }

    #[test]
    fn modes() {
        for (name, mode) in [("", Mode::L2), ("l2", Mode::L2), ("l3", Mode::L3), ("l3s", Mode::L3s)] {
            check(json!({"mode": name}), |c| c.mode, Ok(mode));
        }
        check(json!({"mode": "L2"}), |c| c.mode, Err("mode: \"L2\": is none of \"l2\", \"l3\", \"l3s\""));
    }

    #[test]
    fn values_that_can_not_be() {
        let error = |conf, expected| check(conf, |_| (), Err(expected));
        error(json!({"master": "a/b"}), "master: \"a/b\": must not contain '/', ':' or white space");
        error(json!({"mtu": 20}), "mtu: 20: MTU 20 is not within 68..=65535");
        error(json!({"mtu": -1}), "mtu: -1: invalid value: integer `-1`, expected u32");
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
