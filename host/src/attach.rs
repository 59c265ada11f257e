//! ADD of mode `device`: the interface goes into the container, and gets its addresses there.

use anyhow::Context;
use attach::{
    addresses::allocate,
    container::{Container, NewInterface, kernel_route},
    veth::described,
};
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
    result::{AddResult, Interface},
};
use ipam::delegate::Ipam;
use kernel::{
    address::{self, Dad},
    link::{self, Link},
    netlink::Netlink,
    route,
};

use crate::{
    config::Device,
    detach,
    device::Before,
    find::{self, Sysfs},
    state::{Attached, records},
};

/// Attaches the container, or fails and leaves everything as it was.
pub(crate) fn add(
    request: &Request,
    device: &Device,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<AddResult> {
    let ipam = Ipam::resolve(request)?;
    let mut container = Container::open(netns)?;
    container.require_free(&attachment.ifname)?;
    if records(&attachment.network).find::<Attached>(attachment)?.is_some() {
        detach::del(request, attachment, None).context("detach what an earlier ADD left")?;
    }
    let mut adding = Adding { request, attachment, netns, device, container };
    adding.run(ipam.as_ref()).inspect_err(|_| {
        if let Err(err) = detach::del(request, attachment, Some(netns)) {
            log::error!("{attachment}: after a failed ADD: {err:#}");
        }
    })
}

/// One ADD under way.
struct Adding<'a> {
    request: &'a Request,
    attachment: &'a Attachment,
    netns: &'a NetnsPath,
    device: &'a Device,
    container: Container,
}

impl Adding<'_> {
    fn run(&mut self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        let mut result = if self.device.in_user_space { self.pass_by(ipam)? } else { self.move_in(ipam)? };
        if !self.device.dns.is_empty() {
            result.dns = self.device.dns.clone();
        }
        Ok(result)
    }

    /// There is no link; whoever drives the device reads its addresses in the result.
    fn pass_by(&self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        let mut result = self.addresses(ipam)?;
        result.interfaces = vec![Interface {
            name: self.attachment.ifname.to_string(),
            sandbox: self.netns.as_str().to_owned(),
            ..Interface::default()
        }];
        Ok(result)
    }

    fn move_in(&mut self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        let mut host = Netlink::open()?;
        let device = find::device(&mut host, &self.device.which, &Sysfs::of_this_host())?;
        let link_first = ipam.is_some_and(Ipam::needs_link);
        let mut result = if link_first { AddResult::default() } else { self.addresses(ipam)? };
        let attached =
            Attached { netns: self.netns.as_str().to_owned(), device: Before::of(&mut host, &device)? };
        let records = records(&self.attachment.network);
        records.begin(self.attachment, &attached)?;
        let link = self.carry(&mut host, &device)?;
        if link_first {
            self.container.let_through(&link.dev())?;
            result = self.addresses(ipam)?;
        }
        result.interfaces = vec![Interface { sandbox: self.netns.as_str().to_owned(), ..described(&link) }];
        self.configure(&link, &result)?;
        records.complete(self.attachment)?;
        Ok(result)
    }

    fn addresses(&self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        allocate(ipam, self.request, self.attachment, self.netns, INTERFACE)
    }

    /// Marked first, and then moved and renamed in one request, so that no process in either namespace sees it under a name
    /// that it does not keep.
    fn carry(&mut self, host: &mut Netlink, device: &Link) -> anyhow::Result<Link> {
        let (dev, ifname) = (device.dev(), self.attachment.ifname.as_str());
        let mark = link::change(&dev).alias(&device.name).request();
        let carry = link::change(&dev).netns(&self.container.netns).name(ifname).request();
        host.execute(mark)?;
        host.execute(carry)?;
        Ok(link::by_name(&mut self.container.netlink, ifname)?)
    }

    fn configure(&mut self, link: &Link, result: &AddResult) -> anyhow::Result<()> {
        let dev = link.dev();
        if let Some(mac) = link.mac {
            let interface = NewInterface { dev: &dev, mac, index: INTERFACE };
            self.container.bring_up(&interface, result, Dad::Skip)?;
            // Setting the address that it has is how the kernel is asked to; not every driver lets an interface that is up.
            if let Err(err) = self.container.announce(&interface, result) {
                log::debug!("{err:#}");
            }
            return Ok(());
        }
        // A CAN bus or a tunnel: no neighbours to tell.
        let up = std::iter::once(link::change(&dev).up().request());
        let addresses = result.ips.iter().map(|ip| address::add(&dev, ip.address, Dad::Skip));
        let routes = result.routes.iter().map(|route| route::append(&kernel_route(&dev, route, result)));
        let requests: Vec<_> = up.chain(addresses).chain(routes).collect();
        Ok(self.container.netlink.batch(&requests)?)
    }
}

/// The only interface of the result.
const INTERFACE: usize = 0;
