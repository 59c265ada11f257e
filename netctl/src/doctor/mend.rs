//! What mends a finding: a command for people, and where it is safe, the same thing for netctl to do. Knows no finding.

use std::{fmt::Write, net::IpAddr};

use cni::names::Attachment;
use ipnetwork::IpNetwork;
use kernel::{
    conntrack::{Ends, Flow},
    mac::MacAddr,
    neighbour::Neighbour,
    route::{PROTOCOL_KERNEL, Route, SCOPE_LINK},
};

use crate::agent::place::{HOST, Place};

pub mod apply;
pub mod table;

use table::Change;

/// A remedy.
#[derive(Debug, Clone)]
pub enum Mend {
    /// A setting of the host.
    Sysctl { path: String, value: &'static str },
    /// Hairpin mode of a port.
    Hairpin { port: String },
    /// A bridge as its network's configuration wants it; addresses and ports are findings of their own.
    Bridge { bridge: String, mtu: Option<u32>, promiscuous: bool },
    /// A link that is to be up, and a port of a bridge, which forgets its settings when it leaves.
    Port { port: String, bridge: String, hairpin: bool, isolated: bool },
    /// A link's largest packet.
    Mtu { link: String, mtu: u32 },
    /// The gateway's address on its bridge.
    Address { link: String, network: IpNetwork },
    /// A route, and the addresses that it needs, as they were given.
    Route { place: Place, device: String, addresses: Vec<IpNetwork>, route: Box<Route> },
    /// A tunnel's MAC address. The kernel forgets all neighbours with the old one (`neigh_changeaddr`).
    Mac { device: String, mac: MacAddr, neighbours: Vec<Neighbour> },
    /// An entry of a neighbour or forwarding table.
    Table { place: Place, device: String, change: Change },
    /// Leases of nobody.
    Release { network: String, addresses: Vec<IpAddr> },
    /// DEL of an attachment whose container is gone.
    Detach { attachment: Attachment },
    /// The elements in the suite's tables.
    Rules,
    /// A connection that goes to a former place.
    Forget { flow: Flow },
    /// It takes a decision that nobody should take for the user.
    ByHand(String),
}

impl Mend {
    /// One command that does it.
    pub fn command(&self) -> String {
        match self {
            Self::Sysctl { path, value } => format!("sysctl -w {}={value}", path.replace('/', ".")),
            Self::Hairpin { port } => format!("bridge link set dev {port} hairpin on"),
            Self::Bridge { bridge, mtu, promiscuous } => {
                let mtu = mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default();
                let promiscuous = if *promiscuous { " promisc on" } else { "" };
                format!("ip link add {bridge}{mtu} type bridge && ip link set {bridge} up{promiscuous}")
            }
            Self::Port { port, bridge, hairpin, isolated } => {
                let on = [("hairpin", *hairpin), ("isolated", *isolated)].into_iter().filter(|(_, on)| *on);
                let options = on.map(|(option, _)| format!(" && bridge link set dev {port} {option} on"));
                format!("ip link set {port} master {bridge} up{}", options.collect::<String>())
            }
            Self::Mtu { link, mtu } => format!("ip link set {link} mtu {mtu}"),
            Self::Address { link, network } => format!("ip addr add {network} dev {link}"),
            Self::Route { place, device, addresses, route } => {
                let inside = inside(place);
                let add = |it: &IpNetwork| format!("{inside}ip addr add {it} dev {device} && ");
                let addresses: String = addresses.iter().map(add).collect();
                format!("{addresses}{inside}ip route add {}", way(route, device))
            }
            Self::Mac { device, mac, neighbours: _ } => format!("ip link set {device} address {mac}"),
            Self::Table { place, device, change } => format!("{}{}", inside(place), change.command(device)),
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
            Self::ByHand(command) => command.clone(),
        }
    }

    /// Whether netctl does it when it is told to mend.
    pub fn is_safe(&self) -> bool {
        !matches!(self, Self::ByHand(_))
    }
}

/// What begins a command that is to run in a container's namespace.
pub fn inside(place: &Place) -> String {
    match place.name == HOST {
        true => String::new(),
        false => format!("nsenter --net={} ", place.path.display()),
    }
}

fn way(route: &Route, device: &str) -> String {
    let mut text = if route.is_default() { "default".to_owned() } else { route.dst.to_string() };
    if let Some(gateway) = route.gateway {
        let _ = write!(text, " via {gateway}");
    }
    let _ = write!(text, " dev {device}");
    if route.protocol == PROTOCOL_KERNEL {
        text += " proto kernel";
    }
    if route.scope == SCOPE_LINK && route.dst.is_ipv4() {
        text += " scope link";
    }
    if let Some(source) = route.source {
        let _ = write!(text, " src {source}");
    }
    for (word, value) in [("metric", route.priority), ("mtu", route.mtu), ("advmss", route.advmss)] {
        if let Some(value) = value {
            let _ = write!(text, " {word} {value}");
        }
    }
    text
}
