//! A lease of an IPv4 address as it was granted, and what it means for a container.

use std::net::{IpAddr, Ipv4Addr};

use cni::result::{AddResult, Dns, IpConfig, Route};
use ipnetwork::{IpNetwork, Ipv4Network};
use serde::{Deserialize, Serialize};

use crate::lease::Times;

/// A lease of an IPv4 address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// With its subnet.
    pub address: Ipv4Network,
    pub server: Ipv4Addr,
    /// Of the server, or of the relay or router that spoke for it.
    pub server_mac: [u8; 6],
    /// None of a lease for ever.
    pub times: Option<Times>,
    pub routers: Vec<Ipv4Addr>,
    /// RFC 3442; with any of these, routers and static routes don't count.
    pub classless_routes: Vec<(Ipv4Network, Ipv4Addr)>,
    pub static_routes: Vec<(Ipv4Network, Ipv4Addr)>,
    pub name_servers: Vec<Ipv4Addr>,
    pub domain: Option<String>,
    pub search: Vec<String>,
    pub mtu: Option<u32>,
}

impl Lease {
    /// As the plugin's result; the routes get the metric `priority`.
    pub fn result(&self, priority: Option<u32>) -> AddResult {
        let ip = IpConfig {
            interface: None,
            address: IpNetwork::V4(self.address),
            gateway: self.routers.first().copied().map(IpAddr::V4),
        };
        let dns = Dns {
            nameservers: self.name_servers.iter().map(ToString::to_string).collect(),
            domain: self.domain.clone().unwrap_or_default(),
            search: self.search.clone(),
            options: Vec::new(),
        };
        let mut routes = self.routes();
        routes.iter_mut().for_each(|route| route.priority = priority);
        AddResult { interfaces: Vec::new(), ips: vec![ip], routes, dns }
    }

    fn routes(&self) -> Vec<Route> {
        if !self.classless_routes.is_empty() {
            return self.classless_routes.iter().map(classless).collect();
        }
        let default = self.routers.first().map(|router| {
            // A prefix length of 0 is valid.
            let everywhere = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a prefix length");
            Route::new(everywhere.into(), Some((*router).into()))
        });
        let fixed =
            self.static_routes.iter().map(|(to, router)| Route::new((*to).into(), Some((*router).into())));
        fixed.chain(default).collect()
    }
}

/// A router of 0.0.0.0 says that the destination is on the link (RFC 3442).
fn classless((to, router): &(Ipv4Network, Ipv4Addr)) -> Route {
    if router.is_unspecified() {
        return Route { scope: Some(SCOPE_LINK), ..Route::new((*to).into(), None) };
    }
    Route::new((*to).into(), Some((*router).into()))
}

const SCOPE_LINK: u8 = 253;
