//! The macvlan plugin's configuration: `NetConf` as it is written, `Config` as it was understood.

use attach::{hardware::MacSources, master, mtu};
use cni::{error::Error, request::Request, result::Dns};
use kernel::{link::Mtu, mac::MacAddr, macvlan::Mode};
use serde::Deserialize;
use serde_json::Value;

/// Every key of the configuration that the plugin reads, as it is written. Each is described in this crate's README.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetConf {
    pub master: String,
    pub mode: String,
    pub mtu: u32,
    pub mac: String,
    pub link_in_container: bool,
    pub bcqueuelen: u32,
    #[serde(rename = "sourceMACs")]
    pub source_macs: Vec<String>,
    pub tap: bool,
    pub dad: bool,
    pub host_access: bool,
    pub ipam: Value,
    pub dns: Dns,
    pub runtime_config: RuntimeConfig,
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
    pub master: master::Wish,
    pub mode: Mode,
    /// The senders that get through in mode `source`.
    pub sources: Vec<MacAddr>,
    /// The master's if `None`.
    pub mtu: Option<Mtu>,
    pub mac: Option<MacAddr>,
    /// The kernel's own if `None`.
    pub broadcast_queue: Option<u32>,
    pub tap: bool,
    pub detect_duplicates: bool,
    pub host_access: bool,
    pub dns: Dns,
}

impl Config {
    /// Checks the configuration of a request for an ADD or a CHECK. Fails with code 7 naming field and value, or with code 4
    /// for `CNI_ARGS`.
    pub fn new(request: &Request) -> Result<Self, Error> {
        let args = request.args()?;
        Self::from_parts(request.decode()?, args.mac.as_deref())
    }

    fn from_parts(conf: NetConf, environment_mac: Option<&str>) -> Result<Self, Error> {
        let NetConf { master, mode, mtu, mac, link_in_container, bcqueuelen, source_macs, tap, .. } = conf;
        let NetConf { dad, host_access, ipam: _, dns, runtime_config, .. } = conf;
        let macs = MacSources {
            runtime: Some(&runtime_config.mac),
            args: None,
            environment: environment_mac,
            configured: Some(&mac),
        };
        let mode = parse_mode(&mode)?;
        let config = Self {
            mac: macs.requested()?,
            master: master::Wish::parse(&master, link_in_container)?,
            sources: parse_sources(&source_macs)?,
            mtu: mtu::parse(mtu)?,
            mode,
            broadcast_queue: (bcqueuelen != 0).then_some(bcqueuelen),
            tap,
            detect_duplicates: dad,
            host_access,
            dns,
        };
        config.check_together()?;
        Ok(config)
    }

    fn check_together(&self) -> Result<(), Error> {
        if !self.sources.is_empty() && self.mode != Mode::Source {
            return Err(Error::invalid_config(
                "sourceMACs",
                self.sources.len(),
                "is for mode \"source\" alone",
            ));
        }
        if self.tap && self.mode == Mode::Source {
            return Err(Error::invalid_config("tap", true, "can't be had in mode \"source\""));
        }
        if self.host_access && self.master.in_container {
            let why = "the master is the container's, so the host is not on its link";
            return Err(Error::invalid_config("hostAccess", true, why));
        }
        if self.host_access && self.mode != Mode::Bridge {
            let why = "containers reach each other, and so the host's shim, in mode \"bridge\" alone";
            return Err(Error::invalid_config("hostAccess", true, why));
        }
        Ok(())
    }
}

fn parse_mode(mode: &str) -> Result<Mode, Error> {
    match mode {
        "" | "bridge" => Ok(Mode::Bridge),
        "private" => Ok(Mode::Private),
        "vepa" => Ok(Mode::Vepa),
        "passthru" => Ok(Mode::Passthru),
        "source" => Ok(Mode::Source),
        other => {
            let why = "is none of \"bridge\", \"private\", \"vepa\", \"passthru\", \"source\"";
            Err(Error::invalid_config("mode", format!("{other:?}"), why))
        }
    }
}

fn parse_sources(macs: &[String]) -> Result<Vec<MacAddr>, Error> {
    let parse = |(index, mac): (usize, &String)| {
        mac.parse()
            .map_err(|why| Error::invalid_config(&format!("sourceMACs[{index}]"), format!("{mac:?}"), why))
    };
    macs.iter().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests;
