//! GC by records: what the record of an attachment that is gone says is taken back.

use attach::{failures::Failures, record::Records};
use cni::{
    names::Attachment,
    request::{Request, ValidAttachments},
};
use serde::de::DeserializeOwned;

/// Has `detach` take back each of the plugin's attachments to the network that is not `valid`. Goes on past errors.
pub(crate) fn detach_each<T: DeserializeOwned>(
    plugin: &str,
    request: &Request,
    valid: &ValidAttachments,
    failures: &mut Failures,
    detach: impl Fn(&Attachment, T) -> anyhow::Result<()>,
) {
    let records = Records::of(plugin, &request.name).all::<T>();
    for record in failures.note(records).unwrap_or_default() {
        let Attachment { network: _, container, ifname } = &record.attachment;
        if !valid.contains(container.as_str(), ifname.as_str()) {
            log::info!("GC: {plugin}: detaching {}", record.attachment);
            failures.note(detach(&record.attachment, record.data));
        }
    }
}
