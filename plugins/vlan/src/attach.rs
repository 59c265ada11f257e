//! ADD: an address, and the interface of a VLAN on the master, that is born in the container.

use attach::{
    container::Announcement,
    lone::{Adding, Wanted},
    master::Master,
};
use cni::{
    error::Error,
    names::{Attachment, NetnsPath},
    request::Request,
    result::AddResult,
};
use kernel::{link::create::New, vlan};

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
    master.require_room(config.mtu)?;
    if !master.link.is_up() {
        let why = "is down, and a VLAN's interface can't go up before the link that it is on";
        return Err(Error::invalid_config("master", &master.link.name, why).into());
    }
    let link = |new: New| {
        let new = match config.mtu {
            Some(mtu) => new.mtu(mtu),
            None => new,
        };
        vlan::add(new, master.link.index, config.id)
    };
    let attached = adding.attach(&Wanted {
        master: Some(&master),
        link: &link,
        announcement: Announcement::ByMac,
        dns: &config.dns,
    });
    attached.map_err(|err| explain(err, &config, &master))
}

/// The name was seen to be free: what is there already is the VLAN.
fn explain(err: anyhow::Error, config: &Config, master: &Master) -> anyhow::Error {
    let refused = err.downcast_ref::<kernel::error::Error>();
    if !refused.is_some_and(|err| err.is_exists() && err.act().starts_with("add vlan ")) {
        return err;
    }
    let why =
        format!("{} has an interface for this VLAN already, in this or another namespace", master.link.name);
    Error::invalid_config("vlanId", config.id, why).into()
}
