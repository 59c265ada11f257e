//! CHECK and STATUS.

use attach::{
    check::{addresses, container_interface, failed, link_in_container, routes},
    container::Container,
    host_bridge,
};
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
};
use ipam::delegate::Ipam;
use kernel::{address, link, netlink::Netlink, nft::Nft};

use crate::{
    config::Config,
    state::{Attached, records},
};

/// What ADD made is still there.
pub(crate) fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
    let config = Config::new(request)?;
    let result = request.required_prev_result()?;
    let (index, _) = container_interface(&result, attachment, netns)?;
    if let Some(ipam) = Ipam::resolve(request)? {
        ipam.check(request, attachment, netns)?;
    }
    let mut container = Container::open(netns)?;
    let link = link_in_container(&mut container, attachment.ifname.as_str(), !config.container_interface_up)?;
    addresses(&mut container.netlink, &link, &result, index)?;
    routes(&mut container.netlink, &link, &result)?;
    check_host(&config, attachment)
}

fn check_host(config: &Config, attachment: &Attachment) -> anyhow::Result<()> {
    let mut host = Netlink::open()?;
    let name = &config.bridge;
    let bridge =
        host_bridge::find(&mut host, name)?.ok_or_else(|| failed(format!("bridge {name} is gone")))?;
    if !bridge.is_up() {
        return Err(failed(format!("bridge {name} is down")).into());
    }
    let Some((_, record)) = records(&attachment.network).find::<Attached>(attachment)? else {
        log::info!("{attachment}: no record of its host's side, which is not checked");
        return Ok(());
    };
    let port = link::find(&mut host, &record.host_link)?;
    let port = port.ok_or_else(|| failed(format!("{} is gone", record.host_link)))?;
    if port.master != Some(bridge.index) {
        return Err(failed(format!("{} is not a port of {name}", port.name)).into());
    }
    if !port.is_up() {
        return Err(failed(format!("{} is down", port.name)).into());
    }
    if let Some(options) = port.port
        // A later plugin may have wanted hairpin mode (CNI 1.1.0, "CHECK": later changes are to be tolerated).
        && (config.hairpin && !options.hairpin || options.isolated != config.isolated)
    {
        return Err(failed(format!(
            "{} has hairpin {} and isolation {}",
            port.name, options.hairpin, options.isolated
        ))
        .into());
    }
    check_gateways(&mut host, config, &bridge, &record)?;
    check_ruleset(attachment, &record)
}

fn check_ruleset(attachment: &Attachment, record: &Attached) -> anyhow::Result<()> {
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

fn check_gateways(
    host: &mut Netlink,
    config: &Config,
    bridge: &link::Link,
    record: &Attached,
) -> anyhow::Result<()> {
    if config.gateway == attach::gateway::Gateway::None {
        return Ok(());
    }
    let gateway = match &record.vlan_gateway {
        Some(name) => link::find(host, name)?.ok_or_else(|| failed(format!("{name} is gone")))?,
        None => bridge.clone(),
    };
    let present = address::list(host, &gateway.dev())?;
    for subnet in &record.addresses {
        if !present.iter().any(|there| subnet.contains(there.network.ip())) {
            let (network, prefix) = (subnet.network(), subnet.prefix());
            return Err(failed(format!("{} has no address in {network}/{prefix}", gateway.name)).into());
        }
    }
    Ok(())
}

/// Whether an ADD could succeed now, as far as the address plugin and the bridge's name tell.
pub(crate) fn status(request: &Request) -> anyhow::Result<()> {
    let config = Config::new(request)?;
    host_bridge::find(&mut Netlink::open()?, &config.bridge)?;
    match Ipam::resolve(request)? {
        Some(ipam) => ipam.status(request),
        None => Ok(()),
    }
}
