//! ADD: an address, a veth pair, and the host as the router at its other end.

use anyhow::Context;
use attach::{
    addresses::allocate,
    container::{Container, NewInterface},
    gateway::{self, Gateway},
    hardware::{End, derived_mac},
    link_local,
    veth::{Pair, described, finish_host_end},
};
use cni::{
    names::{Attachment, NetnsPath},
    request::Request,
    result::{AddResult, Interface},
};
use ipam::delegate::Ipam;
use ipnetwork::IpNetwork;
use kernel::{
    address::{self, Dad},
    forwarding,
    link::{Dev, Mtu},
    netlink::{Netlink, Request as Change},
    nft::Nft,
    route::{self, PROTOCOL_KERNEL, Route, SCOPE_LINK},
};

use crate::{
    config::Config,
    detach,
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
    let (mut container, host) = (Container::open(netns)?, Netlink::open()?);
    container.require_free(&attachment.ifname)?;
    if records(&attachment.network).find::<Attached>(attachment)?.is_some() {
        detach::del(request, attachment, None).context("detach what an earlier ADD left")?;
    }
    let mut adding = Adding { request, attachment, netns, config, container, host };
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
    container: Container,
    host: Netlink,
}

impl Adding<'_> {
    fn run(&mut self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        let mut result = allocate(ipam, self.request, self.attachment, self.netns, CONTAINER_INTERFACE)?;
        let gateways = gateway::complete(&mut result, Gateway::Router)?;
        let mtu = self.config.mtu.of_veth(&mut self.host)?;
        self.record(&result)?;
        self.interfaces(mtu, &gateways, &mut result)?;
        if gateways.iter().any(IpNetwork::is_ipv4) {
            forwarding::enable_v4()?;
        }
        if gateways.iter().any(IpNetwork::is_ipv6) {
            forwarding::enable_v6(&mut self.host)?;
        }
        records(&self.attachment.network).complete(self.attachment)?;
        if let Some(dns) = &self.config.dns {
            result.dns = dns.clone();
        }
        Ok(result)
    }

    fn record(&self, result: &AddResult) -> anyhow::Result<()> {
        let attached = Attached {
            host_link: self.attachment.host_veth(),
            netns: self.netns.as_str().to_owned(),
            addresses: result.ips.iter().map(|ip| ip.address).collect(),
            masquerade: self.config.masquerade,
        };
        records(&self.attachment.network).begin(self.attachment, &attached)?;
        let ruleset = attached.ruleset(self.attachment);
        if !ruleset.is_empty() {
            ruleset.add(&mut Nft::open()?)?;
        }
        Ok(())
    }

    fn interfaces(
        &mut self,
        mtu: Option<Mtu>,
        gateways: &[IpNetwork],
        result: &mut AddResult,
    ) -> anyhow::Result<()> {
        let Self { attachment, netns, config, container, host, .. } = self;
        let mac = config.mac.unwrap_or_else(|| derived_mac(attachment, End::Container));
        let pair = Pair { attachment, container_mac: mac, mtu, master: None };
        let ends = pair.create(host, &container.netns)?;
        let near = ends.host.dev();
        let mut changes = finish_host_end(&near, attachment, false);
        if gateways.iter().any(IpNetwork::is_ipv6) {
            changes.extend(link_local::usable_at_once(&near, derived_mac(attachment, End::Host)));
        }
        changes.extend(router(&near, gateways, result));
        host.batch(&changes)?;
        result.interfaces = vec![
            described(&ends.host),
            Interface {
                name: attachment.ifname.to_string(),
                mac: mac.to_string(),
                sandbox: netns.as_str().to_owned(),
                ..described(&ends.host)
            },
        ];
        let interface = NewInterface { dev: &ends.container, mac, index: CONTAINER_INTERFACE };
        let through_the_host = through_the_host(&ends.container, result);
        container.bring_up_with(&interface, result, Dad::Skip, through_the_host)?;
        container.announce_to(host, &near, &interface, result)
    }
}

/// On the host: the gateways' addresses, each alone, and a route to each of the container's.
fn router(near: &Dev, gateways: &[IpNetwork], result: &AddResult) -> Vec<Change> {
    let addresses = gateways.iter().map(|gateway| address::add(near, gateway.ip().into(), Dad::Skip));
    let routes = result.ips.iter().map(|ip| {
        let to = Route::to(ip.address.ip().into());
        route::add(&Route { dev: Some(near.index), scope: SCOPE_LINK, ..to })
    });
    addresses.chain(routes).collect()
}

/// In the container: veth has no point-to-point addresses, so the address comes with its subnet, whose route then leads
/// through the gateway instead of to the link.
fn through_the_host(dev: &Dev, result: &AddResult) -> Vec<Change> {
    let mut changes = Vec::new();
    // Two addresses of one subnet have its routes in common.
    for ip in &result.ips {
        let Some(gateway) = ip.gateway else { continue };
        let subnet = Route { dev: Some(dev.index), ..Route::to(ip.address) };
        let is_alone =
            ip.address.network() == ip.address.ip() && ip.address == IpNetwork::from(ip.address.ip());
        if !is_alone {
            let connected = Route { scope: SCOPE_LINK, protocol: PROTOCOL_KERNEL, ..subnet.clone() };
            changes.push(route::remove(&connected));
        }
        let to_gateway = Route { dev: Some(dev.index), scope: SCOPE_LINK, ..Route::to(gateway.into()) };
        // Beside that of another interface on this network.
        changes.push(route::append(&to_gateway).ok_if_exists());
        if !is_alone {
            changes.push(route::add(&Route { gateway: Some(gateway), ..subnet }).ok_if_exists());
        }
    }
    changes
}

/// Where the container's interface stands in the result, after the host's end.
pub(crate) const CONTAINER_INTERFACE: usize = 1;
