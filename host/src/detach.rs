//! DEL and GC: the device goes back to the host, wherever it is by now, and becomes what it was.

use anyhow::Context;
use attach::{
    container::Container,
    detach::{release_stale_through_links, remove_and_release},
    failures::Failures,
    record::Records,
};
use cni::{
    names::{Attachment, IfName, NetnsPath},
    request::{Request, ValidAttachments},
};
use ipam::delegate::Ipam;
use kernel::{
    link::{self, Link},
    netlink::Netlink,
    netns::Netns,
};

use crate::{
    device::Before,
    state::{Attached, records},
};

/// Detaches the container. Goes on past errors and reports them together; doing it again is fine. Reads nothing of the
/// configuration but `ipam`.
pub(crate) fn del(
    request: &Request,
    attachment: &Attachment,
    netns: Option<&NetnsPath>,
) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let record = failures.note(records(&attachment.network).find::<Attached>(attachment)).flatten();
    let returned = remove_and_release(request, attachment, netns, &mut failures, |failures| {
        failures.note(match &record {
            Some((_, attached)) => give_back(attached, netns),
            None => give_back_unrecorded(attachment, netns),
        })
    });
    if returned.is_some() && record.is_some() {
        failures.note(forget(attachment));
    }
    failures.into_result()
}

fn forget(attachment: &Attachment) -> anyhow::Result<()> {
    Ok(records(&attachment.network).forget(attachment)?)
}

/// Looks for the device where `netns` says, where the ADD put it, and on the host, to which the kernel takes it when its
/// namespace ends.
fn give_back(attached: &Attached, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
    let Attached { netns: recorded, device } = attached;
    let recorded = NetnsPath::new(recorded.as_str());
    let mut host = Netlink::open()?;
    let mut namespace_is_there = false;
    for path in netns.into_iter().chain(Some(&recorded).filter(|recorded| netns != Some(recorded))) {
        let Some(mut container) = Container::open_if_there(Some(path))? else { continue };
        namespace_is_there = true;
        if let Some(link) = device.find(&mut container.netlink)? {
            carry_back(&mut container, &link, &device.name)?;
            break;
        }
    }
    let found = match device.find(&mut host)? {
        // Hardware is on its way.
        None if device.hardware && !namespace_is_there => device.wait(&mut host)?,
        found => found,
    };
    match found {
        Some(link) => device.restore(&mut host, &link).with_context(|| restoring(device)),
        None => {
            log::info!("{}: it is in no namespace that is known, or ended with its own", device.name);
            Ok(())
        }
    }
}

fn restoring(device: &Before) -> String {
    format!("make {} what it was", device.name)
}

/// Under its old name where that is free, else under one that the kernel finds.
fn carry_back(container: &mut Container, link: &Link, name: &str) -> anyhow::Result<()> {
    let host = Netns::current()?;
    let to = |name: &str| link::change(&link.dev()).netns(&host).name(name).request();
    match container.netlink.execute(to(name)) {
        Err(err) if err.is_exists() => {
            // It may have been moved, and only not renamed.
            if link::by_index(&mut container.netlink, link.index).is_ok_and(|there| there.name == link.name) {
                container.netlink.execute(to(ANY_NAME))?;
            }
            Ok(())
        }
        carried => Ok(carried?),
    }
}

/// Of a device without a record, which the reference's plugin may have brought, its `ifalias` says the name on the host. It
/// is left down, as there.
fn give_back_unrecorded(attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
    let Some(mut container) = Container::open_if_there(netns)? else { return Ok(()) };
    let Some(link) = link::find(&mut container.netlink, attachment.ifname.as_str())? else { return Ok(()) };
    let Some(name) = link.alias.as_ref().and_then(|alias| alias.parse::<IfName>().ok()) else {
        return Ok(());
    };
    if is_another_networks(attachment)? {
        return Ok(());
    }
    carry_back(&mut container, &link, name.as_str())?;
    let mut host = Netlink::open()?;
    match link::list(&mut host)?.into_iter().find(|there| there.alias.as_deref() == Some(name.as_str())) {
        Some(back) => Ok(host.execute(link::change(&back.dev()).alias("").request())?),
        None => Ok(()),
    }
}

/// Whether the container's interface of that name is recorded for another network: then this one's ADD never succeeded.
fn is_another_networks(attachment: &Attachment) -> anyhow::Result<bool> {
    let Attachment { network: _, container, ifname } = attachment;
    for records in Records::of_every_network("host")? {
        let all = records.all::<Attached>()?;
        if all
            .iter()
            .any(|record| record.attachment.container == *container && record.attachment.ifname == *ifname)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Detaches every attachment of the network that is not `valid`, and has the address plugin do the same.
pub(crate) fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    release_stale_through_links(request, valid, &mut failures);
    for record in failures.note(records(&request.name).all::<Attached>()).unwrap_or_default() {
        let attachment = &record.attachment;
        if valid.contains(attachment.container.as_str(), attachment.ifname.as_str()) {
            continue;
        }
        let mut own = Failures::default();
        own.note(give_back(&record.data, None));
        if own.is_empty() {
            own.note(forget(attachment));
        }
        failures.note(own.into_result());
    }
    failures.note(match Ipam::resolve(request) {
        Ok(Some(ipam)) if !ipam.needs_link() => ipam.gc(request, valid),
        Ok(_) => Ok(()),
        Err(err) => Err(err.into()),
    });
    failures.into_result()
}

/// `dev_alloc_name` puts a number in.
const ANY_NAME: &str = "dev%d";
