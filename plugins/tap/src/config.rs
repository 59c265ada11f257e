//! The tap plugin's configuration: `NetConf` as it is written, `Config` as it was understood.

use attach::{hardware::MacSources, mtu};
use cni::{error::Error, names::IfName, request::Request, result::Dns};
use kernel::{
    link::Mtu,
    mac::MacAddr,
    tun::{self, Tap},
};
use serde::Deserialize;
use serde_json::Value;

/// Every key of the configuration that the plugin reads, as it is written. Each is described in this crate's README.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetConf {
    pub mac: String,
    pub mtu: u32,
    pub multi_queue: bool,
    pub owner: Option<u32>,
    pub group: Option<u32>,
    pub selinux_context: String,
    pub bridge: String,
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
    pub mac: Option<MacAddr>,
    /// The kernel's own 1500 if `None`.
    pub mtu: Option<Mtu>,
    pub tap: Tap,
    /// The label of SELinux that the interface gets; the plugin's own if `None`.
    pub label: Option<String>,
    /// The bridge in the container's namespace that it becomes a port of.
    pub bridge: Option<IfName>,
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
        let NetConf { mac, mtu, multi_queue, owner, group, selinux_context, bridge, .. } = conf;
        let NetConf { ipam: _, dns, runtime_config, .. } = conf;
        let macs = MacSources {
            runtime: Some(&runtime_config.mac),
            args: None,
            environment: environment_mac,
            configured: Some(&mac),
        };
        let tap = Tap { multi_queue, owner: parse_id("owner", owner)?, group: parse_id("group", group)? };
        Ok(Self {
            mac: macs.requested()?,
            mtu: parse_mtu(mtu)?,
            tap,
            label: parse_label(selinux_context)?,
            bridge: parse_bridge(&bridge)?,
            dns,
        })
    }
}

/// The highest number stands for nobody (`uid_valid`, include/linux/uidgid.h).
fn parse_id(field: &str, id: Option<u32>) -> Result<Option<u32>, Error> {
    match id {
        Some(u32::MAX) => Err(Error::invalid_config(field, u32::MAX, "stands for none")),
        id => Ok(id),
    }
}

fn parse_mtu(mtu: u32) -> Result<Option<Mtu>, Error> {
    if mtu > tun::MAX_MTU {
        let why = format!("is more than the {} of any tap", tun::MAX_MTU);
        return Err(Error::invalid_config("mtu", mtu, why));
    }
    mtu::parse(mtu)
}

/// Whether the policy knows it, the kernel says.
fn parse_label(label: String) -> Result<Option<String>, Error> {
    if label.contains('\0') {
        return Err(Error::invalid_config("selinuxContext", format!("{label:?}"), "is no label"));
    }
    Ok(Some(label).filter(|label| !label.is_empty()))
}

fn parse_bridge(name: &str) -> Result<Option<IfName>, Error> {
    if name.is_empty() {
        return Ok(None);
    }
    name.parse().map(Some).map_err(|why| Error::invalid_config("bridge", format!("{name:?}"), why))
}

#[cfg(test)]
mod tests;
