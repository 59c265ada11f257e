//! ADD: an address, and an interface in the container that has it.

use attach::{
    container::Announcement,
    hardware::{End, derived_mac},
    lone::{Adding, Wanted},
};
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
    result::AddResult,
};
use kernel::link;

use crate::{KIND, config::Config};

/// Attaches the container, or fails and leaves nothing behind.
pub(crate) fn add(
    request: &Request,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<AddResult> {
    let config = Config::new(request)?;
    Adding::open(&KIND, request, attachment, netns)?.attach(&Wanted {
        master: None,
        link: &|new| link::add(new.mac(derived_mac(attachment, End::Container)), KIND.link),
        announcement: Announcement::None,
        dns: &config.dns,
    })
}
