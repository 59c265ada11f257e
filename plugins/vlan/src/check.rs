//! CHECK and STATUS.

use attach::lone::{self, is_exactly};
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
};
use ipam::delegate::Ipam;
use kernel::{link::Kind, netlink::Netlink};

use crate::{KIND, config::Config};

/// What ADD made is still there.
pub(crate) fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
    let expected = Kind::Vlan(Config::new(request)?.id);
    lone::check(request, attachment, netns, is_exactly(expected))
}

/// Whether an ADD could succeed now: the kernel has such interfaces, the master, if it is the host's and named, is there, and
/// the address plugin is able.
pub(crate) fn status(request: &Request) -> anyhow::Result<()> {
    let config = Config::new(request)?;
    let mut host = Netlink::open()?;
    KIND.require(&mut host)?;
    config.master.require(&mut host)?;
    Ipam::resolve(request)?.map_or(Ok(()), |ipam| ipam.status(request))
}
