//! CHECK and STATUS of mode `device`.

use attach::{
    check::{addresses, container_interface, link_in_container, routes},
    container::Container,
};
use cni::{
    error::{Code, Error},
    names::{Attachment, NetnsPath},
    request::Request,
};
use ipam::delegate::Ipam;
use kernel::{link, netlink::Netlink};

use crate::{
    config::{Device, NetConf},
    state::{Attached, records},
};

/// What ADD made is still there.
pub(crate) fn check(
    request: &Request,
    device: &Device,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<()> {
    let result = request.required_prev_result()?;
    let (index, _) = container_interface(&result, attachment, netns)?;
    if let Some(ipam) = Ipam::resolve(request)? {
        ipam.check(request, attachment, netns)?;
    }
    if device.in_user_space {
        return Ok(());
    }
    let mut container = Container::open(netns)?;
    let link = link_in_container(&mut container, attachment.ifname.as_str(), false)?;
    addresses(&mut container.netlink, &link, &result, index)?;
    routes(&mut container.netlink, &link, &result)
}

/// Fails, with code 50, when a device that the configuration names is neither on the host nor with one of the network's
/// containers: then it is gone. One that a container has is in use, which is no fault of the node.
pub(crate) fn status(request: &Request) -> anyhow::Result<()> {
    let name = request.decode::<NetConf>()?.device;
    if !name.is_empty() && link::find(&mut Netlink::open()?, &name)?.is_none() {
        let attached = records(&request.name).all::<Attached>()?;
        let is_it =
            |attached: &Attached| attached.device.name == name || attached.device.altnames.contains(&name);
        if !attached.iter().any(|record| is_it(&record.data)) {
            let what = format!("device: {name:?}: is neither on the host nor with a container");
            return Err(Error::new(Code::NotAvailable, what).into());
        }
    }
    match Ipam::resolve(request)? {
        Some(ipam) => ipam.status(request),
        None => Ok(()),
    }
}
