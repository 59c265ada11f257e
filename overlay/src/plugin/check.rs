//! CHECK and STATUS.

use ::attach::{
    check::{addresses, container_interface, failed, link_in_container, routes},
    container::Container,
};
use cni::{
    error::Code,
    names::{Attachment, NetnsPath},
    request::Request,
    run::Plugin,
};
use ipam::host_local::HostLocal;
use kernel::{link, netlink::Netlink, nft::Nft};

use super::{
    config::{Config, for_host_local},
    record::{Attached, records},
};

/// What ADD made is still there. Where this host stands does not matter: a container that lives in a subnet that was lost
/// is attached as well as ever.
pub(crate) fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
    Config::new(request)?;
    let result = request.required_prev_result()?;
    let (index, _) = container_interface(&result, attachment, netns)?;
    HostLocal::check(&for_host_local(request, None, None)?, attachment, netns)?;
    let mut container = Container::open(netns)?;
    let link = link_in_container(&mut container, attachment.ifname.as_str(), false)?;
    addresses(&mut container.netlink, &link, &result, index)?;
    routes(&mut container.netlink, &link, &result)?;
    let Some((_, record)) = records(&attachment.network).find::<Attached>(attachment)? else {
        log::info!("{attachment}: no record of its host's side, which is not checked");
        return Ok(());
    };
    check_host(attachment, &record)
}

fn check_host(attachment: &Attachment, record: &Attached) -> anyhow::Result<()> {
    let mut host = Netlink::open()?;
    let there = |host: &mut Netlink, name: &str| -> anyhow::Result<link::Link> {
        let link = link::find(host, name)?.ok_or_else(|| failed(format!("{name} is gone")))?;
        if link.is_up() { Ok(link) } else { Err(failed(format!("{name} is down")).into()) }
    };
    let bridge = there(&mut host, &record.bridge)?;
    let port = there(&mut host, &record.host_link)?;
    if port.master != Some(bridge.index) {
        return Err(failed(format!("{} is not a port of {}", port.name, bridge.name)).into());
    }
    let ruleset = record.ruleset(attachment);
    if ruleset.is_empty() {
        return Ok(());
    }
    let missing = ruleset.missing(&mut Nft::open()?)?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(failed(format!("the nftables ruleset lacks {}", missing.join(", "))).into())
}

/// Code 50 while this host owns no subnet of the network.
pub(crate) fn status(request: &Request) -> anyhow::Result<()> {
    let config = Config::new(request)?;
    let state = config.owner_state(Code::NotAvailable)?;
    HostLocal::status(&for_host_local(request, Some(&config), Some(&state))?)
}
