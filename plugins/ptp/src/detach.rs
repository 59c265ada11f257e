//! DEL and GC: everything that an ADD made goes, whatever is left of the container, the config and the record.

use attach::{
    detach::{release_stale_through_links, remove, remove_and_release, sweep},
    failures::Failures,
};
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
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
    let recorded = record.map(|(_, data)| data.recorded(attachment));
    let nft = remove_and_release(request, attachment, netns, &mut failures, |failures| {
        remove(attachment, recorded.as_ref(), netns, failures)
    });
    if failures.is_empty() {
        failures.note(forget(attachment));
    }
    drop(nft);
    failures.into_result()
}

/// The record goes last, when nothing is left to do by it.
fn forget(attachment: &Attachment) -> anyhow::Result<()> {
    let records = records(&attachment.network);
    records.remove(attachment)?;
    records.retire()?;
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
        drop(remove(attachment, Some(&record.data.recorded(attachment)), None, &mut own));
        if own.is_empty() {
            own.note(forget(attachment));
        }
        failures.note(own.into_result());
    }
    sweep(request, valid, &mut failures);
    failures.into_result()
}
