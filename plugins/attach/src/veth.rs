//! The veth pair between the host and a container.

use cni::{
    names::{Attachment, IfName},
    result::Interface,
};
use kernel::{
    error::Result,
    link::{self, Dev, Link, LinkIndex, Mtu, change::AddrGenMode},
    mac::MacAddr,
    netlink::Netlink,
    netns::Netns,
    veth,
};

use crate::hardware::{End, derived_mac};

/// A pair to be made. Its ends' names follow from the attachment, its MAC addresses are known beforehand.
#[derive(Debug)]
pub struct Pair<'a> {
    pub attachment: &'a Attachment,
    pub container_mac: MacAddr,
    /// Of both ends; the kernel's default if `None`.
    pub mtu: Option<Mtu>,
    /// The bridge of the host's end.
    pub master: Option<LinkIndex>,
}

/// A pair that was made. Both ends are down.
#[derive(Debug)]
pub struct Ends {
    pub host: Link,
    /// In the container's namespace.
    pub container: Dev,
}

impl Pair<'_> {
    /// Makes the pair: each end is born in its namespace under its final name.
    ///
    /// A link that already has the host's name and our alias, or none yet, is what a killed ADD of this attachment left:
    /// it is removed. Anything else of that name is an error.
    pub fn create(&self, host: &mut Netlink, netns: &Netns) -> Result<Ends> {
        match self.try_create(host, netns) {
            Err(err) if err.is_exists() && remove_leftover(host, self.attachment)? => {
                self.try_create(host, netns)
            }
            made => made,
        }
    }

    fn try_create(&self, host: &mut Netlink, netns: &Netns) -> Result<Ends> {
        let Self { attachment, container_mac, mtu, master } = self;
        let host_name = attachment.host_veth();
        let mut near = link::new(&host_name).mac(derived_mac(attachment, End::Host));
        let mut peer = link::new(attachment.ifname.as_str()).mac(*container_mac).in_netns(netns);
        if let Some(mtu) = mtu {
            (near, peer) = (near.mtu(*mtu), peer.mtu(*mtu));
        }
        if let Some(master) = master {
            near = near.master(*master);
        }
        let made = link::create(host, veth::add(near, peer), &host_name)?;
        let index = made.parent.ok_or_else(|| link::missing(attachment.ifname.as_str()))?;
        Ok(Ends { host: made, container: container_dev(index, &attachment.ifname) })
    }
}

fn container_dev(index: LinkIndex, ifname: &IfName) -> Dev {
    Dev { index, name: ifname.to_string() }
}

/// True if there was one.
fn remove_leftover(host: &mut Netlink, attachment: &Attachment) -> Result<bool> {
    let Some(link) = link::find(host, &attachment.host_veth())? else { return Ok(false) };
    let ours = link.is_veth() && link.alias.as_ref().is_none_or(|alias| *alias == attachment.alias());
    if ours {
        log::warn!("{}: removing {} of an ADD that did not end", attachment, link.name);
        host.execute(link::remove(&link.dev()))?;
    }
    Ok(ours)
}

/// The requests that finish the host's end: named after its attachment, without an IPv6 address of its own where it is
/// only a bridge's port, and up.
pub fn finish_host_end(end: &Dev, attachment: &Attachment, port_only: bool) -> Vec<kernel::netlink::Request> {
    let mut requests = Vec::new();
    if port_only {
        // Before it goes up: the kernel makes the address then. It makes none where IPv6 is off, or the MTU below 1280.
        let none = link::change(end).addr_gen_mode(AddrGenMode::None).request();
        requests.push(none.ok_if_unsupported());
    }
    requests.push(link::change(end).alias(&attachment.alias()).up().request());
    requests
}

/// A link as a result describes it, but for where it is.
pub fn described(link: &Link) -> Interface {
    Interface {
        name: link.name.clone(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        ..Interface::default()
    }
}
