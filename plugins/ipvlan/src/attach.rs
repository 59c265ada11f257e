//! ADD: an address, and an interface on the master that is born in the container.

use attach::{
    container::Announcement,
    lone::{Adding, Wanted},
};
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
    result::AddResult,
};
use kernel::{ipvlan, link::create::New};

use crate::{KIND, config::Config};

/// Attaches the container, or fails and leaves nothing behind.
pub(crate) fn add(
    request: &Request,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<AddResult> {
    let config = Config::new(request)?;
    let mut adding = Adding::open(&KIND, request, attachment, netns)?;
    let master = config.master.find(request, netns, &mut adding.host, &mut adding.container)?;
    // The MAC address is the master's, and nothing else can be given.
    let link = |new: New| {
        let new = match config.mtu {
            Some(mtu) => new.mtu(mtu),
            None => new,
        };
        ipvlan::add(new, master.link.index, config.mode)
    };
    adding.attach(&Wanted {
        master: Some(&master),
        link: &link,
        announcement: Announcement::GoingUp,
        dns: &config.dns,
    })
}
