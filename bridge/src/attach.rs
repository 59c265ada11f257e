//! ADD: an address, a veth pair, a port of the bridge.

use anyhow::Context;
use attach::{
    addresses::allocate,
    container::{CARRIER_TIMEOUT, Container, NewInterface},
    gateway,
    hardware::{End, derived_mac},
    host_bridge::{self, Wishes},
    lock::NetworkLock,
    mtu,
    record::State,
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
    address::Dad,
    forwarding,
    link::{self, Dev, Link, Mtu},
    mac::MacAddr,
    netlink::{Netlink, Request as NetlinkRequest},
    nft::Nft,
};

use crate::{
    config::{Config, Vlans},
    detach, port,
    state::{Attached, check_no_other_network_disagrees, records},
};

/// Attaches the container, or fails and leaves nothing behind.
pub(crate) fn add(
    request: &Request,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<AddResult> {
    let config = Config::new(request)?;
    let ipam = Ipam::resolve(request)?;
    let mut adding = Adding {
        request,
        attachment,
        netns,
        config,
        container: Container::open(netns)?,
        host: Netlink::open()?,
    };
    adding.clear_leftovers()?;
    // From here on something may have changed.
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
    /// Undoes what a killed ADD of this attachment left, and what is left of one whose container went without a DEL. Fails
    /// when the container has the interface.
    fn clear_leftovers(&mut self) -> anyhow::Result<()> {
        let found = records(&self.attachment.network).find::<Attached>(self.attachment)?;
        let state = found.map(|(state, _)| state);
        if state == Some(State::Pending) {
            self.detach_leftovers()?;
        }
        self.container.require_free(&self.attachment.ifname)?;
        if state == Some(State::Complete) {
            log::warn!("{}: attached before and never detached; detaching first", self.attachment);
            self.detach_leftovers()?;
        }
        Ok(())
    }

    fn detach_leftovers(&self) -> anyhow::Result<()> {
        detach::del(self.request, self.attachment, None).context("detach what an earlier ADD left")
    }

    fn run(&mut self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        let link_first = ipam.is_some_and(Ipam::needs_link);
        let mut result = if link_first { AddResult::default() } else { self.addresses(ipam)? };
        let mtu = self.config.mtu.of_veth(&mut self.host)?;
        let wishes = port::wishes(&self.config, mtu.filter(|_| self.config.mtu != mtu::Wish::Kernel));
        let mut owned = gateway::complete(&mut result, self.config.gateway)?;
        let (bridge, mut gateways) = self.bridge(&wishes, &owned)?;
        let mut attached = self.attached(&wishes, &result);
        // Whoever removes the VLAN's gateway as the last of a network waits until the next attachment is written down.
        let _shared = match attached.vlan_gateway {
            Some(_) => Some(NetworkLock::shared(&self.attachment.network)?),
            None => None,
        };
        let mut made = None;
        if link_first {
            records(&self.attachment.network).begin(self.attachment, &attached)?;
            let link = self.interfaces(&bridge, mtu)?;
            self.let_through(&link.port, &link.container)?;
            result = self.addresses(ipam)?;
            attached.addresses = result.ips.iter().map(|ip| ip.address).collect();
            owned = gateway::complete(&mut result, self.config.gateway)?;
            gateways = self.bridge_addresses(&bridge, &owned)?;
            made = Some(link);
        }
        self.record(&attached)?;
        if !owned.is_empty() {
            self.own_gateways(&bridge, &owned, gateways)?;
        }
        let made = made.map_or_else(|| self.interfaces(&bridge, mtu), Ok)?;
        self.configure(made, &mut result)?;
        records(&self.attachment.network).complete(self.attachment)?;
        if !self.config.dns.is_empty() {
            result.dns = self.config.dns.clone();
        }
        Ok(result)
    }

    /// The bridge as it is asked for, and what gives it the gateway addresses. An existing one is changed only when all
    /// of that is possible.
    fn bridge(
        &mut self,
        wishes: &Wishes,
        owned: &[IpNetwork],
    ) -> anyhow::Result<(Link, Vec<NetlinkRequest>)> {
        let Some(bridge) = host_bridge::find(&mut self.host, &wishes.name)? else {
            let made = host_bridge::create(&mut self.host, wishes)?;
            let addresses = self.bridge_addresses(&made, owned)?;
            return Ok((made, addresses));
        };
        let mismatches = host_bridge::mismatches(&bridge, wishes);
        check_no_other_network_disagrees(&self.attachment.network, wishes, &mismatches)?;
        let addresses = self.bridge_addresses(&bridge, owned)?;
        host_bridge::reconcile(&mut self.host, &bridge, &mismatches)?;
        if !bridge.is_up() {
            self.host.execute(link::change(&bridge.dev()).up().request())?;
        }
        Ok((bridge, addresses))
    }

    /// A VLAN's gateway has addresses in the bridge's stead.
    fn bridge_addresses(
        &mut self,
        bridge: &Link,
        owned: &[IpNetwork],
    ) -> anyhow::Result<Vec<NetlinkRequest>> {
        let owned = if self.config.vlan_gateway().is_some() { &[] } else { owned };
        self.address_changes(bridge, owned)
    }

    fn address_changes(&mut self, on: &Link, owned: &[IpNetwork]) -> anyhow::Result<Vec<NetlinkRequest>> {
        if owned.is_empty() {
            return Ok(Vec::new());
        }
        host_bridge::address_changes(&mut self.host, on, owned, self.config.force_address)
    }

    /// What will be made.
    fn attached(&self, wishes: &Wishes, result: &AddResult) -> Attached {
        let Self { attachment, netns, config, .. } = self;
        let (host_link, mac) = (attachment.host_veth(), config.container_mac(attachment));
        let mut attached = Attached::new(config, wishes, host_link, netns.as_str(), mac);
        attached.addresses = result.ips.iter().map(|ip| ip.address).collect();
        attached
    }

    /// Writes it down, and makes what goes into the ruleset.
    fn record(&self, attached: &Attached) -> anyhow::Result<()> {
        records(&self.attachment.network).begin(self.attachment, attached)?;
        let ruleset = attached.ruleset(self.attachment);
        if !ruleset.is_empty() {
            ruleset.add(&mut Nft::open()?)?;
        }
        Ok(())
    }

    /// The host becomes the router of the addresses' subnets.
    fn own_gateways(
        &mut self,
        bridge: &Link,
        owned: &[IpNetwork],
        mut addresses: Vec<NetlinkRequest>,
    ) -> anyhow::Result<()> {
        if let Vlans::Access { vlan, keep_default } = self.config.vlans {
            let gateway = port::ensure_vlan_gateway(&mut self.host, bridge, vlan, keep_default)?;
            addresses = self.address_changes(&gateway, owned)?;
        }
        self.host.batch(&addresses)?;
        if owned.iter().any(IpNetwork::is_ipv4) {
            forwarding::enable_v4()?;
        }
        if owned.iter().any(IpNetwork::is_ipv6) {
            forwarding::enable_v6(&mut self.host)?;
        }
        Ok(())
    }

    fn addresses(&self, ipam: Option<&Ipam>) -> anyhow::Result<AddResult> {
        allocate(ipam, self.request, self.attachment, self.netns, CONTAINER_INTERFACE)
    }

    /// The pair and the port.
    fn interfaces(&mut self, bridge: &Link, mtu: Option<Mtu>) -> anyhow::Result<Made> {
        let Self { attachment, netns, config, container, host, .. } = self;
        let mac = config.container_mac(attachment);
        let pair = Pair { attachment, container_mac: mac, mtu, master: Some(bridge.index) };
        let ends = pair.create(host, &container.netns)?;
        let port = ends.host.dev();
        let mut requests = port::configure(&port, config);
        requests.extend(finish_host_end(&port, attachment, true));
        // Its first ports may have changed its MTU, and its address where nobody fixed that.
        let bridge = link::after(host, requests, &bridge.dev())?;
        let interfaces = vec![
            described(&bridge),
            Interface { mac: derived_mac(attachment, End::Host).to_string(), ..described(&ends.host) },
            Interface {
                name: attachment.ifname.to_string(),
                mac: mac.to_string(),
                sandbox: netns.as_str().to_owned(),
                ..described(&ends.host)
            },
        ];
        Ok(Made { port, container: ends.container, mac, interfaces })
    }

    /// The bridge loses what the container sends as long as it does not see the carrier.
    fn let_through(&mut self, port: &Dev, container: &Dev) -> anyhow::Result<()> {
        self.container.netlink.execute(link::change(container).up().request())?;
        link::wait_running(&mut self.host, port, CARRIER_TIMEOUT)?;
        Ok(())
    }

    /// The container's side; completes the result.
    fn configure(&mut self, made: Made, result: &mut AddResult) -> anyhow::Result<()> {
        let Made { port, container, mac, interfaces } = made;
        result.interfaces = interfaces;
        if self.config.container_interface_up {
            let dad = if self.config.detect_duplicates { Dad::Probe } else { Dad::Skip };
            let interface = NewInterface { dev: &container, mac, index: CONTAINER_INTERFACE };
            if dad == Dad::Probe {
                self.let_through(&port, &container)?;
            }
            self.container.bring_up(&interface, result, dad)?;
            self.container.announce_to(&mut self.host, &port, &interface, result)?;
        }
        Ok(())
    }
}

/// A pair that was made, with the bridge as it is since.
struct Made {
    /// The host's end.
    port: Dev,
    container: Dev,
    mac: MacAddr,
    interfaces: Vec<Interface>,
}

/// Where the container's interface stands in the result: bridge, host's end, container.
pub(crate) const CONTAINER_INTERFACE: usize = 2;
