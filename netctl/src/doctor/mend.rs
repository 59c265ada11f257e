//! What mends a finding: a command for people, and where it is safe, the same thing done by netctl.

use std::{fmt::Write, net::IpAddr, path::PathBuf};

use anyhow::{Context as _, anyhow};
use cni::names::Attachment;
use ipam::{owner::Owner, store::Store};
use kernel::{
    bridge::PortOptions,
    conntrack::{Conntrack, Ends, Flow},
    fdb::{self, Entry, Table},
    link,
    mac::MacAddr,
    neighbour,
    netlink::Netlink,
    sysctl,
};

use crate::{
    agent::place::{HOST, Place},
    cache::{self, Cache},
    conf,
    facts::Facts,
    paths::Paths,
    runtime::{Attach, Runtime},
};

/// A remedy.
#[derive(Debug, Clone)]
pub enum Mend {
    /// A setting of the host.
    Sysctl { path: String, value: &'static str },
    /// Hairpin mode of a port.
    Hairpin { port: String },
    /// A link that is to be up, and a port of a bridge, which forgets its settings when it leaves.
    Port { port: String, bridge: String, hairpin: bool },
    /// A link's largest packet.
    Mtu { link: String, mtu: u32 },
    /// Leases of nobody.
    Release { network: String, addresses: Vec<IpAddr> },
    /// DEL of an attachment whose container is gone.
    Detach { attachment: Attachment },
    /// The elements in the suite's tables.
    Rules,
    /// A connection that goes to a former place.
    Forget { flow: Flow },
    /// A fixed entry of a bridge's forwarding table.
    Entry { port: String, mac: MacAddr, vlan: Option<u16> },
    /// An entry of a neighbour table, which the kernel makes anew.
    Neighbour { place: Place, device: String, address: IpAddr },
    /// It takes a decision that nobody should take for the user.
    ByHand(String),
}

impl Mend {
    /// One command that does it.
    pub fn command(&self) -> String {
        match self {
            Self::Sysctl { path, value } => format!("sysctl -w {}={value}", path.replace('/', ".")),
            Self::Hairpin { port } => format!("bridge link set dev {port} hairpin on"),
            Self::Port { port, bridge, hairpin } => {
                let hairpin = if *hairpin {
                    format!(" && bridge link set dev {port} hairpin on")
                } else {
                    String::new()
                };
                format!("ip link set {port} master {bridge} up{hairpin}")
            }
            Self::Mtu { link, mtu } => format!("ip link set {link} mtu {mtu}"),
            Self::Release { network, addresses } => {
                let mut command = format!("netctl ipam release {network}");
                for address in addresses {
                    let _ = write!(command, " {address}");
                }
                command + " --yes"
            }
            Self::Detach { attachment: Attachment { network, container, ifname } } => {
                format!("netctl exec del {network} id:{container} --ifname {ifname}")
            }
            Self::Rules => "netctl repair --yes".to_owned(),
            Self::Forget { flow } => {
                let Ends { source, destination, source_port, destination_port } = flow.original;
                format!(
                    "conntrack -D -p udp -s {source} -d {destination} --sport {source_port} --dport {destination_port}"
                )
            }
            Self::Entry { port, mac, vlan } => {
                let vlan = vlan.map(|vlan| format!(" vlan {vlan}")).unwrap_or_default();
                format!("bridge fdb del {mac} dev {port} master{vlan}")
            }
            Self::Neighbour { place, device, address } => {
                let inside = format!("nsenter --net={} ", place.path.display());
                let inside = if place.name == HOST { String::new() } else { inside };
                format!("{inside}ip neigh del {address} dev {device}")
            }
            Self::ByHand(command) => command.clone(),
        }
    }

    /// Whether [`Self::apply`] does it.
    pub fn is_safe(&self) -> bool {
        !matches!(self, Self::ByHand(_))
    }

    /// Does it.
    pub fn apply(&self, facts: &Facts, paths: &Paths) -> anyhow::Result<()> {
        match self {
            Self::Sysctl { path, value } => Ok(sysctl::write(path, value)?),
            Self::Hairpin { port } => {
                let options = PortOptions { hairpin: Some(true), ..PortOptions::default() };
                Ok(Netlink::open()?.execute(kernel::bridge::set_port_named(port, &options))?)
            }
            Self::Port { port, bridge, hairpin } => {
                let mut netlink = Netlink::open()?;
                let bridge = link::by_name(&mut netlink, bridge)?;
                let change = link::change_named(port).master(&bridge.dev()).up();
                netlink.execute(change.request())?;
                if *hairpin {
                    let options = PortOptions { hairpin: Some(true), ..PortOptions::default() };
                    netlink.execute(kernel::bridge::set_port_named(port, &options))?;
                }
                Ok(())
            }
            Self::Mtu { link, mtu } => {
                let change = link::change_named(link).mtu(link::Mtu::try_from(*mtu)?);
                Ok(Netlink::open()?.execute(change.request())?)
            }
            Self::Release { network, addresses } => release(facts, network, addresses).map(drop),
            Self::Detach { attachment } => detach(facts, attachment, paths),
            Self::Rules => crate::repair::rules(facts).map(drop),
            Self::Forget { flow } => Ok(Conntrack::open()?.forget(flow).map(drop)?),
            Self::Entry { port, mac, vlan } => {
                let mut netlink = Netlink::open()?;
                let (link, table) = (link::by_name(&mut netlink, port)?.index, Table::Master);
                let entry = Entry { link, mac: *mac, table, remote: None, vlan: *vlan, permanent: true };
                Ok(netlink.execute(fdb::remove(&entry))?)
            }
            Self::Neighbour { place, device, address } => {
                let mut netlink = place.run(Netlink::open)??;
                let device = link::by_name(&mut netlink, device)?.index;
                Ok(netlink.execute(neighbour::remove(device, *address))?)
            }
            Self::ByHand(command) => Err(anyhow!("{command} is for you to run")),
        }
    }
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
    let mut ignore = |_: crate::runtime::event::Event<'_>| {};
    let path: Vec<PathBuf> = paths.plugins.clone();
    let mut runtime = Runtime { path, cache, report: &mut ignore };
    runtime.del(&list, &Attach::of_entry(&entry)).map_err(anyhow::Error::new)
}
