//! ADD: an address, and a tap that is born in the container.

use std::fs::File;

use attach::{
    addresses::allocate,
    container::{Container, NewInterface},
    hardware::{End, derived_mac},
    lone::{self, Attached},
    veth::described,
};
use cni::{
    decode::field,
    error::Error,
    names::{Attachment, NetnsPath},
    request::Request,
    result::{AddResult, Interface},
};
use ipam::delegate::Ipam;
use kernel::{
    address::Dad,
    link::{self, Dev, Link},
    mac::MacAddr,
    tun,
};
use serde_json::Value;

use crate::{KIND, bridge, config::Config, labelled};

/// Attaches the container, or fails and leaves nothing behind.
pub(crate) fn add(
    request: &Request,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<AddResult> {
    let config = Config::new(request)?;
    let ipam = Ipam::resolve(request)?;
    refuse_dhcp(request)?;
    let mut container = Container::open(netns)?;
    let device = tun::open(&container.netns)?;
    lone::clear_leftovers(&KIND, request, attachment, &mut container)?;
    let bridge = match &config.bridge {
        Some(name) => Some(bridge::find(&mut container, name)?),
        None => None,
    };
    let mut adding = Adding { request, attachment, netns, config, bridge, container, device };
    adding.run(ipam.as_ref()).inspect_err(|_| {
        if let Err(err) = lone::del(&KIND, request, attachment, Some(netns)) {
            log::error!("{attachment}: after a failed ADD: {err:#}");
        }
    })
}

/// Nobody would hear it: the interface has no carrier before a process attaches, and that is after the ADD.
fn refuse_dhcp(request: &Request) -> Result<(), Error> {
    let ipam = field(&request.config, "ipam").and_then(Value::as_object);
    if ipam.and_then(|ipam| field(ipam, "type")).is_some_and(|kind| kind == "dhcp") {
        let why = "asks through the interface, which carries nothing before a process has its other end";
        return Err(Error::invalid_config("ipam.type", "\"dhcp\"", why));
    }
    Ok(())
}

/// One ADD under way.
struct Adding<'a> {
    request: &'a Request,
    attachment: &'a Attachment,
    netns: &'a NetnsPath,
    config: Config,
    bridge: Option<Dev>,
    container: Container,
    /// What taps are made by.
    device: File,
}

impl Adding<'_> {
    fn run(&mut self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        // Another suite's address plugin may look at the interface.
        let link_first = ipam.is_some_and(Ipam::needs_link);
        let mut result = if link_first { AddResult::default() } else { self.addresses(ipam)? };
        self.record(&result)?;
        let mac = self.config.mac.unwrap_or_else(|| derived_mac(self.attachment, End::Container));
        let link = self.interface(mac)?;
        if link_first {
            self.container.netlink.execute(link::change(&link.dev()).up().request())?;
            result = self.addresses(ipam)?;
            self.record(&result)?;
        }
        result.interfaces = vec![Interface { sandbox: self.netns.as_str().to_owned(), ..described(&link) }];
        let interface = NewInterface { dev: &link.dev(), mac, index: INTERFACE };
        // It is not announced: whoever attaches hears nothing of what was sent before.
        self.container.bring_up(&interface, &result, Dad::Skip)?;
        KIND.records(&self.attachment.network).complete(self.attachment)?;
        if !self.config.dns.is_empty() {
            result.dns = self.config.dns.clone();
        }
        Ok(result)
    }

    fn addresses(&self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        allocate(ipam, self.request, self.attachment, self.netns, INTERFACE)
    }

    fn record(&self, result: &AddResult) -> anyhow::Result<()> {
        let attached = Attached {
            master: None,
            netns: self.netns.as_str().to_owned(),
            addresses: result.ips.iter().map(|ip| ip.address).collect(),
        };
        Ok(KIND.records(&self.attachment.network).begin(self.attachment, &attached)?)
    }

    /// Makes the interface in the container, under its final name, and says what a tap can't be told at birth.
    fn interface(&mut self, mac: MacAddr) -> anyhow::Result<Link> {
        let Self { attachment, config, bridge, container, device, .. } = self;
        let name = attachment.ifname.as_str();
        match &config.label {
            Some(label) => labelled::add_tap(&container.netns, name, &config.tap, label)?,
            None => tun::add_tap(device, name, &config.tap)?,
        }
        let dev = link::by_name(&mut container.netlink, name)?.dev();
        let mut change = link::change(&dev).alias(&attachment.alias()).mac(mac);
        if let Some(mtu) = config.mtu {
            change = change.mtu(mtu);
        }
        if let Some(bridge) = bridge {
            change = change.master(bridge);
        }
        Ok(link::after(&mut container.netlink, vec![change.request()], &dev)?)
    }
}

/// The only interface of the result.
const INTERFACE: usize = 0;
