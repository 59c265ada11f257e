//! CHECK and STATUS.

use attach::lone;
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
};
use ipam::delegate::Ipam;
use kernel::netlink::Netlink;

use crate::{KIND, config::Config};

/// What ADD made is still there.
pub(crate) fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
    Config::new(request)?;
    lone::check(request, attachment, netns, |link| match &link.kind {
        Some(kind) if kind.name() == KIND.link => Ok(()),
        other => Err(format!("{other:?}, not a dummy")),
    })
}

/// Whether an ADD could succeed now: the kernel has such interfaces, and the address plugin is able.
pub(crate) fn status(request: &Request) -> anyhow::Result<()> {
    Config::new(request)?;
    KIND.require(&mut Netlink::open()?)?;
    Ipam::resolve(request)?.map_or(Ok(()), |ipam| ipam.status(request))
}
