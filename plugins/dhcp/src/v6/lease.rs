//! An IPv6 address that a container may use, and what it means for the container.

use std::{fmt, net::Ipv6Addr};

use cni::result::{AddResult, Dns, IpConfig};
use ipnetwork::Ipv6Network;
use serde::{Deserialize, Serialize};

use crate::lease::Times;

/// An address, and what else was said with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// With the length of the prefix that routers say to be on the link; 128 where they don't.
    pub address: Ipv6Network,
    pub origin: Origin,
    /// None of an address for ever.
    pub times: Option<Times>,
    /// The default router, by its link-local address.
    pub router: Option<Ipv6Addr>,
    pub name_servers: Vec<Ipv6Addr>,
    pub search: Vec<String>,
}

/// Whose word it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Made from a router's prefix: nobody is told when it ends.
    Prefix,
    /// Of the DHCPv6 server with this identifier.
    Server(Vec<u8>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix => f.write_str("from a router's prefix"),
            Self::Server(_) => f.write_str("from a DHCPv6 server"),
        }
    }
}

impl Lease {
    /// As the plugin's result. It has no routes: those are the kernel's, by the routers' word.
    pub fn result(&self) -> AddResult {
        let ip =
            IpConfig { interface: None, address: self.address.into(), gateway: self.router.map(Into::into) };
        let dns = Dns {
            nameservers: self.name_servers.iter().map(ToString::to_string).collect(),
            search: self.search.clone(),
            ..Dns::default()
        };
        AddResult { interfaces: Vec::new(), ips: vec![ip], routes: Vec::new(), dns }
    }
}
