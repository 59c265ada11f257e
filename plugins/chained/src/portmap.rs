//! `portmap`: what is sent to a port of the host goes to a port of the container.

use attach::{
    check::failed,
    failures::Failures,
    record::{self, Records},
    ruleset::{legacy, owner::Owner, plan::Plan, publish::taken, sweep},
    supposed::Supposed,
};
use cni::{
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};
use kernel::{
    bridge::{self, PortOptions},
    error::Error,
    link,
    netlink::Netlink,
    nft::Nft,
    route::{self, Family},
    sysctl,
};

use crate::{addresses::of_interface, stale::detach_each, usable};

mod conditions;
pub(crate) mod config;
mod conflict;
mod flows;
mod state;

use self::{
    config::{Back, Config},
    state::{Published, Side, first_of_each, records},
};

/// What each attachment of this boot has in the suite's tables, by its record: for who puts it back.
pub fn rulesets() -> Result<Vec<(Attachment, Plan)>, record::Error> {
    let mut all = Vec::new();
    for records in Records::of_every_network("portmap")? {
        let found = records.all::<Published>()?.into_iter();
        all.extend(found.map(|it| (it.attachment.clone(), it.data.ruleset(&it.attachment))));
    }
    Ok(all)
}

/// What an ADD of this configuration after this `prevResult` would have made, if anything: for who puts it back without a record.
pub fn supposed(
    request: &Request,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<Option<Supposed>> {
    let config = Config::new(request)?;
    if config.mappings.is_empty() {
        return Ok(None);
    }
    let result = request.required_prev_result()?;
    let published = published(&mut Netlink::open()?, &config, &result, attachment, netns)?;
    Ok(Some(Supposed::new(Portmap::NAME, &published, published.ruleset(attachment))?))
}

/// The plugin of type `portmap`.
#[derive(Debug)]
pub struct Portmap;

impl Plugin for Portmap {
    const NAME: &'static str = "portmap";

    /// Without ports the result passes through, and nothing is done.
    fn add(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<AddResult> {
        let config = Config::new(request)?;
        let result = request.required_prev_result()?;
        if config.mappings.is_empty() {
            return Ok(result);
        }
        conflict::check_listeners(&config.mappings)?;
        let mut host = Netlink::open()?;
        let published = published(&mut host, &config, &result, attachment, netns)?;
        if config.back != Back::Nobody {
            let_return(&mut host, &result)?;
        }
        add(&mut host, &config, attachment, &published).inspect_err(|_| {
            if let Err(err) = take_back(attachment, Some(&published)) {
                log::error!("{attachment}: after a failed ADD: {err:#}");
            }
        })?;
        Ok(result)
    }

    fn del(request: &Request, attachment: &Attachment, _: Option<&NetnsPath>) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        let found = failures.note(records(&attachment.network).find::<Published>(attachment));
        if let Some(Some((_, published))) = found {
            failures.note(take_back(attachment, Some(&published)));
        } else if Config::new(request).is_ok_and(|config| config.mappings.is_empty()) {
            // Nothing was published, by whichever plugin.
        } else {
            failures.note(take_back(attachment, None));
        }
        failures.into_result()
    }

    fn check(request: &Request, attachment: &Attachment, netns: &NetnsPath) -> anyhow::Result<()> {
        let config = Config::new(request)?;
        let result = request.required_prev_result()?;
        if config.mappings.is_empty() {
            return Ok(());
        }
        let published = published(&mut Netlink::open()?, &config, &result, attachment, netns)?;
        let missing = published.ruleset(attachment).missing(&mut Nft::open()?)?;
        if !missing.is_empty() {
            return Err(failed(format!("the nftables ruleset lacks {}", missing.join(", "))).into());
        }
        for oif in published.sides.iter().filter_map(Side::localhost) {
            let path = route_localnet(oif);
            if sysctl::read(&path)? != "1" {
                return Err(failed(format!("sysctl {path} is not 1")).into());
            }
        }
        Ok(())
    }

    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        detach_each("portmap", request, valid, &mut failures, |attachment, published: Published| {
            take_back(attachment, Some(&published))
        });
        let valid: Vec<_> = valid.0.iter().map(|target| target.clone().on(request.name.clone())).collect();
        failures.note(Nft::open().and_then(|mut nft| sweep::remove_stale(&mut nft, &request.name, &valid)));
        failures.into_result()
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        Config::new(request)?;
        usable::nftables()?;
        Ok(())
    }
}

/// What is to be published of a result.
fn published(
    host: &mut Netlink,
    config: &Config,
    result: &AddResult,
    attachment: &Attachment,
    netns: &NetnsPath,
) -> anyhow::Result<Published> {
    let mut sides = Vec::new();
    for address in first_of_each(&of_interface(result, &attachment.ifname)) {
        let oif = match route::lookup(host, address.ip()).map(|route| route.dev) {
            Ok(Some(index)) => Some(link::by_index(host, index)?.name),
            Ok(None) => None,
            // No way to the container is not portmap's to judge.
            Err(err) if err.is_unreachable() => None,
            Err(err) => return Err(err.into()),
        };
        sides.extend(Side::new(config, address, oif));
    }
    Ok(Published { netns: netns.as_str().to_owned(), sides })
}

fn add(
    host: &mut Netlink,
    config: &Config,
    attachment: &Attachment,
    published: &Published,
) -> anyhow::Result<()> {
    let records = records(&attachment.network);
    let mut nft = Nft::open()?;
    if let Some((_, old)) = records.find::<Published>(attachment)?
        && old != *published
    {
        old.ruleset(attachment).remove(&mut nft)?;
    }
    records.begin(attachment, published)?;
    let plan = published.ruleset(attachment);
    if let Err(err) = plan.add(&mut nft) {
        make_room(&mut nft, config, attachment, &plan, err)?;
    }
    for oif in published.sides.iter().filter_map(Side::localhost) {
        sysctl::ensure(&route_localnet(oif), "1")?;
    }
    let ports: Vec<_> = published.ports().collect();
    if let Err(err) = flows::forget_foreign(host, &ports) {
        log::warn!("{attachment}: connections from before may not reach it: {err}");
    }
    records.complete(attachment)?;
    Ok(())
}

/// The container reaches itself by its port of the host. Where iptables sees bridged packets (br_netfilter), such a packet is
/// sent back by the bridge, not by the host's routes, and to the port that it came in by.
fn let_return(host: &mut Netlink, result: &AddResult) -> anyhow::Result<()> {
    for interface in result.interfaces.iter().filter(|interface| interface.sandbox.is_empty()) {
        if let Some(link) = link::find(host, &interface.name)?
            && link.is_veth()
            && link.port.is_some_and(|port| !port.hairpin)
        {
            let hairpin = PortOptions { hairpin: Some(true), ..PortOptions::default() };
            host.execute(bridge::set_port(&link.dev(), &hairpin))?;
        }
    }
    Ok(())
}

/// When a port is in the way: of another attachment, which is an error unless its container is gone; or of this one's own
/// past, of which there is no record.
fn make_room(
    nft: &mut Nft,
    config: &Config,
    attachment: &Attachment,
    plan: &Plan,
    cause: Error,
) -> anyhow::Result<()> {
    if !cause.is_exists() && !cause.is_busy() {
        return Err(cause.into());
    }
    let mut holders = taken(plan, nft)?;
    if holders.is_empty() {
        sweep::remove_ports(nft, &Owner::of(attachment))?;
    }
    // Each that goes may have had several of the ports.
    while let Some(holder) = holders.first() {
        conflict::evict_dead(nft, &config.mappings, holder)?;
        holders = taken(plan, nft)?;
    }
    Ok(plan.add(nft)?)
}

/// Takes an attachment's ports back, and lets go of what was connected by them. Without a record its elements are looked for
/// by their owner, and what the Go plugin may have made by the names that it gives.
fn take_back(attachment: &Attachment, published: Option<&Published>) -> anyhow::Result<()> {
    let mut nft = Nft::open()?;
    let records = records(&attachment.network);
    let Some(published) = published else {
        // An ADD that was killed may have left one that can't be read, or an empty directory.
        records.forget(attachment)?;
        sweep::remove_ports(&mut nft, &Owner::of(attachment))?;
        return legacy::remove_ports(&mut nft, attachment);
    };
    published.ruleset(attachment).remove(&mut nft)?;
    let ports: Vec<_> = published.ports().collect();
    if let Err(err) = flows::forget_own(&ports) {
        log::warn!("{attachment}: connections to it may stay: {err}");
    }
    records.forget(attachment)?;
    Ok(())
}

fn route_localnet(link: &str) -> String {
    sysctl::conf(Family::V4, link, "route_localnet")
}
