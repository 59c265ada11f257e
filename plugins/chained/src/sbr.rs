//! `sbr`: source based routing. What the container sends from an address of this interface leaves by this interface, by
//! routes of a table that is asked for nothing else.

use std::{collections::BTreeSet, net::IpAddr};

use attach::{check::failed, container::Container, failures::Failures, record::Records};
use cni::{
    error::Error,
    names::{Attachment, IfName, NetnsPath, NetworkName},
    request::{Request, ValidAttachments},
    result::{AddResult, IpConfig},
    run::Plugin,
};
use ipnetwork::IpNetwork;
use kernel::{
    address,
    link::{self, Dev},
    netlink::{Netlink, Request as KernelRequest},
    route::{self, Family, Filter, Route, SCOPE_LINK, TABLE_MAIN},
    rule::{self, Rule},
};
use serde::{Deserialize, Serialize};

use crate::stale::detach_each;

pub(crate) mod config;

use self::config::Config;

/// The plugin of type `sbr`.
#[derive(Debug)]
pub struct Sbr;

/// The record's data: which table is asked for what is sent from which address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Routed {
    tables: Vec<(IpAddr, u32)>,
    /// The tables are ours, with all that is in them.
    own: bool,
}

impl Plugin for Sbr {
    const NAME: &'static str = NAME;

    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        let config = Config::new(request)?;
        let result = request.required_prev_result()?;
        let addresses = own_addresses(&result, &attachment.ifname)?;
        let mut container = Container::open(netns)?;
        let nl = &mut container.netlink;
        let dev = link::by_name(nl, attachment.ifname.as_str())?.dev();
        let records = records(&attachment.network);
        if let Some((_, old)) = records.find::<Routed>(attachment)? {
            take_back(nl, &dev, &old)?;
        }
        let routed = choose_tables(nl, &config, &addresses)?;
        let main = if routed.own { movable(nl, &dev)? } else { vec![] };
        records.begin(attachment, &routed)?;
        let plan = Plan { config: &config, addresses: &addresses, dev: &dev, routed: &routed, main: &main };
        let applied = apply(nl, &plan);
        applied.and_then(|()| Ok(records.complete(attachment)?)).inspect_err(|_| {
            let restored = main.iter().map(route::replace).collect::<Vec<_>>();
            if let Err(err) = take_back(nl, &dev, &routed).and_then(|()| Ok(nl.batch(&restored)?)) {
                log::error!("{attachment}: after a failed ADD: {err:#}");
            } else if let Err(err) = records.forget(attachment) {
                log::error!("{attachment}: after a failed ADD: {err}");
            }
        })?;
        Ok(result)
    }

    fn del(request: &Request, attachment: &Attachment, netns: Option<&NetnsPath>) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        let records = records(&attachment.network);
        let routed = failures.note(records.find::<Routed>(attachment)).flatten().map(|(_, routed)| routed);
        if let Some(Some(mut container)) = failures.note(Container::open_if_there(netns)) {
            failures.note(clean(&mut container.netlink, request, attachment, routed));
        }
        if failures.is_empty() {
            failures.note(records.remove(attachment));
            failures.note(records.retire());
        }
        failures.into_result()
    }

    fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        let config = Config::new(request)?;
        let result = request.required_prev_result()?;
        let addresses = own_addresses(&result, &attachment.ifname)?;
        let mut container = Container::open(netns)?;
        let nl = &mut container.netlink;
        let dev = link::by_name(nl, attachment.ifname.as_str())?.dev();
        for ip in &addresses {
            let family = family(ip.address.ip());
            let from = IpNetwork::from(ip.address.ip());
            let rules = rule::list(nl, family)?;
            let wanted =
                |rule: &&Rule| rule.src == Some(from) && config.table.is_none_or(|table| rule.table == table);
            let rule = rules.iter().find(wanted);
            let rule = rule.ok_or_else(|| failed(format!("no rule asks a table for what {from} sends")))?;
            let Some(gateway) = gateway(&config, ip).filter(|_| config.table.is_none()) else { continue };
            let filter = Filter { table: Some(rule.table), dev: Some(dev.index), ..Filter::default() };
            let routes = route::list(nl, family, filter)?;
            if !routes.iter().any(|route| route.is_default() && route.gateway == Some(gateway)) {
                let table = rule.table;
                return Err(
                    failed(format!("the default route via {gateway} in table {table} is gone")).into()
                );
            }
        }
        Ok(())
    }

    /// Rules and routes went with the namespaces.
    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        detach_each(NAME, request, valid, &mut failures, |attachment, _: Routed| {
            Ok(records(&attachment.network).forget(attachment)?)
        });
        failures.into_result()
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        Config::new(request)?;
        Ok(())
    }
}

/// Code 7 when there is none: nothing could be sent from it.
fn own_addresses(result: &AddResult, ifname: &IfName) -> Result<Vec<IpConfig>, Error> {
    let is_own = |ip: &&IpConfig| {
        let interface = ip.interface.and_then(|index| result.interfaces.get(index));
        interface.is_none_or(|interface| interface.name == ifname.as_str())
    };
    let own: Vec<_> = result.ips.iter().filter(is_own).cloned().collect();
    if own.is_empty() {
        let why = format!("has no address of {ifname}");
        return Err(Error::invalid_config("prevResult.ips", "[]", why));
    }
    Ok(own)
}

/// Each address has a table of its own, the first ones from 100 on that nobody uses, as in the reference.
fn choose_tables(nl: &mut Netlink, config: &Config, addresses: &[IpConfig]) -> anyhow::Result<Routed> {
    let ips = addresses.iter().map(|ip| ip.address.ip());
    if let Some(table) = config.table {
        return Ok(Routed { tables: ips.map(|ip| (ip, table)).collect(), own: false });
    }
    let mut used = BTreeSet::new();
    for family in [Family::V4, Family::V6] {
        used.extend(rule::list(nl, family)?.iter().map(|rule| rule.table));
        used.extend(route::list(nl, family, Filter::default())?.iter().map(|route| route.table));
    }
    let free = (FIRST_TABLE..TABLE_MAIN - 1).chain(TABLE_MAIN + 2..).filter(|table| !used.contains(table));
    Ok(Routed { tables: ips.zip(free).collect(), own: true })
}

/// The interface's routes in the main table. Those of link-local addresses stay: nothing else can lead there.
fn movable(nl: &mut Netlink, dev: &Dev) -> anyhow::Result<Vec<Route>> {
    let filter = Filter { table: Some(TABLE_MAIN), dev: Some(dev.index), ..Filter::default() };
    let mut routes = route::list(nl, Family::V4, filter)?;
    let is_link_local =
        |route: &Route| matches!(route.dst.ip(), IpAddr::V6(address) if address.is_unicast_link_local());
    routes.extend(route::list(nl, Family::V6, filter)?.into_iter().filter(|route| !is_link_local(route)));
    Ok(routes)
}

/// What an ADD is going to do.
struct Plan<'a> {
    config: &'a Config,
    addresses: &'a [IpConfig],
    dev: &'a Dev,
    routed: &'a Routed,
    main: &'a [Route],
}

fn apply(nl: &mut Netlink, plan: &Plan<'_>) -> anyhow::Result<()> {
    let Plan { config, addresses, dev, routed, main } = *plan;
    let mut requests: Vec<_> = rules(routed).iter().map(rule::add).collect();
    if routed.own {
        for (ip, (_, table)) in addresses.iter().zip(&routed.tables) {
            requests.extend(fill(config, ip, dev, *table, main));
        }
        requests.extend(leave_main(config, addresses, dev, main));
    }
    Ok(nl.batch(&requests)?)
}

/// The address's table: a default route, and the interface's routes that concern the address.
fn fill(config: &Config, ip: &IpConfig, dev: &Dev, table: u32, main: &[Route]) -> Vec<KernelRequest> {
    let mut requests = Vec::new();
    let own = main.iter().filter(|route| route.dst.is_ipv4() == ip.address.is_ipv4()).filter(|route| {
        let inside = |address: Option<IpAddr>| address.is_some_and(|address| ip.address.contains(address));
        inside(route.source) || inside(route.gateway) || route.source.is_none() && route.gateway.is_none()
    });
    // Direct routes before those by a gateway, which they lead to.
    let mut own: Vec<_> = own.collect();
    own.sort_by_key(|route| route.gateway.is_some());
    let gateway = gateway(config, ip);
    for route in own {
        if !(route.is_default() && gateway.is_some()) {
            requests.push(route::replace(&Route { table, ..route.clone() }));
        }
    }
    if let Some(gateway) = gateway {
        let everywhere = if gateway.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let everywhere = everywhere.parse().expect("a network");
        let default = Route { gateway: Some(gateway), dev: Some(dev.index), table, ..Route::to(everywhere) };
        requests.push(route::replace(&default));
    }
    requests
}

/// What becomes of the main table: the interface's routes leave it. With hints those of its subnets stay, and say which of
/// the addresses is meant when the sender does not.
fn leave_main(config: &Config, addresses: &[IpConfig], dev: &Dev, main: &[Route]) -> Vec<KernelRequest> {
    let is_direct = |route: &&Route| route.gateway.is_none() && route.next_hops.is_empty();
    // Those by a gateway first: the others lead to it.
    let mut leaving: Vec<_> = main.iter().filter(|route| !config.source_hints || !is_direct(route)).collect();
    leaving.sort_by_key(is_direct);
    let hints = addresses.iter().filter(|_| config.source_hints).map(|ip| {
        let priority = main
            .iter()
            .find(|route| is_direct(route) && same_network(route.dst, ip.address))
            .and_then(|r| r.priority);
        route::replace(&Route {
            dev: Some(dev.index),
            source: Some(ip.address.ip()),
            scope: SCOPE_LINK,
            priority,
            ..Route::to(ip.address)
        })
    });
    leaving.into_iter().map(route::remove).chain(hints).collect()
}

fn same_network(a: IpNetwork, b: IpNetwork) -> bool {
    (a.network(), a.prefix()) == (b.network(), b.prefix())
}

fn gateway(config: &Config, ip: &IpConfig) -> Option<IpAddr> {
    let stated = config.gateways.iter().find(|gateway| gateway.is_ipv4() == ip.address.is_ipv4());
    stated.copied().or(ip.gateway)
}

fn rules(routed: &Routed) -> Vec<Rule> {
    let rule = |(ip, table): &(IpAddr, u32)| Rule {
        src: Some(IpNetwork::from(*ip)),
        ..Rule::to_table(family(*ip), *table)
    };
    routed.tables.iter().map(rule).collect()
}

fn family(ip: IpAddr) -> Family {
    if ip.is_ipv4() { Family::V4 } else { Family::V6 }
}

fn take_back(nl: &mut Netlink, dev: &Dev, routed: &Routed) -> anyhow::Result<()> {
    let mut requests: Vec<_> = rules(routed).iter().map(rule::remove).collect();
    for (ip, table) in routed.tables.iter().filter(|_| routed.own) {
        let filter = Filter { table: Some(*table), dev: Some(dev.index), ..Filter::default() };
        requests.extend(route::list(nl, family(*ip), filter)?.iter().map(route::remove));
    }
    Ok(nl.batch(&requests)?)
}

/// By the record, or else as the reference does it: the rules for what is sent from addresses of the interface.
fn clean(
    nl: &mut Netlink,
    request: &Request,
    attachment: &Attachment,
    routed: Option<Routed>,
) -> anyhow::Result<()> {
    let link = link::find(nl, attachment.ifname.as_str())?;
    match (routed, link) {
        (Some(routed), Some(link)) => take_back(nl, &link.dev(), &routed),
        (Some(routed), None) => Ok(nl.batch(&rules(&routed).iter().map(rule::remove).collect::<Vec<_>>())?),
        (None, Some(link)) => {
            let table = Config::new(request).ok().and_then(|config| config.table);
            let own: Vec<_> = address::list(nl, &link.dev())?.iter().map(|own| own.network.ip()).collect();
            let mut requests = Vec::new();
            for family in [Family::V4, Family::V6] {
                let is_own = |rule: &Rule| {
                    rule.src.is_some_and(|src| own.iter().any(|ip| src == IpNetwork::from(*ip)))
                        && table.is_none_or(|table| rule.table == table)
                };
                requests.extend(rule::list(nl, family)?.iter().filter(|rule| is_own(rule)).map(rule::remove));
            }
            Ok(nl.batch(&requests)?)
        }
        (None, None) => Ok(()),
    }
}

fn records(network: &NetworkName) -> Records {
    Records::of(NAME, network)
}

const NAME: &str = "sbr";
const FIRST_TABLE: u32 = 100;
