//! CHECK and STATUS.

use std::fs::File;

use attach::{
    check::{failed, link_in_container},
    container::Container,
    lone::{self, is_exactly},
};
use cni::{
    error::{Code, Error},
    names::{Attachment, NetnsPath},
    request::Request,
};
use ipam::delegate::Ipam;
use kernel::{link::Kind, tun};

use crate::{bridge, config::Config, labelled};

/// What ADD made is still there. Whether a process has the other end is not asked: a virtual machine may be off.
pub(crate) fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
    let config = Config::new(request)?;
    lone::check(request, attachment, netns, is_exactly(Kind::Tap(config.tap)))?;
    let Some(name) = &config.bridge else { return Ok(()) };
    let mut container = Container::open(netns)?;
    let link = link_in_container(&mut container, attachment.ifname.as_str(), false)?;
    if link.master == Some(bridge::find(&mut container, name)?.index) {
        return Ok(());
    }
    Err(failed(format!("{} is not a port of {name}", link.name)).into())
}

/// Whether an ADD could succeed now: taps can be made, under the label if there is one, and the address plugin is able.
pub(crate) fn status(request: &Request) -> anyhow::Result<()> {
    let config = Config::new(request)?;
    let not_available = |why: String| Error::new(Code::NotAvailable, why);
    let opened = File::options().read(true).write(true).open(tun::DEVICE);
    opened.map_err(|err| not_available(format!("open {}: {err}", tun::DEVICE)))?;
    if let Some(label) = &config.label {
        labelled::require_selinux(label).map_err(|err| not_available(err.to_string()))?;
    }
    match Ipam::resolve(request)? {
        Some(ipam) => ipam.status(request),
        None => Ok(()),
    }
}
