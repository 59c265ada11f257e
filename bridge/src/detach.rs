//! DEL and GC: everything that an ADD made goes, whatever is left of the container, the config and the record.

use anyhow::Context;
use attach::{
    container::Container,
    failures::Failures,
    lock::NetworkLock,
    ruleset::{
        owner::Owner,
        sweep::{remove_owned, remove_stale},
    },
};
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
};
use ipam::delegate::Ipam;
use kernel::{
    link::{self, Link},
    netlink::Netlink,
    nft::Nft,
};

use crate::state::{Attached, records};

/// Detaches the container. Goes on past errors and reports them together; doing it again is fine.
pub(crate) fn del(
    request: &Request,
    attachment: &Attachment,
    netns: Option<&NetnsPath>,
) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let record = failures.note(records(&attachment.network).find::<Attached>(attachment)).flatten();
    let record = record.map(|(_, data)| data);
    // Closed at the end: closing waits for the kernel to let go of the elements, as removing the links does, and the
    // waits overlap.
    let ruleset = failures.note(leave_ruleset(attachment, record.as_ref()));
    let links = failures.note(remove_links(attachment, record.as_ref(), netns));
    if record.is_none() && links == Some(Links::Ours) {
        failures.note(Nft::open().and_then(|mut nft| remove_owned(&mut nft, &Owner::of(attachment))));
    }
    failures.note(release_addresses(request, attachment, netns));
    failures.note(forget(attachment, record.as_ref()));
    drop(ruleset);
    failures.into_result()
}

/// The record tells what is in the ruleset; the socket is what the removal still needs.
fn leave_ruleset(attachment: &Attachment, record: Option<&Attached>) -> anyhow::Result<Option<Nft>> {
    let ruleset = record.map(|record| record.ruleset(attachment)).unwrap_or_default();
    if ruleset.is_empty() {
        return Ok(None);
    }
    let mut nft = Nft::open()?;
    ruleset.remove(&mut nft)?;
    Ok(Some(nft))
}

/// What was found of an attachment's links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    /// Ours, or the record says they should have been.
    Ours,
    /// Another plugin's, or none.
    Other,
}

/// The host's end takes the container's with it. Without it and without a record, the interface may be one that another
/// bridge plugin made: it is known by its name in the container.
fn remove_links(
    attachment: &Attachment,
    record: Option<&Attached>,
    netns: Option<&NetnsPath>,
) -> anyhow::Result<Links> {
    let mut host = Netlink::open()?;
    let host_link = record.map_or_else(|| attachment.host_veth(), |record| record.host_link.clone());
    let ours = link::find(&mut host, &host_link)?.filter(|link| belongs(link, attachment));
    if let Some(link) = &ours {
        host.execute(link::remove(&link.dev()))?;
    }
    if ours.is_some() || record.is_some() {
        return Ok(Links::Ours);
    }
    let Some(mut container) = Container::open_if_there(netns)? else { return Ok(Links::Other) };
    if let Some(link) = link::find(&mut container.netlink, attachment.ifname.as_str())?.filter(Link::is_veth)
    {
        container.netlink.execute(link::remove(&link.dev()))?;
    }
    Ok(Links::Other)
}

/// The name is a hash: one in a million nodes has two attachments of one name, of which the second failed to be made.
fn belongs(link: &Link, attachment: &Attachment) -> bool {
    link.is_veth() && link.alias.as_ref().is_none_or(|alias| *alias == attachment.alias())
}

/// After the links: nobody answers for an address that somebody else may get now.
fn release_addresses(
    request: &Request,
    attachment: &Attachment,
    netns: Option<&NetnsPath>,
) -> anyhow::Result<()> {
    match Ipam::resolve(request)? {
        Some(ipam) => ipam.del(request, attachment, netns),
        None => Ok(()),
    }
}

/// The record goes last; with the network's last one goes what its attachments shared.
fn forget(attachment: &Attachment, record: Option<&Attached>) -> anyhow::Result<()> {
    let records = records(&attachment.network);
    records.remove(attachment)?;
    let Some(gateway) = record.and_then(|record| record.vlan_gateway.as_ref()) else {
        records.retire()?;
        return Ok(());
    };
    let _alone = NetworkLock::exclusive(&attachment.network)?;
    if records.retire()? {
        remove_vlan_gateway(gateway).with_context(|| format!("remove the VLAN's gateway {gateway}"))?;
    }
    Ok(())
}

/// The interface on the host that has the VLAN's gateway addresses, unless another network uses it.
fn remove_vlan_gateway(gateway: &str) -> anyhow::Result<()> {
    for other in attach::record::Records::of_every_network("bridge")? {
        if other.all::<Attached>()?.iter().any(|other| other.data.vlan_gateway.as_deref() == Some(gateway)) {
            return Ok(());
        }
    }
    Ok(Netlink::open()?.execute(link::remove_named(gateway))?)
}

/// Detaches every attachment of the network that is not `valid`, and has the address plugin do the same.
pub(crate) fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    for record in failures.note(records(&request.name).all::<Attached>()).unwrap_or_default() {
        let Attachment { network: _, container, ifname } = &record.attachment;
        if !valid.contains(container.as_str(), ifname.as_str()) {
            log::info!("GC: detaching {}", record.attachment);
            failures.note(leave_ruleset(&record.attachment, Some(&record.data)));
            failures.note(remove_links(&record.attachment, Some(&record.data), None));
            failures.note(forget(&record.attachment, Some(&record.data)));
        }
    }
    failures.note(remove_unrecorded(request, valid));
    let attachments =
        valid.0.iter().map(|target| target.clone().on(request.name.clone())).collect::<Vec<_>>();
    failures.note(Nft::open().and_then(|mut nft| remove_stale(&mut nft, &request.name, &attachments)));
    failures.note(match Ipam::resolve(request) {
        Ok(Some(ipam)) => ipam.gc(request, valid),
        Ok(None) => Ok(()),
        Err(err) => Err(err.into()),
    });
    failures.into_result()
}

/// Links that say they are this network's, of attachments whose record is lost.
fn remove_unrecorded(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
    let mut host = Netlink::open()?;
    let prefix = format!("tenon:{}:", request.name);
    for link in link::list_kind(&mut host, "veth")? {
        let Some(owner) = link.alias.as_deref().and_then(|alias| alias.strip_prefix(&prefix)) else {
            continue;
        };
        // An interface's name has no colon, and neither has a container's ID.
        let Some((container, ifname)) = owner.split_once(':') else { continue };
        if !valid.contains(container, ifname) {
            host.execute(link::remove(&link.dev()))?;
        }
    }
    Ok(())
}
