//! CHECK and STATUS.

use attach::{
    check::failed,
    lone::{self, is_exactly},
};
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
};
use ipam::delegate::Ipam;
use kernel::{
    link::{self, Kind},
    netlink::Netlink,
    route::{self, Family, Filter},
};

use crate::{
    config::Config,
    state::{Attached, records},
};

/// What ADD made is still there.
pub(crate) fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
    let config = Config::new(request)?;
    let expected = if config.tap { Kind::Macvtap(config.mode) } else { Kind::Macvlan(config.mode) };
    lone::check(request, attachment, netns, is_exactly(expected))?;
    check_host(attachment)
}

fn check_host(attachment: &Attachment) -> anyhow::Result<()> {
    let Some((_, record)) = records(&attachment.network).find::<Attached>(attachment)? else { return Ok(()) };
    let Some(name) = &record.shim else { return Ok(()) };
    let mut host = Netlink::open()?;
    let shim = link::find(&mut host, name)?;
    let shim = shim.ok_or_else(|| failed(format!("the host's interface {name} on the network is gone")))?;
    for family in [Family::V4, Family::V6] {
        let present = route::list(&mut host, family, Filter { dev: Some(shim.index), ..Filter::default() })?;
        for address in record.addresses.iter().filter(|a| a.is_ipv4() == (family == Family::V4)) {
            if !present.iter().any(|route| route.dst == (*address).into()) {
                return Err(failed(format!("the host's route to {address} is gone")).into());
            }
        }
    }
    Ok(())
}

/// Whether an ADD could succeed now: the master, if it is the host's and named, is there, and the address plugin is able.
pub(crate) fn status(request: &Request) -> anyhow::Result<()> {
    let config = Config::new(request)?;
    config.master.require(&mut Netlink::open()?)?;
    match Ipam::resolve(request)? {
        Some(ipam) => ipam.status(request),
        None => Ok(()),
    }
}
