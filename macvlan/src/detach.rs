//! DEL and GC. They need no master: it may be gone, and its macvlans with it.

use attach::{
    detach::{release_stale_through_links, remove_and_release, sweep},
    failures::Failures,
    lock::NetworkLock,
    lone,
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
        failures.note(lone::remove(attachment, netns, is_macvlan))
    });
    if failures.is_empty() {
        failures.note(forget(attachment, record.as_ref()));
    }
    failures.into_result()
}

fn is_macvlan(link: &Link) -> bool {
    matches!(link.kind, Some(Kind::Macvlan(_) | Kind::Macvtap(_)))
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
        let netns = NetnsPath::new(record.data.netns.as_str());
        own.note(lone::remove(attachment, Some(&netns), is_macvlan));
        if own.is_empty() {
            own.note(forget(attachment, Some(&record.data)));
        }
        failures.note(own.into_result());
    }
    sweep(request, valid, &mut failures);
    failures.into_result()
}
