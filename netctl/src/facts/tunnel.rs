//! VXLAN devices of a node: what they are, and whom they think to reach. What other nodes tell of theirs has the same form.

use std::net::IpAddr;

use kernel::{fdb, link::Kind, listener, mac::MacAddr, neighbour, netlink::Netlink, nft::table::Hook};
use serde::{Deserialize, Serialize};

use super::{
    firewall::{Chain, Traffic},
    space::Space,
};

/// A node's tunnels, and what came of trying them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    pub node: String,
    pub tunnels: Vec<Tunnel>,
    pub trials: Vec<Trial>,
    /// Packets of UDP with a wrong checksum that came in meanwhile.
    pub bad_checksums: u64,
}

/// A VXLAN device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnel {
    pub device: String,
    pub vni: u32,
    pub port: u16,
    /// The address of its outer packets.
    pub local: Option<IpAddr>,
    pub mac: Option<String>,
    pub mtu: u32,
    pub is_up: bool,
    pub addresses: Vec<IpAddr>,
    /// Which MAC address is behind which node.
    pub remotes: Vec<(String, IpAddr)>,
    /// Which MAC address an IP address has; permanent entries only.
    pub neighbours: Vec<(IpAddr, String)>,
    /// Who has its UDP port, where it does not.
    pub taken: Option<String>,
    /// The rule or policy that stops what comes in or goes out at its port.
    pub blocked: Option<String>,
}

/// An echo request through a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    pub device: String,
    /// The address in the tunnel.
    pub address: IpAddr,
    /// The node behind it.
    pub remote: IpAddr,
    pub answered: bool,
    /// Whether the node itself answers, outside of the tunnel; only asked where the tunnel does not.
    pub underlay_answered: Option<bool>,
}

impl Tunnel {
    /// All of the current namespace, which is `host`.
    pub fn all(host: &Space) -> anyhow::Result<Vec<Self>> {
        let vxlans = host.links.iter().filter(|link| matches!(link.kind, Some(Kind::Vxlan { .. })));
        let vxlans: Vec<_> = vxlans.collect();
        if vxlans.is_empty() {
            return Ok(Vec::new());
        }
        let mut chains = Chain::all(Hook::Input)?;
        chains.extend(Chain::all(Hook::Output)?);
        let mut netlink = Netlink::open()?;
        let mut found = Vec::new();
        for link in vxlans {
            let Some(Kind::Vxlan { vni, port, local, dev, .. }) = link.kind else { continue };
            let text = |mac: MacAddr| mac.to_string();
            let entries = fdb::list(&mut netlink, link.index)?;
            let remotes = entries.iter().filter_map(|it| Some((text(it.mac), it.remote?)));
            let neighbours = neighbour::list(&mut netlink, Some(link.index))?.into_iter();
            let permanent = neighbours.filter(|it| it.state & neighbour::PERMANENT != 0);
            let below = dev.and_then(|dev| host.link_at(dev)).map(|link| link.name.as_str());
            let addresses = host.addresses.iter().filter(|it| it.link == link.index);
            let mut tunnel = Self {
                device: link.name.clone(),
                vni,
                port,
                local,
                mac: link.mac.map(text),
                mtu: link.mtu,
                is_up: link.is_up(),
                addresses: addresses.map(|it| it.network.ip()).collect(),
                remotes: remotes.collect(),
                neighbours: permanent.filter_map(|it| Some((it.address, text(it.mac?)))).collect(),
                taken: None,
                blocked: None,
            };
            tunnel.taken = tunnel.taken_by(host);
            tunnel.blocked = tunnel.blocked_by(&chains, below.unwrap_or_default());
            tunnel.remotes.sort();
            tunnel.neighbours.sort();
            found.push(tunnel);
        }
        Ok(found)
    }

    /// A device that is down has no socket: whose is the port then?
    fn taken_by(&self, host: &Space) -> Option<String> {
        if self.is_up {
            return None;
        }
        let other = host.links.iter().find(|link| {
            let is_same = matches!(link.kind, Some(Kind::Vxlan { port, .. }) if port == self.port);
            is_same && link.is_up() && link.name != self.device
        });
        let sockets = listener::list(UDP).unwrap_or_default();
        let socket = sockets.iter().find(|it| it.port == self.port);
        let process =
            socket.and_then(listener::Listener::process).map(|(pid, name)| format!("process {name} ({pid})"));
        process.or_else(|| other.map(|link| format!("VXLAN device {}", link.name)))
    }

    fn blocked_by(&self, chains: &[Chain], device: &str) -> Option<String> {
        let addresses: Vec<_> = self.local.into_iter().collect();
        let port = self.port.to_be_bytes();
        let headers: [&[u8]; 2] = [&[UDP], &port];
        let is_ipv4 = self.local.is_none_or(|local| local.is_ipv4());
        let traffic = Traffic { is_ipv4, device, addresses: &addresses, headers: &headers };
        chains.iter().find_map(|chain| chain.stops(&traffic))
    }

    /// The MAC addresses that are thought to be behind a node.
    pub fn macs_behind(&self, remote: IpAddr) -> Vec<&str> {
        let of = self.remotes.iter().filter(|(mac, at)| *at == remote && mac != EVERYBODY);
        of.map(|(mac, _)| mac.as_str()).collect()
    }

    /// The nodes that it sends to, each once.
    pub fn nodes(&self) -> Vec<IpAddr> {
        let mut nodes: Vec<_> = self.remotes.iter().map(|(_, remote)| *remote).collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

/// Stands for all addresses that have no entry.
const EVERYBODY: &str = "00:00:00:00:00:00";
const UDP: u8 = 17;
