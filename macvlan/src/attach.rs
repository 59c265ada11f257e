//! ADD: an address, and an interface on the master that is born in the container.

use anyhow::Context;
use attach::{
    addresses::allocate,
    container::{Container, NewInterface},
    hardware::{End, derived_mac},
    lock::NetworkLock,
    lone,
    master::Master,
    veth::described,
};
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
    result::{AddResult, Interface},
};
use ipam::delegate::Ipam;
use kernel::{
    address::Dad,
    link::{self, Link, create::New},
    mac::MacAddr,
    macvlan::{self, Mode},
    netlink::{Netlink, Request as Change},
    probe,
};
use std::net::IpAddr;

use crate::{
    config::Config,
    detach, shim,
    state::{Attached, records},
};

/// Attaches the container, or fails and leaves nothing behind.
pub(crate) fn add(
    request: &Request,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<AddResult> {
    let config = Config::new(request)?;
    let ipam = Ipam::resolve(request)?;
    let (mut container, mut host) = (Container::open(netns)?, Netlink::open()?);
    container.require_free(&attachment.ifname)?;
    let master = config.master.find(request, netns, &mut host, &mut container)?;
    master.require_room(config.mtu)?;
    if records(&attachment.network).find::<Attached>(attachment)?.is_some() {
        detach::del(request, attachment, None).context("detach what an earlier ADD left")?;
    }
    let mut adding = Adding { request, attachment, netns, config, master, container, host };
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
    config: Config,
    master: Master,
    container: Container,
    host: Netlink,
}

impl Adding<'_> {
    fn run(&mut self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        let link_first = ipam.is_some_and(Ipam::needs_link);
        let mut result = if link_first { AddResult::default() } else { self.addresses(ipam)? };
        let mut attached = Attached {
            master: self.master.link.name.clone(),
            netns: self.netns.as_str().to_owned(),
            addresses: addresses_of(&result),
            shim: self.config.host_access.then(|| shim::name(&self.attachment.network)),
        };
        // Whoever removes the shim as the last of the network waits until this attachment is written down and connected.
        let _shared = match attached.shim {
            Some(_) => Some(NetworkLock::shared(&self.attachment.network)?),
            None => None,
        };
        let records = records(&self.attachment.network);
        records.begin(self.attachment, &attached)?;
        let link = self.interface()?;
        if link_first {
            self.container.let_through(&link.dev())?;
            result = self.addresses(ipam)?;
            attached.addresses = addresses_of(&result);
            records.begin(self.attachment, &attached)?;
        }
        result.interfaces = vec![Interface { sandbox: self.netns.as_str().to_owned(), ..described(&link) }];
        self.configure(&link, &result, &attached.addresses)?;
        if self.config.host_access {
            let addresses = &attached.addresses;
            shim::ensure(&mut self.host, &self.attachment.network, &self.master.link, addresses)?;
        }
        records.complete(self.attachment)?;
        if !self.config.dns.is_empty() {
            result.dns = self.config.dns.clone();
        }
        Ok(result)
    }

    /// In a chain without an address plugin, what the one before was given is this interface's.
    fn addresses(&self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        match (ipam, self.request.prev_result()?) {
            (None, Some(mut previous)) => {
                previous.interfaces.clear();
                previous.ips.iter_mut().for_each(|ip| ip.interface = Some(INTERFACE));
                Ok(previous)
            }
            (ipam, _) => allocate(ipam, self.request, self.attachment, self.netns, INTERFACE),
        }
    }

    fn interface(&mut self) -> anyhow::Result<Link> {
        let Self { attachment, config, master, container, host, .. } = self;
        let on_host = (!master.in_container).then_some(host);
        Ok(lone::create(container, on_host, attachment, |new| link_request(attachment, config, master, new))?)
    }

    fn configure(&mut self, link: &Link, result: &AddResult, addresses: &[IpAddr]) -> anyhow::Result<()> {
        let Self { attachment, config, container, .. } = self;
        let dev = link.dev();
        let mut changes = vec![link::change(&dev).alias(&attachment.alias()).request()];
        if config.mode == Mode::Source {
            changes.push(macvlan::set_sources(&dev, &config.sources));
        }
        let mac = link.mac.context("a macvlan has a MAC address")?;
        if config.detect_duplicates {
            container.netlink.execute(link::change(&dev).up().request())?;
            container.netns.run(|| refuse_duplicates(&dev, mac, addresses))??;
        }
        let dad = if config.detect_duplicates { Dad::Probe } else { Dad::Skip };
        let interface = NewInterface { dev: &dev, mac, index: INTERFACE };
        container.bring_up_with(&interface, result, dad, changes)?;
        container.announce(&interface, result)
    }
}

fn link_request(attachment: &Attachment, config: &Config, master: &Master, new: New) -> Change {
    // In mode `passthru` the interface has the master's address, and giving it another changes the master's too.
    let own = || (config.mode != Mode::Passthru).then(|| derived_mac(attachment, End::Container));
    let mut new = match config.mac.or_else(own) {
        Some(mac) => new.mac(mac),
        None => new,
    };
    if let Some(mtu) = config.mtu {
        new = new.mtu(mtu);
    }
    let make = if config.tap { macvlan::add_tap } else { macvlan::add };
    make(new, master.link.index, config.mode, config.broadcast_queue)
}

/// IPv6 does it by itself, with `Dad::Probe`.
fn refuse_duplicates(dev: &link::Dev, mac: MacAddr, addresses: &[IpAddr]) -> anyhow::Result<()> {
    for address in addresses {
        let IpAddr::V4(v4) = address else { continue };
        if let Some(owner) = probe::owner(dev, mac, *v4)? {
            anyhow::bail!("address {v4} is in use on the network, by {owner}");
        }
    }
    Ok(())
}

fn addresses_of(result: &AddResult) -> Vec<IpAddr> {
    result.ips.iter().map(|ip| ip.address.ip()).collect()
}

/// The only interface of the result.
const INTERFACE: usize = 0;
