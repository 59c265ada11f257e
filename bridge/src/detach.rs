//! DEL and GC: everything that an ADD made goes, whatever is left of the container, the config and the record.

use anyhow::Context;
use attach::{
    detach::{Recorded, release_stale_through_links, remove, remove_and_release, sweep},
    failures::Failures,
    lock::NetworkLock,
    record::Records,
    ruleset::legacy,
};
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
};
use kernel::{link, netlink::Netlink, nft::Nft};

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
    let recorded = record.as_ref().map(|record| recorded(attachment, record));
    let nft = remove_and_release(request, attachment, netns, &mut failures, |failures| {
        let nft = remove(attachment, recorded.as_ref(), netns, failures);
        if record.is_none() {
            failures.note(leave_supposed(request, attachment));
        }
        nft
    });
    if failures.is_empty() {
        failures.note(forget(attachment, record.as_ref()));
    }
    drop(nft);
    failures.into_result()
}

fn recorded(attachment: &Attachment, record: &Attached) -> Recorded {
    Recorded { host_link: record.host_link.clone(), ruleset: record.ruleset(attachment) }
}

/// Without a record: what the configuration says that there was in the ruleset, of ours or of the Go plugin's.
fn leave_supposed(request: &Request, attachment: &Attachment) -> anyhow::Result<()> {
    let supposed = match Attached::supposed(request, attachment) {
        Ok(supposed) if supposed.masquerade || supposed.check_mac_spoofing => supposed,
        Ok(_) => return Ok(()),
        Err(err) => {
            log::info!("{attachment}: no record, and the configuration does not tell either: {err}");
            return Ok(());
        }
    };
    let mut nft = Nft::open()?;
    let mut failures = Failures::default();
    failures.note(supposed.ruleset(attachment).remove(&mut nft));
    if supposed.masquerade {
        failures.note(legacy::remove_masquerade(&mut nft, attachment, &supposed.addresses));
    }
    if supposed.check_mac_spoofing {
        failures.note(legacy::remove_spoof_check(&mut nft, attachment));
    }
    failures.into_result()
}

/// The record goes last, when nothing is left to do by it; with the network's last one goes what its attachments shared.
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
    for other in Records::of_every_network("bridge")? {
        if other.all::<Attached>()?.iter().any(|other| other.data.vlan_gateway.as_deref() == Some(gateway)) {
            return Ok(());
        }
    }
    Ok(Netlink::open()?.execute(link::remove_named(gateway))?)
}

/// Detaches every attachment of the network that is not `valid`, and has the address plugin do the same.
pub(crate) fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    release_stale_through_links(request, valid, &mut failures);
    for record in failures.note(records(&request.name).all::<Attached>()).unwrap_or_default() {
        let Attachment { network: _, container, ifname } = &record.attachment;
        if valid.contains(container.as_str(), ifname.as_str()) {
            continue;
        }
        log::info!("GC: detaching {}", record.attachment);
        let mut own = Failures::default();
        drop(remove(&record.attachment, Some(&recorded(&record.attachment, &record.data)), None, &mut own));
        if own.is_empty() {
            own.note(forget(&record.attachment, Some(&record.data)));
        }
        failures.note(own.into_result());
    }
    let keep: Vec<_> = valid.0.iter().map(|target| target.clone().on(request.name.clone())).collect();
    failures.note(records(&request.name).remove_unreadable::<Attached>(&keep));
    sweep(request, valid, &mut failures);
    failures.into_result()
}
