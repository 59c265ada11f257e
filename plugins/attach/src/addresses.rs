//! The addresses of an attachment: from the address plugin that the configuration names, and in the result of its chain.

use cni::{
    error::Error,
    names::{Attachment, NetnsPath},
    request::Request,
    result::{AddResult, Interface},
};
use ipam::delegate::Ipam;
use ipnetwork::IpNetwork;
use serde_json::Value;

/// What the address plugin gives, all of it for the result's `interface`th interface; nothing where there is none. An answer
/// without an address is an error (code 7): the caller's DEL gives back what there may be.
pub fn allocate(
    ipam: Option<&Ipam>,
    request: &Request,
    attachment: &Attachment,
    netns: &NetnsPath,
    interface: usize,
) -> anyhow::Result<AddResult> {
    let Some(ipam) = ipam else { return Ok(AddResult::default()) };
    let mut result = ipam.add(request, attachment, netns)?;
    if result.ips.is_empty() {
        let value = cni::decode::field(&request.config, "ipam").unwrap_or(&Value::Null);
        return Err(Error::invalid_config("ipam", value, "the address plugin gave no address").into());
    }
    result.interfaces.clear();
    result.ips.iter_mut().for_each(|ip| ip.interface = Some(interface));
    Ok(result)
}

/// Where the attachment's interface stands in the result of its chain, and the addresses that are its: those that name it, or no
/// interface at all.
pub fn of_attachment(result: &AddResult, attachment: &Attachment) -> (Option<usize>, Vec<IpNetwork>) {
    let is_it =
        |interface: &Interface| interface.name == attachment.ifname.as_str() && !interface.sandbox.is_empty();
    let inside = result.interfaces.iter().position(is_it);
    let own = result.ips.iter().filter(|ip| ip.interface.is_none() || ip.interface == inside);
    (inside, own.map(|ip| ip.address).collect())
}
