//! Changes of neighbour and forwarding tables: as `ip` and `bridge` have them, and as requests to the kernel.

use std::net::IpAddr;

use kernel::{
    fdb::{self, Entry, Table},
    link::LinkIndex,
    mac::MacAddr,
    neighbour::{self, Neighbour},
    netlink::Request,
};

/// What is to become of an entry.
#[derive(Debug, Clone)]
pub enum Change {
    /// A fixed entry of a bridge goes.
    NotAtPort { mac: MacAddr, vlan: Option<u16> },
    /// A tunnel has the MAC address behind this node.
    Behind { mac: MacAddr, remote: IpAddr },
    /// A tunnel's entry goes.
    NotBehind { mac: MacAddr, remote: IpAddr },
    /// A neighbour goes; the kernel asks for it anew.
    NoNeighbour { address: IpAddr },
    /// A neighbour that nobody asks for.
    Neighbour { address: IpAddr, mac: MacAddr },
}

impl Change {
    pub fn command(&self, device: &str) -> String {
        match self {
            Self::NotAtPort { mac, vlan } => {
                let vlan = vlan.map(|vlan| format!(" vlan {vlan}")).unwrap_or_default();
                format!("bridge fdb del {mac} dev {device} master{vlan}")
            }
            Self::Behind { mac, remote } => {
                format!("bridge fdb replace {mac} dev {device} dst {remote} self permanent")
            }
            Self::NotBehind { mac, remote } => format!("bridge fdb del {mac} dev {device} dst {remote} self"),
            Self::NoNeighbour { address } => format!("ip neigh del {address} dev {device}"),
            Self::Neighbour { address, mac } => {
                format!("ip neigh replace {address} lladdr {mac} dev {device} nud permanent")
            }
        }
    }

    pub fn request(&self, link: LinkIndex) -> Request {
        match *self {
            Self::NotAtPort { mac, vlan } => {
                let table = Table::Master;
                fdb::remove(&Entry { link, mac, table, remote: None, vlan, permanent: true })
            }
            Self::Behind { mac, remote } => fdb::replace(&Entry::behind(link, mac, remote)),
            Self::NotBehind { mac, remote } => fdb::remove(&Entry::behind(link, mac, remote)),
            Self::NoNeighbour { address } => neighbour::remove(link, address),
            Self::Neighbour { address, mac } => {
                neighbour::replace(&Neighbour::permanent(link, address, mac, BOOT))
            }
        }
    }
}

/// `RTPROT_BOOT`, as `ip neigh` has it.
const BOOT: u8 = 3;
