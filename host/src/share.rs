//! Mode `share`: the container lives in the host's own namespace. Nothing is made; the result tells what is there.

use attach::check::failed;
use cni::{
    error::Error,
    names::{IfName, NetnsPath},
    request::Request,
    result::{AddResult, Interface, IpConfig, Route},
};
use kernel::{
    address::{self, Address},
    link::{self, Link},
    netlink::Netlink,
    route::{self, Family, Filter, KIND_UNICAST, PROTOCOL_KERNEL, SCOPE_UNIVERSE, TABLE_MAIN},
};

use crate::config::Share;

/// What the host has. Fails (code 7) for an interface that it has not.
pub(crate) fn add(share: &Share, netns: &NetnsPath) -> anyhow::Result<AddResult> {
    let present = Present::read(&mut Netlink::open()?)?;
    let links = present.chosen(&share.interfaces)?;
    Ok(AddResult { dns: share.dns.clone(), ..present.report(&links, netns) })
}

/// What the result says is still so. More may have come.
pub(crate) fn check(request: &Request, netns: &NetnsPath) -> anyhow::Result<()> {
    let told = request.required_prev_result()?;
    let present = Present::read(&mut Netlink::open()?)?;
    let all: Vec<&Link> = present.links.iter().collect();
    let now = present.report(&all, netns);
    // Other plugins' interfaces, in another sandbox, are theirs to check.
    let ours = |interface: &&Interface| interface.sandbox == netns.as_str();
    for interface in told.interfaces.iter().filter(ours) {
        if !now.interfaces.iter().any(|there| there.name == interface.name) {
            return Err(failed(format!("{} is gone", interface.name)).into());
        }
    }
    let owner = |result: &AddResult, ip: &IpConfig| {
        ip.interface.and_then(|index| result.interfaces.get(index)).map(|interface| interface.name.clone())
    };
    for ip in &told.ips {
        let same = |there: &&IpConfig| there.address == ip.address && owner(&now, there) == owner(&told, ip);
        if !now.ips.iter().any(|there| same(&there)) {
            let name = owner(&told, ip).unwrap_or_default();
            return Err(failed(format!("{name} has lost its address {}", ip.address)).into());
        }
    }
    for route in &told.routes {
        if !now.routes.iter().any(|there| there.dst == route.dst && there.gw == route.gw) {
            let via = route.gw.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            return Err(failed(format!("the route to {}{via} is gone", route.dst)).into());
        }
    }
    Ok(())
}

/// The host's network at one moment.
struct Present {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<route::Route>,
}

impl Present {
    fn read(host: &mut Netlink) -> anyhow::Result<Self> {
        let mut routes = Vec::new();
        for family in [Family::V4, Family::V6] {
            routes.extend(route::list(
                host,
                family,
                Filter { table: Some(TABLE_MAIN), ..Filter::default() },
            )?);
        }
        let by_hand = |route: &route::Route| route.kind == KIND_UNICAST && route.protocol != PROTOCOL_KERNEL;
        routes.retain(by_hand);
        let mut addresses = address::list_all(host)?;
        addresses.retain(|address| address.scope == SCOPE_UNIVERSE);
        Ok(Self { links: link::list(host)?, addresses, routes })
    }

    /// Those that were named, or all that have an address.
    fn chosen(&self, named: &[IfName]) -> Result<Vec<&Link>, Error> {
        if named.is_empty() {
            let addressed = |link: &&Link| self.addresses.iter().any(|address| address.link == link.index);
            return Ok(self.links.iter().filter(|link| !link.is_loopback() && addressed(link)).collect());
        }
        let find = |name: &IfName| {
            let found = self.links.iter().find(|link| {
                link.name == name.as_str() || link.altnames.iter().any(|altname| altname == name.as_str())
            });
            found.ok_or_else(|| Error::invalid_config("interfaces", name, "the host has no such interface"))
        };
        named.iter().map(find).collect()
    }

    fn report(&self, links: &[&Link], netns: &NetnsPath) -> AddResult {
        let mut result = AddResult::default();
        for (index, link) in links.iter().enumerate() {
            result.interfaces.push(Interface {
                name: link.name.clone(),
                mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
                mtu: Some(link.mtu),
                sandbox: netns.as_str().to_owned(),
                ..Interface::default()
            });
            for address in self.addresses.iter().filter(|address| address.link == link.index) {
                let gateway = self.default_gateway(link, address.network.is_ipv4());
                result.ips.push(IpConfig { interface: Some(index), address: address.network, gateway });
            }
            let through = |route: &&route::Route| {
                route.dev == Some(link.index) || route.next_hops.iter().any(|hop| hop.dev == link.index)
            };
            result.routes.extend(self.routes.iter().filter(through).map(|route| told(route, link)));
        }
        result
    }

    fn default_gateway(&self, link: &Link, v4: bool) -> Option<std::net::IpAddr> {
        let ours = |route: &&route::Route| {
            route.is_default() && route.dst.is_ipv4() == v4 && route.dev == Some(link.index)
        };
        self.routes.iter().find(ours)?.gateway
    }
}

fn told(route: &route::Route, link: &Link) -> Route {
    let hop = route.next_hops.iter().find(|hop| hop.dev == link.index);
    Route {
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        ..Route::new(route.dst, route.gateway.or_else(|| hop?.gateway))
    }
}
