//! Rules about routes: the containers' own, and the host's to them.

use std::net::IpAddr;

use attach::container::kernel_route;
use ipnetwork::IpNetwork;
use kernel::{
    link::{Kind, Link},
    route::{PROTOCOL_KERNEL, Route, SCOPE_LINK},
};

use super::host::{is_routed, way_in};
use crate::{
    doctor::{
        Finding, Remedy, Rule, Spot,
        lost::{Distance, Lost},
        mend::Mend,
    },
    facts::{Facts, attachment::Attached, settings, space::Space},
};

pub(super) const CONTAINER_NO_DEFAULT_ROUTE: Rule = Rule {
    code: "container-no-default-route",
    summary: "a container has lost its default route",
    text: "The attachment was made with a default route, and the container has none now: a program in it, or its image's own network scripts, removed it. \
           It reaches its own subnet only.",
    remedy: Remedy::Partly("gives the route back, and addresses that it needs; not those of ptp"),
    check: container_no_default_route,
};

fn container_no_default_route(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attached in &facts.attachments {
        let (Some(space), Some(inside)) = (facts.space(attached), facts.interface(attached)) else {
            continue;
        };
        if has_own_table(facts, attached, space, inside) {
            continue;
        }
        for route in wanted(attached).filter(|route| route.dst.prefix() == 0) {
            let is_ipv4 = route.dst.is_ipv4();
            if space.routes.iter().any(|it| it.is_default() && it.dst.is_ipv4() == is_ipv4) {
                continue;
            }
            let Some((mend, way)) = given(facts, attached, space, inside, route) else { continue };
            let via = way.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            let message = format!("{} has no default route", attached.key);
            let cause = format!("the route to {}{via} that it was given is gone", route.dst);
            let found = Finding::new(attached.netns_spot(facts), message, cause).mend(mend);
            // Without an address it reaches nobody at all.
            let has_address = space.addresses_of(inside).iter().any(|it| it.is_ipv4() == is_ipv4);
            let from = if has_address { Distance::Host } else { Distance::Segment };
            findings.push(found.loses(attached, Lost::Of { is_ipv4, from }));
        }
    }
    findings
}

/// The interface's routes are in no main table by design: it is in a VRF, or its packets are routed by their sender.
fn has_own_table(facts: &Facts, attached: &Attached, space: &Space, inside: &Link) -> bool {
    let master = inside.master.and_then(|master| space.link_at(master));
    let is_in_vrf = master.is_some_and(|master| matches!(master.kind, Some(Kind::Vrf { .. })));
    is_in_vrf || facts.network(attached.key.network.as_str()).is_some_and(|it| it.has_plugin("sbr"))
}

/// Gives the container the route of its result again, and what it lacks of its addresses; that route.
fn given(
    facts: &Facts,
    attached: &Attached,
    space: &Space,
    inside: &Link,
    route: &cni::result::Route,
) -> Option<(Mend, Route)> {
    let route = kernel_route(&inside.dev(), route, attached.result.as_ref()?);
    let has = space.addresses_of(inside);
    let missing = attached.addresses().into_iter().filter(|address| !has.contains(address));
    let missing: Vec<_> = missing.filter(|address| address.is_ipv4() == route.dst.is_ipv4()).collect();
    // Behind ptp an address must not bring a route to its subnet.
    let network = facts.network(attached.key.network.as_str());
    let is_plain = missing.is_empty() || network.is_some_and(|it| it.driver != "ptp");
    let (place, device) = (space.place.clone(), inside.name.clone());
    let mend = Mend::Route { place, device, addresses: missing, route: Box::new(route.clone()) };
    Some((if is_plain { mend } else { Mend::ByHand(mend.command()) }, route))
}

pub(super) const ROUTE_MISSING: Rule = Rule {
    code: "route-missing",
    summary: "a route between the host and a container, or one that a container was given, is gone",
    text: "The host must have a way to the container by the bridge or the veth that the container hangs on, and the container the routes of its result. A \
           restarted network service flushes them, and a route that is more specific than the host's own leads elsewhere.",
    remedy: Remedy::Partly("adds what is gone; not where somebody's route leads elsewhere"),
    check: route_missing,
};

fn route_missing(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for attached in &facts.attachments {
        let (Some(space), Some(inside)) = (facts.space(attached), facts.interface(attached)) else {
            continue;
        };
        for route in wanted(attached).filter(|route| route.dst.prefix() > 0) {
            let same =
                |it: &Route| it.dst.network() == route.dst.network() && it.dst.prefix() == route.dst.prefix();
            if route.table.is_some_and(|table| table != 0) || space.routes.iter().any(same) {
                continue;
            }
            let Some((mend, _)) = given(facts, attached, space, inside, route) else { continue };
            let message = format!("{} has no route to {}", attached.key, route.dst);
            let found =
                Finding::new(attached.netns_spot(facts), message, "the route that it was given is gone");
            findings.push(found.mend(mend).loses(attached, Lost::To(route.dst)));
        }
        for Astray { device, address, way, own } in astray(facts, attached) {
            if way.is_some() && facts.settings.rp_filter(&device.name) == 1 {
                continue;
            }
            let (cause, mend) = match way {
                Some(way) => {
                    (format!("the route to {} leads elsewhere", way.dst), out_of_the_way(facts, way))
                }
                None => ("its route there is gone".to_owned(), back(facts, device, own, address)),
            };
            let message =
                format!("{} does not reach {} ({address}) by {}", facts.node, attached.key, device.name);
            let found = Finding::new(Spot::device(&device.name), message, cause).mend(mend);
            add(&mut findings, found, attached, address);
        }
    }
    findings
}

/// Once for each device, with all that it is about.
fn add(findings: &mut Vec<Finding>, found: Finding, attached: &Attached, address: IpAddr) {
    let lost = Lost::Of { is_ipv4: address.is_ipv4(), from: Distance::Gateway };
    match findings.iter_mut().find(|it| it.spot == found.spot) {
        Some(earlier) => earlier.losses.push((attached.key.clone(), lost)),
        None => findings.push(found.loses(attached, lost)),
    }
}

/// Somebody's route goes.
fn out_of_the_way(facts: &Facts, way: &Route) -> Mend {
    let device = way.dev.and_then(|dev| facts.host().link_at(dev));
    let device = device.map(|link| format!(" dev {}", link.name)).unwrap_or_default();
    Mend::ByHand(format!("ip route del {}{device}", way.dst))
}

/// The host's route to what is behind the device: that of the gateway's subnet, or to the one address behind a veth.
fn back(facts: &Facts, device: &Link, own: Option<IpNetwork>, address: IpAddr) -> Mend {
    let to = |dst: IpNetwork| Route { scope: SCOPE_LINK, ..Route::to(dst) };
    let route = match own.and_then(|own| Some((IpNetwork::new(own.network(), own.prefix()).ok()?, own.ip())))
    {
        Some((subnet, gateway)) => {
            let (source, priority) = match gateway {
                IpAddr::V4(_) => (Some(gateway), None),
                IpAddr::V6(_) => (None, Some(OF_ADDRESSES)),
            };
            Route { source, priority, protocol: PROTOCOL_KERNEL, ..to(subnet) }
        }
        None => to(address.into()),
    };
    let (place, device) = (facts.host().place.clone(), device.name.clone());
    Mend::Route { place, device, addresses: Vec::new(), route: Box::new(route) }
}

pub(super) const RP_FILTER: Rule = Rule {
    code: "rp-filter",
    summary: "the kernel drops a container's packets because the way back is another one",
    text: "With rp_filter at 1 a packet is dropped unless the route to its source leads back by the interface it came by; the stricter of \
           net.ipv4.conf.all and the interface's own counts. 2 only asks that there be a route at all. The kernel's counter is \
           IPReversePathFilter in /proc/net/netstat.",
    remedy: Remedy::Partly(
        "sets it to 2 where the route leads to the same container by another of its interfaces; not where it leads elsewhere",
    ),
    check: rp_filter,
};

fn rp_filter(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for attached in &facts.attachments {
        let elsewhere = astray(facts, attached)
            .into_iter()
            .filter_map(|it| Some((it.device, it.address, it.way?, false)));
        let by_another =
            detour(facts, attached).into_iter().map(|(device, address, way)| (device, address, way, true));
        for (device, address, way, leads_home) in elsewhere.chain(by_another) {
            if !address.is_ipv4() || facts.settings.rp_filter(&device.name) != 1 {
                continue;
            }
            let message = format!("{} drops what {} ({address}) sends", facts.node, attached.key);
            let cause =
                format!("rp_filter is 1 on {}, and the route to {} leads elsewhere", device.name, way.dst);
            let path = settings::conf(&device.name, "rp_filter");
            let mend = match leads_home {
                true => Mend::Sysctl { path, value: "2" },
                false => out_of_the_way(facts, way),
            };
            let found = Finding::new(Spot::device(&device.name), message, cause).mend(mend);
            add(&mut findings, found, attached, address);
        }
    }
    findings
}

/// An address of a routed container that the host does not reach by the device that the container is behind.
struct Astray<'a> {
    device: &'a Link,
    address: IpAddr,
    /// The route that leads elsewhere; without one, the host's own is gone.
    way: Option<&'a Route>,
    /// The address of the device for the container's subnet, if it is a bridge.
    own: Option<IpNetwork>,
}

/// Nothing where the bridge has lost its gateway, which is another finding.
fn astray<'a>(facts: &'a Facts, attached: &Attached) -> Vec<Astray<'a>> {
    let ways = ways(facts, attached)
        .into_iter()
        .filter(|it| it.way.is_none_or(|way| !leads_home(facts, attached, way)));
    ways.collect()
}

/// Addresses that the host reaches by another of the container's interfaces.
fn detour<'a>(facts: &'a Facts, attached: &Attached) -> Vec<(&'a Link, IpAddr, &'a Route)> {
    let ways = ways(facts, attached).into_iter().filter_map(|it| Some((it.device, it.address, it.way?)));
    ways.filter(|(.., way)| leads_home(facts, attached, way)).collect()
}

/// The addresses to which the best route is not by the device that they are behind.
fn ways<'a>(facts: &'a Facts, attached: &Attached) -> Vec<Astray<'a>> {
    let Some(device) = way_in(facts, attached).filter(|_| is_routed(facts, attached)) else {
        return Vec::new();
    };
    let has = facts.host().addresses_of(device);
    let given = attached.addresses().into_iter().map(|address| address.ip());
    let found = given.filter_map(|address| {
        let own = has.iter().find(|own| own.contains(address)).copied();
        if device.is_bridge() && own.is_none() {
            return None;
        }
        let way = best(&facts.host().routes, address);
        // A gateway of an access VLAN has an interface of its own on the bridge.
        let is_right = |route: &&Route| {
            route.dev.and_then(|dev| facts.host().link_at(dev)).is_some_and(|link| {
                link.index == device.index || link.parent == Some(device.index) && !link.is_veth()
            })
        };
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let prefix = own.map_or(whole, |own| own.prefix());
        let (none, own) = (way.filter(is_right).is_none(), own.filter(|_| device.is_bridge()));
        // A wider route would not be asked if ours were there.
        none.then(|| Astray { device, address, way: way.filter(|way| way.dst.prefix() >= prefix), own })
    });
    found.collect()
}

/// The route is by a device that the same container is behind too.
fn leads_home(facts: &Facts, attached: &Attached, way: &Route) -> bool {
    let others = facts.attachments.iter().filter(|it| it.space == attached.space && it.key != attached.key);
    way.dev.is_some() && others.filter_map(|it| way_in(facts, it)).any(|link| way.dev == Some(link.index))
}

/// The most specific route, then the one with the lowest metric.
pub(super) fn best(routes: &[Route], address: IpAddr) -> Option<&Route> {
    let fitting =
        routes.iter().filter(|it| it.dst.is_ipv4() == address.is_ipv4() && it.dst.contains(address));
    fitting.max_by_key(|it| (it.dst.prefix(), std::cmp::Reverse(it.priority.unwrap_or(0))))
}

/// The routes of the attachment's result.
fn wanted(attached: &Attached) -> impl Iterator<Item = &cni::result::Route> {
    attached.result.iter().flat_map(|result| &result.routes)
}

/// The metric of IPv6 routes that come with an address (`IP6_RT_PRIO_ADDRCONF`).
const OF_ADDRESSES: u32 = 256;
