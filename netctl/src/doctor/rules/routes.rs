//! Rules about routes: the containers' own, and the host's to them.

use std::net::IpAddr;

use kernel::route::Route;

use super::host::{is_routed, way_in};
use crate::{
    doctor::{Finding, Rule, Spot, mend::Mend},
    facts::{Facts, attachment::Attached, settings},
};

pub(super) const CONTAINER_NO_DEFAULT_ROUTE: Rule = Rule {
    code: "container-no-default-route",
    summary: "a container has lost its default route",
    text: "The attachment was made with a default route, and the container has none now: a program in it, or its image's own network scripts, removed it. \
           It reaches its own subnet only.",
    check: container_no_default_route,
};

fn container_no_default_route(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attached in &facts.attachments {
        let (Some(space), Some(_)) = (facts.space(attached), facts.interface(attached)) else { continue };
        for route in wanted(attached).filter(|route| route.dst.prefix() == 0) {
            if space.routes.iter().any(|it| it.is_default() && it.dst.is_ipv4() == route.dst.is_ipv4()) {
                continue;
            }
            let gateway = route.gw.or_else(|| gateway(attached, route.dst.is_ipv4()));
            let via = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            let message = format!("{} has no default route", attached.key);
            let cause = format!("the route to {}{via} that it was given is gone", route.dst);
            let command = format!(
                "nsenter --net={} ip route add default{via} dev {}",
                attached.netns.as_deref().unwrap_or("?"),
                attached.key.ifname
            );
            findings
                .push(Finding::new(attached.netns_spot(facts), message, cause).mend(Mend::ByHand(command)));
        }
    }
    findings
}

pub(super) const ROUTE_MISSING: Rule = Rule {
    code: "route-missing",
    summary: "a route between the host and a container, or one that a container was given, is gone",
    text: "The host must have a way to the container by the bridge or the veth that the container hangs on, and the container the routes of its result. A \
           restarted network service flushes them, and a route that is more specific than the host's own leads elsewhere.",
    check: route_missing,
};

fn route_missing(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for attached in &facts.attachments {
        let (Some(space), Some(_)) = (facts.space(attached), facts.interface(attached)) else { continue };
        for route in wanted(attached).filter(|route| route.dst.prefix() > 0) {
            let same =
                |it: &Route| it.dst.network() == route.dst.network() && it.dst.prefix() == route.dst.prefix();
            if route.table.is_none() && !space.routes.iter().any(same) {
                let message = format!("{} has no route to {}", attached.key, route.dst);
                let cause = "the route that it was given is gone";
                findings.push(Finding::new(attached.netns_spot(facts), message, cause));
            }
        }
        for (device, address, way) in astray(facts, attached) {
            if facts.settings.rp_filter(&device) == 1 && way.is_some() {
                continue;
            }
            let spot = Spot::device(&device);
            if findings.iter().any(|found| found.spot == spot) {
                continue;
            }
            let cause = match way {
                Some(way) => format!("the route to {} leads elsewhere", way.dst),
                None => "there is no route".to_owned(),
            };
            let message = format!("{} does not reach {} ({address}) by {device}", facts.node, attached.key);
            let command = format!("ip route add {address} dev {device}");
            findings.push(Finding::new(spot, message, cause).mend(Mend::ByHand(command)));
        }
    }
    findings
}

pub(super) const RP_FILTER: Rule = Rule {
    code: "rp-filter",
    summary: "the kernel drops a container's packets because the way back is another one",
    text: "With rp_filter at 1 a packet is dropped unless the route to its source leads back by the interface it came by; the stricter of \
           net.ipv4.conf.all and the interface's own counts. 2 only asks that there be a route at all. The kernel's counter is \
           IPReversePathFilter in /proc/net/netstat.",
    check: rp_filter,
};

fn rp_filter(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for attached in &facts.attachments {
        for (device, address, way) in astray(facts, attached) {
            let Some(way) = way.filter(|_| address.is_ipv4() && facts.settings.rp_filter(&device) == 1)
            else {
                continue;
            };
            let spot = Spot::device(&device);
            if findings.iter().any(|found| found.spot == spot) {
                continue;
            }
            let message = format!("{} drops what {} ({address}) sends", facts.node, attached.key);
            let cause = format!("rp_filter is 1 on {device}, and the route to {} leads elsewhere", way.dst);
            let path = settings::conf(&device, "rp_filter");
            findings.push(Finding::new(spot, message, cause).mend(Mend::Sysctl { path, value: "2" }));
        }
    }
    findings
}

/// The addresses of a routed container that the host's best route leads to by another device than the one they are behind, or that it has
/// no route to: the device, the address and that route. Nothing where the bridge has lost its gateway, which is another finding.
fn astray<'a>(facts: &'a Facts, attached: &Attached) -> Vec<(String, IpAddr, Option<&'a Route>)> {
    let Some(device) = way_in(facts, attached).filter(|_| is_routed(facts, attached)) else {
        return Vec::new();
    };
    if device.is_bridge() && facts.host().addresses_of(device).is_empty() {
        return Vec::new();
    }
    let given = attached.addresses().into_iter().map(|address| address.ip());
    let found = given.filter_map(|address| {
        let way = best(&facts.host().routes, address);
        // A gateway of an access VLAN has an interface of its own on the bridge.
        let is_right = |route: &&Route| {
            route.dev.and_then(|dev| facts.host().link_at(dev)).is_some_and(|link| {
                link.index == device.index || link.parent == Some(device.index) && !link.is_veth()
            })
        };
        let has_gateway =
            !device.is_bridge() || facts.host().addresses_of(device).iter().any(|own| own.contains(address));
        (has_gateway && way.filter(is_right).is_none()).then(|| (device.name.clone(), address, way))
    });
    found.collect()
}

/// The most specific route, then the one with the lowest metric.
fn best(routes: &[Route], address: IpAddr) -> Option<&Route> {
    let fitting =
        routes.iter().filter(|it| it.dst.is_ipv4() == address.is_ipv4() && it.dst.contains(address));
    fitting.max_by_key(|it| (it.dst.prefix(), std::cmp::Reverse(it.priority.unwrap_or(0))))
}

/// The routes of the attachment's result.
fn wanted(attached: &Attached) -> impl Iterator<Item = &cni::result::Route> {
    attached.result.iter().flat_map(|result| &result.routes)
}

fn gateway(attached: &Attached, is_ipv4: bool) -> Option<IpAddr> {
    let ips = attached.result.iter().flat_map(|result| &result.ips);
    ips.filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == is_ipv4)
}
