//! DEL and GC: everything that an ADD made goes, whatever is left of the container, the config, the agent and the record.

use ::attach::{
    detach::{remove, sweep},
    failures::Failures,
};
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    run::Plugin,
};
use ipam::host_local::HostLocal;

use super::{
    config::for_host_local,
    record::{Attached, records},
};

/// Detaches the container. Goes on past errors and reports them together; doing it again is fine.
pub(crate) fn del(
    request: &Request,
    attachment: &Attachment,
    netns: Option<&NetnsPath>,
) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    let record = failures.note(records(&attachment.network).find::<Attached>(attachment)).flatten();
    let recorded = record.map(|(_, data)| data.recorded(attachment));
    let nft = remove(attachment, recorded.as_ref(), netns, &mut failures);
    failures.note(release(request, attachment, netns));
    if failures.is_empty() {
        failures.note(forget(attachment));
    }
    drop(nft);
    failures.into_result()
}

fn release(request: &Request, attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
    HostLocal::del(&for_host_local(request, None, None)?, attachment, netns)
}

/// The record goes last, when nothing is left to do by it.
fn forget(attachment: &Attachment) -> anyhow::Result<()> {
    Ok(records(&attachment.network).forget(attachment)?)
}

/// Detaches every attachment of the network that is not `valid`, and has their addresses given back.
pub(crate) fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    for record in failures.note(records(&request.name).all::<Attached>()).unwrap_or_default() {
        let Attachment { network: _, container, ifname } = &record.attachment;
        if valid.contains(container.as_str(), ifname.as_str()) {
            continue;
        }
        log::info!("GC: detaching {}", record.attachment);
        let mut own = Failures::default();
        let recorded = record.data.recorded(&record.attachment);
        drop(remove(&record.attachment, Some(&recorded), None, &mut own));
        if own.is_empty() {
            own.note(forget(&record.attachment));
        }
        failures.note(own.into_result());
    }
    // The addresses are given back by our own code, not by what CNI_PATH may have under the name of host-local.
    let mut links_and_rules = request.clone();
    links_and_rules.config.retain(|key, _| !key.eq_ignore_ascii_case("ipam"));
    sweep(&links_and_rules, valid, &mut failures);
    failures.note(HostLocal::gc(&for_host_local(request, None, None)?, valid));
    failures.into_result()
}
