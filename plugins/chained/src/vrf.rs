//! `vrf`: the container's interface is in a domain of routing of its own, a VRF, whose table its routes are in. Several interfaces
//! may be in one.

use std::{collections::BTreeSet, net::IpAddr};

use attach::{check::failed, container::Container, failures::Failures, record::Records};
use cni::{
    error::{Code, Error},
    names::{Attachment, NetnsPath, NetworkName},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};
use ipnetwork::IpNetwork;
use kernel::{
    link::{self, Dev, Kind, Link},
    netlink::Netlink,
    route::{self, Family, Filter, TABLE_MAIN},
    rule, vrf,
};
use serde::{Deserialize, Serialize};

use crate::stale::detach_each;

pub(crate) mod config;
mod domain;

use self::{config::Config, domain::Kept};

/// The plugin of type `vrf`.
#[derive(Debug)]
pub struct Vrf;

/// The record's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Joined {
    /// `CNI_NETNS` to the letter.
    netns: String,
    vrf: String,
    table: u32,
    /// The interface's address, by which it is known where the path of the namespace may name another's by now.
    mac: String,
    /// Where the routes lead, and through which router, that moved into the table.
    moved: Vec<(IpNetwork, Option<IpAddr>)>,
}

impl Plugin for Vrf {
    const NAME: &'static str = NAME;

    /// The result passes through.
    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        let config = Config::of(request, attachment)?;
        let result = request.required_prev_result()?;
        let mut container = Container::open(netns)?;
        let nl = &mut container.netlink;
        let records = records(&attachment.network);
        let mut there = find(nl, &config)?;
        if let Some((_, old)) = records.find::<Joined>(attachment)? {
            leave(nl, attachment, &old.vrf, Whose::OfThePath)?;
            there = find(nl, &config)?;
        }
        let link = link::by_name(nl, attachment.ifname.as_str())?;
        require_no_master(nl, &link)?;
        let table = match &there {
            Some((_, table)) => *table,
            None => config.table.map_or_else(|| free_table(nl), Ok)?,
        };
        let kept = Kept::of(nl, &link.dev())?;
        let moved = kept.moving(TABLE_MAIN).map(|route| (route.dst, route.gateway)).collect();
        let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
        let (netns, vrf) = (netns.as_str().to_owned(), config.name.to_string());
        records.begin(attachment, &Joined { netns, vrf, table, mac, moved })?;
        let joined = join(nl, &config, there, table, &kept);
        joined.and_then(|()| Ok(records.complete(attachment)?)).inspect_err(|_| {
            if let Err(err) = undo(nl, attachment, &config, &kept) {
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
        let joined = failures.note(records.find::<Joined>(attachment)).flatten().map(|(_, joined)| joined);
        // Without a record, what another suite's plugin did: by the configuration, if it tells.
        let named = match (&joined, Config::new(request)) {
            (Some(joined), _) => Some((joined.vrf.clone(), Whose::OfThePath)),
            (None, Ok(config)) => Some((config.name.to_string(), Whose::Unrecorded)),
            (None, Err(_)) => None,
        };
        match (failures.note(Container::open_if_there(netns)).flatten(), named, &joined) {
            (Some(mut container), Some((vrf, whose)), _) => {
                failures.note(leave(&mut container.netlink, attachment, &vrf, whose));
            }
            (None, _, Some(joined)) => {
                failures.note(leave_where_recorded(attachment, joined));
            }
            _ => {}
        }
        if failures.is_empty() {
            failures.note(records.forget(attachment));
        }
        failures.into_result()
    }

    fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        let config = Config::of(request, attachment)?;
        request.required_prev_result()?;
        let mut container = Container::open(netns)?;
        let nl = &mut container.netlink;
        let name = &config.name;
        let (vrf, table) = find(nl, &config)?.ok_or_else(|| failed(format!("VRF {name} is gone")))?;
        if !vrf.is_up() {
            return Err(failed(format!("VRF {name} is down")).into());
        }
        let link = link::by_name(nl, attachment.ifname.as_str())?;
        if link.master != Some(vrf.index) {
            return Err(failed(format!("{} is not in VRF {name}", link.name)).into());
        }
        match records(&attachment.network).find::<Joined>(attachment)? {
            Some((_, joined)) => check_routes(nl, &link.dev(), table, &joined.moved),
            None => Ok(()),
        }
    }

    /// What is in a namespace that is gone went with it.
    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        detach_each(NAME, request, valid, &mut failures, |attachment, joined: Joined| {
            leave_where_recorded(attachment, &joined)?;
            Ok(records(&attachment.network).forget(attachment)?)
        });
        failures.into_result()
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        Config::new(request)?;
        if link::knows_kind(&mut Netlink::open()?, KIND)? {
            return Ok(());
        }
        Err(Error::new(Code::NotAvailable, NO_VRFS).into())
    }
}

/// The VRF that the configuration names, with its table, if it is there. Code 7 when the name is another link's, or when it has
/// another table.
fn find(nl: &mut Netlink, config: &Config) -> anyhow::Result<Option<(Link, u32)>> {
    let Some(link) = link::find(nl, config.name.as_str())? else { return Ok(None) };
    let Some(Kind::Vrf { table }) = link.kind else {
        let why = "is a link of the container, but no VRF";
        return Err(Error::invalid_config("vrfname", format!("{:?}", link.name), why).into());
    };
    match config.table {
        Some(wanted) if wanted != table => {
            let why = format!("VRF {} is there, with table {table}", link.name);
            Err(Error::invalid_config("table", wanted, why).into())
        }
        _ => Ok(Some((link, table))),
    }
}

/// Code 7: an interface has one master.
fn require_no_master(nl: &mut Netlink, link: &Link) -> anyhow::Result<()> {
    let Some(master) = link.master else { return Ok(()) };
    let master = link::by_index(nl, master)?.name;
    let why = format!("is a port of {master} already");
    Err(Error::invalid_config("CNI_IFNAME", &link.name, why).into())
}

/// The first one from 1 on, as in the reference; but none either that has a route, or that a rule asks.
fn free_table(nl: &mut Netlink) -> anyhow::Result<u32> {
    let tables = link::list_kind(nl, KIND)?.into_iter().filter_map(|link| match link.kind {
        Some(Kind::Vrf { table }) => Some(table),
        _ => None,
    });
    // RT_TABLE_DEFAULT, MAIN, LOCAL.
    let mut used: BTreeSet<_> = tables.chain(TABLE_MAIN - 1..=TABLE_MAIN + 1).collect();
    for family in [Family::V4, Family::V6] {
        used.extend(rule::list(nl, family)?.iter().map(|rule| rule.table));
        used.extend(route::list(nl, family, Filter::default())?.iter().map(|route| route.table));
    }
    Ok((1..).find(|table| !used.contains(table)).expect("a namespace has no four thousand million tables"))
}

/// Puts the interface into the VRF, which is made if it is not there, with all that it has.
fn join(
    nl: &mut Netlink,
    config: &Config,
    there: Option<(Link, u32)>,
    table: u32,
    kept: &Kept,
) -> anyhow::Result<()> {
    let name = config.name.as_str();
    let vrf = match there {
        Some((vrf, _)) => vrf.dev(),
        None => create(nl, name, table)?,
    };
    let mut requests = vec![link::change(&vrf).up().request(), kept.change().master(&vrf).request()];
    requests.extend(kept.put_back(TABLE_MAIN, table));
    Ok(nl.batch(&requests)?)
}

/// It has its mark from birth: whoever is killed after that knows it for the plugin's.
fn create(nl: &mut Netlink, name: &str, table: u32) -> anyhow::Result<Dev> {
    let born = [vrf::add(link::new(name), table), link::change_named(name).alias(MARK).request()];
    match nl.batch(&born) {
        Err(err) if err.is_unsupported() => {
            Err(Error::unsupported_field("vrfname", format!("{name:?}"), NO_VRFS).into())
        }
        made => {
            made?;
            Ok(link::by_name(nl, name)?.dev())
        }
    }
}

/// After a failed ADD: all is as it was.
fn undo(nl: &mut Netlink, attachment: &Attachment, config: &Config, kept: &Kept) -> anyhow::Result<()> {
    let Some((vrf, _)) = find(nl, config)? else { return Ok(()) };
    let link = link::find(nl, attachment.ifname.as_str())?;
    if link.is_some_and(|link| link.master == Some(vrf.index)) {
        let mut requests = vec![kept.change().no_master().request()];
        requests.extend(kept.put_back(TABLE_MAIN, TABLE_MAIN));
        nl.batch(&requests)?;
    }
    retire(nl, &vrf, Whose::OfThePath)
}

/// How the interface is known for the attachment's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose<'a> {
    /// The runtime says that the namespace is the container's: unless the interface has another's mark.
    OfThePath,
    /// The same, of another suite's plugin, whose VRF has no mark.
    Unrecorded,
    /// The path may name another's namespace now: by its MAC address.
    Known(&'a str),
}

/// Takes the interface out of the VRF with all that it has, and the VRF away with its last one.
fn leave(nl: &mut Netlink, attachment: &Attachment, name: &str, whose: Whose<'_>) -> anyhow::Result<()> {
    let found = link::find(nl, name)?;
    let Some((vrf, table)) = found.and_then(|link| match link.kind {
        Some(Kind::Vrf { table }) => Some((link, table)),
        _ => None,
    }) else {
        return Ok(());
    };
    let is_ours = |link: &Link| match whose {
        Whose::Known(mac) => link.mac.is_some_and(|own| own.to_string() == mac),
        Whose::OfThePath | Whose::Unrecorded => {
            link.alias.as_ref().is_none_or(|alias| *alias == attachment.alias())
        }
    };
    let link = link::find(nl, attachment.ifname.as_str())?;
    if let Some(link) = link.filter(|link| link.master == Some(vrf.index) && is_ours(link)) {
        let kept = Kept::of(nl, &link.dev())?;
        let mut requests = vec![kept.change().no_master().request()];
        requests.extend(kept.put_back(table, TABLE_MAIN));
        nl.batch(&requests)?;
    }
    retire(nl, &vrf, whose)
}

/// The same where the runtime has no name of the namespace any more.
fn leave_where_recorded(attachment: &Attachment, joined: &Joined) -> anyhow::Result<()> {
    let netns = NetnsPath::new(joined.netns.as_str());
    let Some(mut container) = Container::open_if_there(Some(&netns))? else { return Ok(()) };
    leave(&mut container.netlink, attachment, &joined.vrf, Whose::Known(&joined.mac))
}

/// A VRF that somebody else made, as for his own routes, stays. One without our mark was made by nobody else where the
/// interface was put into it without a record.
fn retire(nl: &mut Netlink, vrf: &Link, whose: Whose<'_>) -> anyhow::Result<()> {
    let is_made_by_plugin = vrf.alias.as_deref() == Some(MARK) || whose == Whose::Unrecorded;
    if is_made_by_plugin && link::list_ports(nl, &vrf.dev())?.is_empty() {
        nl.execute(link::remove(&vrf.dev()))?;
    }
    Ok(())
}

fn check_routes(
    nl: &mut Netlink,
    dev: &Dev,
    table: u32,
    moved: &[(IpNetwork, Option<IpAddr>)],
) -> anyhow::Result<()> {
    let filter = Filter { table: Some(table), dev: Some(dev.index), ..Filter::default() };
    let mut present = route::list(nl, Family::V4, filter)?;
    present.extend(route::list(nl, Family::V6, filter)?);
    for (dst, gateway) in moved {
        let same = |via: &Option<IpAddr>| via == gateway;
        let found = present.iter().filter(|route| route.dst == *dst);
        if !found.into_iter().any(|it| same(&it.gateway) || it.next_hops.iter().any(|hop| same(&hop.gateway)))
        {
            let via = gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
            return Err(failed(format!("the route to {dst}{via} in table {table} is gone")).into());
        }
    }
    Ok(())
}

fn records(network: &NetworkName) -> Records {
    Records::of(NAME, network)
}

const NAME: &str = "vrf";
/// The kernel's name of such links.
const KIND: &str = "vrf";
/// The alias of a VRF that this plugin made.
const MARK: &str = "tenon:vrf";
const NO_VRFS: &str = "this kernel has no VRFs (CONFIG_NET_VRF)";
