//! ADD: an address of this host's subnets, a veth pair, a port of the network's bridge.

use ::attach::{
    container::{Container, NewInterface},
    gateway::{self, Gateway},
    hardware::{End, derived_mac},
    host_bridge::{self, Wishes},
    record::State,
    veth::{Pair, described, finish_host_end},
};
use anyhow::Context;
use cni::{
    error::Code,
    names::{Attachment, NetnsPath},
    request::Request,
    result::{AddResult, Interface},
    run::Plugin,
};
use ipam::host_local::HostLocal;
use ipnetwork::IpNetwork;
use kernel::{
    address::Dad,
    bridge::{self, PortOptions},
    forwarding,
    link::{self, Link, Mtu},
    netlink::Netlink,
    nft::Nft,
};

use super::{
    config::{Config, for_host_local},
    detach,
    record::{Attached, records},
};
use crate::state::LocalState;

/// Attaches the container, or fails and leaves nothing behind.
pub(crate) fn add(
    request: &Request,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<AddResult> {
    let config = Config::new(request)?;
    let state = config.owner_state(Code::TryAgainLater)?;
    let mut container = Container::open(netns)?;
    container.require_free(&attachment.ifname)?;
    clear_leftovers(request, attachment)?;
    let mut adding = Adding { request, attachment, netns, config, state, container, host: Netlink::open()? };
    // From here on something may have changed.
    adding.run().inspect_err(|_| {
        if let Err(err) = detach::del(request, attachment, Some(netns)) {
            log::error!("{attachment}: after a failed ADD: {err:#}");
        }
    })
}

/// A record of this attachment, whose interface is free in the namespace, is of an ADD that was killed or of a container
/// that is gone without a DEL.
fn clear_leftovers(request: &Request, attachment: &Attachment) -> anyhow::Result<()> {
    match records(&attachment.network).find::<Attached>(attachment)? {
        None => return Ok(()),
        Some((State::Complete, _)) => {
            log::warn!("{attachment}: attached before and never detached; detaching first");
        }
        Some((State::Pending, _)) => {}
    }
    detach::del(request, attachment, None).context("detach what an earlier ADD left")
}

/// One ADD under way.
struct Adding<'a> {
    request: &'a Request,
    attachment: &'a Attachment,
    netns: &'a NetnsPath,
    config: Config,
    state: LocalState,
    container: Container,
    host: Netlink,
}

impl Adding<'_> {
    fn run(&mut self) -> anyhow::Result<AddResult> {
        let mut result = self.allocate()?;
        let router = if self.config.default_gateway { Gateway::DefaultRouter } else { Gateway::Router };
        let gateways = gateway::complete(&mut result, router)?;
        let mtu = Mtu::try_from(u32::from(self.state.mtu))?;
        let wishes = Wishes {
            name: self.config.bridge(&self.state)?,
            mtu: Some(mtu),
            promiscuous: None,
            vlan_filtering: false,
        };
        let bridge = self.bridge(&wishes)?;
        self.record(&wishes, &result)?;
        self.route(&bridge, &gateways)?;
        self.interfaces(&bridge, mtu, &mut result)?;
        records(&self.attachment.network).complete(self.attachment)?;
        if !self.config.dns.is_empty() {
            result.dns = self.config.dns.clone();
        }
        Ok(result)
    }

    fn allocate(&self) -> anyhow::Result<AddResult> {
        let request = for_host_local(self.request, Some(&self.config), Some(&self.state))?;
        let mut result = HostLocal::add(&request, self.attachment, self.netns)?;
        result.interfaces.clear();
        result.ips.iter_mut().for_each(|ip| ip.interface = Some(CONTAINER_INTERFACE));
        Ok(result)
    }

    fn bridge(&mut self, wishes: &Wishes) -> anyhow::Result<Link> {
        let Some(bridge) = host_bridge::find(&mut self.host, &wishes.name)? else {
            return host_bridge::create(&mut self.host, wishes);
        };
        let mismatches = host_bridge::mismatches(&bridge, wishes);
        host_bridge::reconcile(&mut self.host, &bridge, &mismatches)?;
        if !bridge.is_up() {
            self.host.execute(link::change(&bridge.dev()).up().request())?;
        }
        Ok(bridge)
    }

    /// Writes down what will be made, and makes what goes into the ruleset.
    fn record(&self, wishes: &Wishes, result: &AddResult) -> anyhow::Result<()> {
        let attached = Attached {
            bridge: wishes.name.to_string(),
            host_link: self.attachment.host_veth(),
            netns: self.netns.as_str().to_owned(),
            addresses: result.ips.iter().map(|ip| ip.address).collect(),
            masquerade_beyond: self.config.masquerade.then(|| self.state.pools.clone()),
        };
        records(&self.attachment.network).begin(self.attachment, &attached)?;
        let ruleset = attached.ruleset(self.attachment);
        if !ruleset.is_empty() {
            ruleset.add(&mut Nft::open()?)?;
        }
        Ok(())
    }

    /// The host becomes the router of its subnets.
    fn route(&mut self, bridge: &Link, gateways: &[IpNetwork]) -> anyhow::Result<()> {
        // The bridge is the network's own: a gateway of another subnet is of one that this host had before.
        let changes = host_bridge::address_changes(&mut self.host, bridge, gateways, true)?;
        self.host.batch(&changes)?;
        if gateways.iter().any(IpNetwork::is_ipv4) {
            forwarding::enable_v4()?;
        }
        if gateways.iter().any(IpNetwork::is_ipv6) {
            forwarding::enable_v6(&mut self.host)?;
        }
        Ok(())
    }

    /// The pair, the port, and the container's side; completes the result.
    fn interfaces(&mut self, bridge: &Link, mtu: Mtu, result: &mut AddResult) -> anyhow::Result<()> {
        let Self { attachment, netns, config, container, host, .. } = self;
        let mac = config.container_mac(attachment);
        let pair = Pair { attachment, container_mac: mac, mtu: Some(mtu), master: Some(bridge.index) };
        let ends = pair.create(host, &container.netns)?;
        let port = ends.host.dev();
        let mut requests = Vec::new();
        if config.hairpin || config.isolated {
            let on = |flag: bool| flag.then_some(true);
            let options = PortOptions {
                hairpin: on(config.hairpin),
                isolated: on(config.isolated),
                ..PortOptions::default()
            };
            requests.push(bridge::set_port(&port, &options));
        }
        requests.extend(finish_host_end(&port, attachment, true));
        // Its first port may have changed its address.
        let bridge = link::after(host, requests, &bridge.dev())?;
        result.interfaces = vec![
            described(&bridge),
            Interface { mac: derived_mac(attachment, End::Host).to_string(), ..described(&ends.host) },
            Interface {
                name: attachment.ifname.to_string(),
                mac: mac.to_string(),
                sandbox: netns.as_str().to_owned(),
                ..described(&ends.host)
            },
        ];
        let interface = NewInterface { dev: &ends.container, mac, index: CONTAINER_INTERFACE };
        container.bring_up(&interface, result, Dad::Skip)?;
        Ok(())
    }
}

/// Where the container's interface stands in the result: bridge, host's end, container.
const CONTAINER_INTERFACE: usize = 2;
