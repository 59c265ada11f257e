//! DEL and GC: everything that an ADD made goes, whatever is left of the container, the config and the record.

use attach::{
    detach::{release_stale_through_links, remove, remove_and_release, sweep},
    failures::Failures,
    ruleset::legacy,
};
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
};

use kernel::nft::Nft;

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
        let nft = remove(attachment, recorded.as_ref(), netns, failures);
        if recorded.is_none() {
            failures.note(leave_supposed(request, attachment));
        }
        nft
    });
    if failures.is_empty() {
        failures.note(forget(attachment));
    }
    drop(nft);
    failures.into_result()
}

/// Without a record: what the configuration says that there was in the ruleset, of ours or of the Go plugin's.
fn leave_supposed(request: &Request, attachment: &Attachment) -> anyhow::Result<()> {
    // One that can't be read keeps nothing of what has names.
    let result = request.prev_result().ok().flatten().unwrap_or_default();
    let supposed = match Attached::supposed(request, attachment, &result) {
        Ok(supposed) if supposed.masquerade => supposed,
        Ok(_) => return Ok(()),
        Err(err) => {
            log::info!("{attachment}: no record, and the configuration does not tell either: {err}");
            return Ok(());
        }
    };
    let mut nft = Nft::open()?;
    supposed.ruleset(attachment).remove(&mut nft)?;
    legacy::remove_masquerade(&mut nft, attachment, &supposed.addresses)
}

/// The record goes last, when nothing is left to do by it.
fn forget(attachment: &Attachment) -> anyhow::Result<()> {
    Ok(records(&attachment.network).forget(attachment)?)
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
