//! The `host` plugin: what is the host's own, given to a container. In mode `device` an interface of the host goes into the
//! container and comes back as it was; in mode `share` the container lives in the host's namespace, and the result tells
//! what that has. `host-device` is the same program with the first mode alone, as the reference's plugin of that name.
//!
//! `config` reads what is asked for, `find` finds the device, `device` is what it was and is to be again, `attach` is ADD,
//! `detach` is DEL and GC, `check` is CHECK and STATUS, `share` is the other mode.

mod attach;
mod check;
pub mod config;
mod detach;
pub mod device;
pub mod find;
mod share;
pub mod state;

use cni::{
    error::{Code, Error},
    names::{Attachment, NetnsPath},
    request::{NetnsKind, Request, ValidAttachments, netns_kind},
    result::AddResult,
    run::Plugin,
};

use crate::config::{Config, Mode};

/// The plugin of type `host`.
#[derive(Debug)]
pub struct Host;

impl Plugin for Host {
    const NAME: &'static str = "host";
    /// In mode `share`; the other refuses it below.
    const WANTS_OWN_NETNS: bool = true;

    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        match Config::of_host(request)?.mode {
            Mode::Device(device) => {
                require(NetnsKind::Other, netns)?;
                attach::add(request, &device, attachment, netns)
            }
            Mode::Share(share) => {
                require(NetnsKind::Own, netns)?;
                share::add(&share, netns)
            }
        }
    }

    /// What is to be undone is in the record; a container that shares has none.
    fn del(request: &Request, attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
        let container = netns.filter(|netns| netns_kind(netns) != NetnsKind::Own);
        detach::del(request, attachment, container)
    }

    fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        match Config::of_host(request)?.mode {
            Mode::Device(device) => {
                require(NetnsKind::Other, netns)?;
                check::check(request, &device, attachment, netns)
            }
            Mode::Share(_) => {
                require(NetnsKind::Own, netns)?;
                share::check(request, netns)
            }
        }
    }

    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        detach::gc(request, valid)
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        match config::mode_of(request)? {
            config::ModeName::Device => check::status(request),
            config::ModeName::Share => Ok(()),
        }
    }
}

fn require(wanted: NetnsKind, netns: &NetnsPath) -> Result<(), Error> {
    if netns_kind(netns) == wanted {
        return Ok(());
    }
    let why = match wanted {
        NetnsKind::Own => "is not the host's own network namespace, in which mode \"share\" is at home",
        NetnsKind::Other | NetnsKind::Absent => "is the plugin's own network namespace, not a container's",
    };
    Err(Error::new(Code::InvalidNetns, format!("CNI_NETNS: {:?}: {why}", netns.as_str())))
}

/// The plugin of type `host-device`.
#[derive(Debug)]
pub struct HostDevice;

impl Plugin for HostDevice {
    const NAME: &'static str = "host-device";

    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        attach::add(request, &config::Device::of_host_device(request)?, attachment, netns)
    }

    fn del(request: &Request, attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
        detach::del(request, attachment, netns)
    }

    fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        check::check(request, &config::Device::of_host_device(request)?, attachment, netns)
    }

    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        detach::gc(request, valid)
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        check::status(request)
    }
}
