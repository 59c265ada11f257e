//! Mends by netctl itself: over netlink, over the lease store, and where a plugin's DEL is what it takes, by the plugins.

use std::{net::IpAddr, path::PathBuf};

use anyhow::{Context as _, anyhow};
use attach::host_bridge::{self, Wishes};
use cni::names::Attachment;
use ipam::{owner::Owner, store::Store};
use ipnetwork::IpNetwork;
use kernel::{
    address::{self, Dad},
    bridge::PortOptions,
    conntrack::Conntrack,
    link,
    mac::MacAddr,
    neighbour::{self, Neighbour},
    netlink::Netlink,
    route::{self, Route},
    sysctl,
};

use super::Mend;
use crate::{
    agent::place::Place,
    cache::{self, Cache},
    conf,
    facts::Facts,
    paths::Paths,
    runtime::{Attach, Runtime, event::Event},
};

impl Mend {
    /// Does it, on this node.
    pub fn apply(&self, facts: &Facts, paths: &Paths) -> anyhow::Result<()> {
        match self {
            Self::Sysctl { path, value } => Ok(sysctl::write(path, value)?),
            Self::Hairpin { port } => set_port(&mut Netlink::open()?, port, true, false),
            Self::Bridge { bridge, mtu, promiscuous } => {
                let mtu = mtu.map(link::Mtu::try_from).transpose()?;
                let (name, promiscuous) = (bridge.parse()?, Some(*promiscuous));
                let wishes = Wishes { name, mtu, promiscuous, vlan_filtering: false };
                host_bridge::create(&mut Netlink::open()?, &wishes).map(drop)
            }
            Self::Port { port, bridge, hairpin, isolated } => {
                let mut netlink = Netlink::open()?;
                let bridge = link::by_name(&mut netlink, bridge)?;
                netlink.execute(link::change_named(port).master(&bridge.dev()).up().request())?;
                set_port(&mut netlink, port, *hairpin, *isolated)
            }
            Self::Mtu { link, mtu } => {
                let change = link::change_named(link).mtu(link::Mtu::try_from(*mtu)?);
                Ok(Netlink::open()?.execute(change.request())?)
            }
            Self::Address { link, network } => {
                let mut netlink = Netlink::open()?;
                let link = link::by_name(&mut netlink, link)?;
                Ok(netlink.execute(address::add(&link.dev(), *network, Dad::Skip).ok_if_exists())?)
            }
            Self::Route { place, device, addresses, route } => add_route(place, device, addresses, route),
            Self::Mac { device, mac, neighbours } => rename_tunnel(device, *mac, neighbours),
            Self::Table { place, device, change } => {
                let mut netlink = place.run(Netlink::open)??;
                let device = link::by_name(&mut netlink, device)?.index;
                Ok(netlink.execute(change.request(device))?)
            }
            Self::Release { network, addresses } => release(facts, network, addresses).map(drop),
            Self::Detach { attachment } => detach(facts, attachment, paths),
            Self::Rules => crate::repair::rules(facts).map(drop),
            Self::Forget { flow } => Ok(Conntrack::open()?.forget(flow).map(drop)?),
            Self::ByHand(command) => Err(anyhow!("{command} is for you to run")),
        }
    }
}

fn set_port(netlink: &mut Netlink, port: &str, hairpin: bool, isolated: bool) -> anyhow::Result<()> {
    if !hairpin && !isolated {
        return Ok(());
    }
    let on = |wanted: bool| wanted.then_some(true);
    let options = PortOptions { hairpin: on(hairpin), isolated: on(isolated), ..PortOptions::default() };
    Ok(netlink.execute(kernel::bridge::set_port_named(port, &options))?)
}

fn add_route(place: &Place, device: &str, addresses: &[IpNetwork], route: &Route) -> anyhow::Result<()> {
    let mut netlink = place.run(Netlink::open)??;
    let link = link::by_name(&mut netlink, device)?;
    let addresses = addresses.iter().map(|it| address::add(&link.dev(), *it, Dad::Skip).ok_if_exists());
    let mut requests: Vec<_> = addresses.collect();
    // An address brings the route to its subnet with it.
    requests.push(route::add(&Route { dev: Some(link.index), ..route.clone() }).ok_if_exists());
    Ok(netlink.batch(&requests)?)
}

fn rename_tunnel(device: &str, mac: MacAddr, neighbours: &[Neighbour]) -> anyhow::Result<()> {
    let mut netlink = Netlink::open()?;
    let mut requests = vec![link::change_named(device).mac(mac).request()];
    requests.extend(neighbours.iter().map(neighbour::replace));
    Ok(netlink.batch(&requests)?)
}

/// Gives the leases of a network back that are at `addresses`; those that were there.
pub fn release(facts: &Facts, network: &str, addresses: &[IpAddr]) -> anyhow::Result<Vec<IpAddr>> {
    let network = facts.network(network).ok_or_else(|| anyhow!("no network {network:?}"))?;
    let pool = match &network.pool {
        Some(Ok(pool)) => pool,
        Some(Err(why)) => return Err(anyhow!("{why}")),
        None => return Err(anyhow!("network {} has no host-local leases", network.list.name)),
    };
    let act = || format!("release addresses of network {}", network.list.name);
    let Some(mut store) = Store::open(&pool.place).with_context(act)? else { return Ok(Vec::new()) };
    // What was given to somebody else meanwhile is theirs.
    let is_same = |address: IpAddr, owner: &Owner| {
        network.leases.iter().any(|(it, of)| *it == address && of.as_ref() == Some(owner))
    };
    store
        .retain_leases(|address, owner| !(addresses.contains(&address) && is_same(address, owner)))
        .with_context(act)
}

/// DEL with the configuration of the network, or where that is gone with that of the ADD.
fn detach(facts: &Facts, attachment: &Attachment, paths: &Paths) -> anyhow::Result<()> {
    let found = facts.attachments.iter().find(|it| it.key == *attachment);
    let entry = found.and_then(|found| found.entry.clone()).unwrap_or_else(|| cache::Entry {
        attachment: attachment.clone(),
        netns: None,
        config: Vec::new(),
        args: Vec::new(),
        capability_args: serde_json::Map::new(),
        result: None,
    });
    let cache = Cache::new(&paths.results);
    let list = match facts.network(attachment.network.as_str()) {
        Some(network) => network.list.clone(),
        None => conf::list(&cache.file(attachment), &entry.config, &paths.conf_dir)?,
    };
    let mut ignore = |_: Event<'_>| {};
    let path: Vec<PathBuf> = paths.plugins.clone();
    let mut runtime = Runtime { path, cache, report: &mut ignore };
    runtime.del(&list, &Attach::of_entry(&entry)).map_err(anyhow::Error::new)
}
