//! The host plugin's configuration: `NetConf` as it is written, `Config` as it was understood.

use std::path::PathBuf;

use cni::{error::Error, names::IfName, request::Request, result::Dns};
use kernel::mac::MacAddr;
use serde::Deserialize;
use serde_json::Value;

use crate::find::Sysfs;

/// Every key of the configuration that the plugin reads, as it is written. Each is described in this crate's README.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct NetConf {
    pub mode: String,
    pub device: String,
    pub hwaddr: String,
    pub kernelpath: String,
    #[serde(rename = "pciBusID")]
    pub pci_bus_id: String,
    pub interfaces: Vec<String>,
    pub ipam: Value,
    pub dns: Dns,
    #[serde(rename = "runtimeConfig")]
    pub runtime_config: RuntimeConfig,
}

/// `runtimeConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RuntimeConfig {
    #[serde(rename = "deviceID")]
    pub device_id: String,
}

/// A configuration that can be carried out, as far as the text and the buses can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub mode: Mode,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    Device(Device),
    Share(Share),
}

/// `mode`, before anything else is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeName {
    Device,
    Share,
}

/// Mode `device`: which one, and what else the container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub which: Which,
    /// Of the device on the PCI bus, where that was named: a driver of user space has it, so that there is no link to move.
    pub in_user_space: bool,
    pub dns: Dns,
}

/// How the device is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By name or alternative name.
    Name(String),
    Mac(MacAddr),
    /// The directory below /sys/devices.
    KernelPath(PathBuf),
    /// By PCI address.
    Pci(String),
    /// By name on the auxiliary bus.
    Auxiliary(String),
}

/// Mode `share`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Those to tell of; if empty, all that have an address.
    pub interfaces: Vec<IfName>,
    pub dns: Dns,
}

impl Config {
    /// Checks the configuration of type `host`. Fails with code 7 naming field and value.
    pub fn of_host(request: &Request) -> Result<Self, Error> {
        let conf = request.decode()?;
        Self::from_parts(conf, &Sysfs::of_this_host())
    }

    fn from_parts(conf: NetConf, sysfs: &Sysfs) -> Result<Self, Error> {
        let mode = match mode_named(&conf.mode)? {
            ModeName::Device => {
                if !conf.interfaces.is_empty() {
                    let why = "is for mode \"share\" alone";
                    return Err(Error::invalid_config("interfaces", conf.interfaces.join(","), why));
                }
                Mode::Device(Device::from_parts(conf, sysfs)?)
            }
            ModeName::Share => Mode::Share(Share::from_parts(conf)?),
        };
        Ok(Self { mode })
    }
}

/// Fails (code 7) for a mode that there isn't.
pub fn mode_of(request: &Request) -> Result<ModeName, Error> {
    mode_named(&request.decode::<NetConf>()?.mode)
}

fn mode_named(mode: &str) -> Result<ModeName, Error> {
    match mode {
        "device" => Ok(ModeName::Device),
        "share" => Ok(ModeName::Share),
        other => {
            Err(Error::invalid_config("mode", format!("{other:?}"), "is neither \"device\" nor \"share\""))
        }
    }
}

impl Device {
    /// As [`Config::of_host`] for type `host-device`, which knows no other mode and ignores the key.
    pub fn of_host_device(request: &Request) -> Result<Self, Error> {
        Self::from_parts(request.decode()?, &Sysfs::of_this_host())
    }

    /// The order in which the reference lets one win over the next.
    fn from_parts(conf: NetConf, sysfs: &Sysfs) -> Result<Self, Error> {
        let NetConf { mode: _, device, hwaddr, kernelpath, pci_bus_id, interfaces: _, ipam: _, dns, .. } =
            conf;
        let RuntimeConfig { device_id } = conf.runtime_config;
        let (pci, auxiliary) = on_bus(pci_bus_id, device_id, sysfs)?;
        let in_user_space = pci.as_deref().map_or(Ok(false), |pci| sysfs.is_in_user_space(pci))?;
        let which = if !device.is_empty() {
            Which::Name(device)
        } else if !hwaddr.is_empty() {
            Which::Mac(hwaddr.parse().map_err(|why| Error::invalid_config("hwaddr", &hwaddr, why))?)
        } else if !kernelpath.is_empty() {
            Which::KernelPath(kernel_path(&kernelpath)?)
        } else if let Some(pci) = pci {
            Which::Pci(pci)
        } else if let Some(auxiliary) = auxiliary {
            Which::Auxiliary(auxiliary)
        } else {
            let why = "name a device by \"device\", \"hwaddr\", \"kernelpath\", \"pciBusID\" or the capability deviceID";
            return Err(Error::invalid_config("device", "\"\"", why));
        };
        Ok(Self { which, in_user_space, dns })
    }
}

/// The device's PCI address and its name on the auxiliary bus: at most one of them.
fn on_bus(
    pci_bus_id: String,
    device_id: String,
    sysfs: &Sysfs,
) -> Result<(Option<String>, Option<String>), Error> {
    if device_id.is_empty() {
        let pci = Some(pci_bus_id).filter(|pci| !pci.is_empty());
        if let Some(pci) = &pci {
            require_file_name("pciBusID", pci)?;
        }
        return Ok((pci, None));
    }
    require_file_name("runtimeConfig.deviceID", &device_id)?;
    if sysfs.has_pci(&device_id) {
        return Ok((Some(device_id), None));
    }
    if sysfs.has_auxiliary(&device_id) {
        return Ok((None, Some(device_id)));
    }
    let why = "is a device of neither the PCI nor the auxiliary bus";
    Err(Error::invalid_config("runtimeConfig.deviceID", &device_id, why))
}

/// It becomes part of a path.
fn require_file_name(field: &str, value: &str) -> Result<(), Error> {
    if value.contains('/') || value == ".." || value == "." {
        return Err(Error::invalid_config(
            field,
            format!("{value:?}"),
            "is not the name of a device on a bus",
        ));
    }
    Ok(())
}

fn kernel_path(text: &str) -> Result<PathBuf, Error> {
    let refuse = |why| Err(Error::invalid_config("kernelpath", format!("{text:?}"), why));
    if !text.starts_with("/sys/devices/") {
        return refuse("does not begin with /sys/devices/");
    }
    if text.split('/').any(|part| part == "..") {
        return refuse("leads out of /sys/devices by \"..\"");
    }
    Ok(PathBuf::from(text))
}

impl Share {
    fn from_parts(conf: NetConf) -> Result<Self, Error> {
        for (field, value) in [
            ("device", &conf.device),
            ("hwaddr", &conf.hwaddr),
            ("kernelpath", &conf.kernelpath),
            ("pciBusID", &conf.pci_bus_id),
        ] {
            if !value.is_empty() {
                let why = "is for mode \"device\" alone; \"interfaces\" names those to tell of";
                return Err(Error::invalid_config(field, format!("{value:?}"), why));
            }
        }
        if conf.ipam.get("type").is_some_and(|kind| kind != "") {
            let why = "mode \"share\" has the host's addresses, and can give no others";
            return Err(Error::invalid_config("ipam", conf.ipam, why));
        }
        let parse = |name: &String| {
            name.parse().map_err(|why| Error::invalid_config("interfaces", format!("{name:?}"), why))
        };
        let interfaces = conf.interfaces.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { interfaces, dns: conf.dns })
    }
}

#[cfg(test)]
mod tests;
