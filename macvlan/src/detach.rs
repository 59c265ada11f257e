//! DEL and GC. They need no master: it may be gone, and its macvlans with it.

use attach::{
    container::Container,
    detach::{release_stale_through_links, remove_and_release, sweep},
    failures::Failures,
    lock::NetworkLock,
};
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
};
use kernel::{
    link::{self, Kind, Link},
    netlink::Netlink,
};

use crate::{
    shim,
    state::{Attached, records},
};

/// Detaches the container. Goes on past errors and reports them together; doing it again is fine.
pub(crate) fn del(
    request: &Request,
    attachment: &Attachment,
    netns: Option<&NetnsPath>,
) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let record = failures.note(records(&attachment.network).find::<Attached>(attachment)).flatten();
    let record = record.map(|(_, data)| data);
    remove_and_release(request, attachment, netns, &mut failures, |failures| {
        failures.note(remove_link(attachment, netns))
    });
    if failures.is_empty() {
        failures.note(forget(attachment, record.as_ref()));
    }
    failures.into_result()
}

/// An interface without our mark may be one that another suite's macvlan plugin made; one with another attachment's mark is
/// in a namespace that the path has come to name since.
fn remove_link(attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
    let Some(mut container) = Container::open_if_there(netns)? else { return Ok(()) };
    let mut names = vec![attachment.ifname.to_string(), format!("mvt{}", attachment.hash(11))];
    names.dedup();
    for name in names {
        let found = link::find(&mut container.netlink, &name)?;
        if let Some(link) = found.filter(|link| is_macvlan(link) && belongs(link, attachment)) {
            container.netlink.execute(link::remove(&link.dev()))?;
        }
    }
    Ok(())
}

fn is_macvlan(link: &Link) -> bool {
    matches!(link.kind, Some(Kind::Macvlan(_) | Kind::Macvtap(_)))
}

fn belongs(link: &Link, attachment: &Attachment) -> bool {
    link.alias.as_ref().is_none_or(|alias| *alias == attachment.alias())
}

/// The record goes last, when nothing is left to do by it; with the network's last one goes its shim.
fn forget(attachment: &Attachment, record: Option<&Attached>) -> anyhow::Result<()> {
    let records = records(&attachment.network);
    let Some((record, shim)) = record.and_then(|record| Some((record, record.shim.as_ref()?))) else {
        records.remove(attachment)?;
        records.retire()?;
        return Ok(());
    };
    let mut host = Netlink::open()?;
    shim::remove_routes(&mut host, shim, &record.addresses)?;
    records.remove(attachment)?;
    let _alone = NetworkLock::exclusive(&attachment.network)?;
    if records.retire()? {
        host.execute(link::remove_named(shim))?;
    }
    Ok(())
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
        own.note(remove_link(attachment, Some(&NetnsPath::new(record.data.netns.as_str()))));
        if own.is_empty() {
            own.note(forget(attachment, Some(&record.data)));
        }
        failures.note(own.into_result());
    }
    sweep(request, valid, &mut failures);
    failures.into_result()
}
