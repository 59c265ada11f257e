//! Finding the device on the host: by name, by MAC address, and by its place on a bus, as sysfs tells.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cni::error::Error;
use kernel::{
    link::{self, Link},
    netlink::Netlink,
};

use crate::config::Which;

/// The file system of devices; elsewhere in tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysfs {
    root: PathBuf,
}

impl Sysfs {
    pub fn of_this_host() -> Self {
        Self::at("/sys")
    }

    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn pci(&self, address: &str) -> PathBuf {
        self.root.join("bus/pci/devices").join(address)
    }

    fn auxiliary(&self, name: &str) -> PathBuf {
        self.root.join("bus/auxiliary/devices").join(name)
    }

    pub(crate) fn has_pci(&self, address: &str) -> bool {
        self.pci(address).exists()
    }

    pub(crate) fn has_auxiliary(&self, name: &str) -> bool {
        self.auxiliary(name).exists()
    }

    /// Whether the driver of a PCI device is one of those that hand it to a program (DPDK): then it has no link. Fails
    /// (code 7) for a device that there isn't, or that no driver has.
    pub(crate) fn is_in_user_space(&self, address: &str) -> Result<bool, Error> {
        let driver = fs::read_link(self.pci(address).join("driver")).map_err(|err| {
            let why = format!("no driver has the device: {err}");
            Error::invalid_config("pciBusID", address, why)
        })?;
        Ok(driver.file_name().is_some_and(|name| USER_SPACE_DRIVERS.iter().any(|driver| name == *driver)))
    }

    /// The name of the link of a device; the first by name where it has several, as in the reference.
    fn link_name(&self, which: &Which) -> io::Result<String> {
        match which {
            Which::KernelPath(path) => {
                let below = path.strip_prefix("/sys").unwrap_or(path);
                first_entry(&self.root.join(below).join("net"))
            }
            Which::Pci(address) => {
                let device = self.pci(address);
                match first_entry(&device.join("net")) {
                    Err(err) if err.kind() == io::ErrorKind::NotFound => virtio(&device),
                    found => found,
                }
            }
            Which::Auxiliary(name) => first_entry(&self.auxiliary(name).join("net")),
            Which::Name(name) => Ok(name.clone()),
            Which::Mac(mac) => Err(io::Error::other(format!("{mac} is no place on a bus"))),
        }
    }
}

/// The link of a virtio device is that of the device on the virtio bus below.
fn virtio(device: &Path) -> io::Result<String> {
    let mut below: Vec<_> = fs::read_dir(device)?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("virtio"))
        .map(|entry| entry.path().join("net"))
        .filter(|net| net.is_dir())
        .collect();
    below.sort();
    below.first().map_or_else(|| Err(no_link()), |net| first_entry(net))
}

fn first_entry(dir: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.into_iter().min().ok_or_else(no_link)
}

fn no_link() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "it has no network interface")
}

/// The device as a link of the host. Fails (code 7) naming what was asked for when there is none.
pub fn device(host: &mut Netlink, which: &Which, sysfs: &Sysfs) -> anyhow::Result<Link> {
    let (field, value) = describe(which);
    let missing = |why: &str| Error::invalid_config(field, &value, why);
    let found = if let Which::Mac(mac) = which {
        let mut links: Vec<_> = link::list(host)?.into_iter().filter(|link| link.mac == Some(*mac)).collect();
        // A macvlan or VLAN on it has its address too.
        links.sort_by_key(|link| link.parent.is_some() || link.kind.is_some());
        links.into_iter().next().ok_or_else(|| missing("no interface of the host has that address"))?
    } else {
        let name = sysfs
            .link_name(which)
            .map_err(|err| missing(&format!("no network interface of the host is there: {err}")))?;
        link::find(host, &name)?.ok_or_else(|| missing(&format!("the host has no interface {name:?}")))?
    };
    if found.is_loopback() {
        return Err(missing("is the loopback interface, which every namespace has its own of").into());
    }
    Ok(found)
}

fn describe(which: &Which) -> (&'static str, String) {
    match which {
        Which::Name(name) => ("device", format!("{name:?}")),
        Which::Mac(mac) => ("hwaddr", mac.to_string()),
        Which::KernelPath(path) => ("kernelpath", path.display().to_string()),
        Which::Pci(address) => ("pciBusID", address.clone()),
        Which::Auxiliary(name) => ("runtimeConfig.deviceID", name.clone()),
    }
}

const USER_SPACE_DRIVERS: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

#[cfg(test)]
mod tests;
