//! CHECK and STATUS.

use attach::{
    check::{addresses, container_interface, failed, link_in_container, routes},
    container::Container,
};
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
};
use ipam::delegate::Ipam;
use kernel::{
    link,
    netlink::Netlink,
    nft::Nft,
    route::{self, Family, Filter},
};

use crate::{
    config::Config,
    state::{Attached, records},
};

/// What ADD made is still there.
pub(crate) fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
    Config::new(request)?;
    let result = request.required_prev_result()?;
    let (index, _) = container_interface(&result, attachment, netns)?;
    if let Some(ipam) = Ipam::resolve(request)? {
        ipam.check(request, attachment, netns)?;
    }
    let mut container = Container::open(netns)?;
    let link = link_in_container(&mut container, attachment.ifname.as_str(), false)?;
    addresses(&mut container.netlink, &link, &result, index)?;
    routes(&mut container.netlink, &link, &result)?;
    check_host(attachment)
}

fn check_host(attachment: &Attachment) -> anyhow::Result<()> {
    let Some((_, record)) = records(&attachment.network).find::<Attached>(attachment)? else {
        log::info!("{attachment}: no record of its host's side, which is not checked");
        return Ok(());
    };
    let mut host = Netlink::open()?;
    let near = link::find(&mut host, &record.host_link)?;
    let near = near.ok_or_else(|| failed(format!("{} is gone", record.host_link)))?;
    if !near.is_up() {
        return Err(failed(format!("{} is down", near.name)).into());
    }
    for family in [Family::V4, Family::V6] {
        let present = route::list(&mut host, family, Filter { dev: Some(near.index), ..Filter::default() })?;
        for address in record.addresses.iter().filter(|a| a.is_ipv4() == (family == Family::V4)) {
            if !present.iter().any(|route| route.dst == address.ip().into()) {
                return Err(failed(format!("the host's route to {} is gone", address.ip())).into());
            }
        }
    }
    let ruleset = record.ruleset(attachment);
    let missing = if ruleset.is_empty() { Vec::new() } else { ruleset.missing(&mut Nft::open()?)? };
    if missing.is_empty() {
        return Ok(());
    }
    Err(failed(format!("the nftables ruleset lacks {}", missing.join(", "))).into())
}

/// Whether an ADD could succeed now, as far as the address plugin tells.
pub(crate) fn status(request: &Request) -> anyhow::Result<()> {
    Config::new(request)?;
    match Ipam::resolve(request)? {
        Some(ipam) => ipam.status(request),
        None => Ok(()),
    }
}
