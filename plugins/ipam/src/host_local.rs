//! `host-local`: addresses out of ranges, remembered in files of this host.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, bail};
use cni::{
    error::{Code, Error},
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::{AddResult, Dns, IpConfig},
    run::Plugin,
};
use ipnetwork::IpNetwork;

use crate::{
    allocate::{assign, candidates},
    owner::Owner,
    place::Place,
    range::RangeSet,
    resolv_conf,
    store::{Store, lease::exhausted},
};

pub(crate) mod config;
use config::{Config, place};

/// What a configuration leases, and where it writes that down: for those who look at it from outside.
#[derive(Debug, Clone)]
pub struct Pool {
    pub sets: Vec<RangeSet>,
    pub place: Place,
}

/// The pool of a network's configuration. Fails (code 7) as ADD would.
pub fn pool(request: &Request) -> Result<Pool, Error> {
    let Config { sets, place, requested: _, routes: _, resolv_conf: _ } = Config::parse(request)?;
    Ok(Pool { sets, place })
}

/// The plugin. It never looks into the namespace.
pub struct HostLocal;

impl Plugin for HostLocal {
    const NAME: &'static str = "host-local";

    fn add(request: &Request, at: &Attachment, _: &NetnsPath) -> anyhow::Result<AddResult> {
        let config = Config::parse(request)?;
        let sets = config.some_sets()?;
        let requested = assign(sets, &config.requested).context("failed to allocate all requested IPs")?;
        let dns = config.resolv_conf.as_ref().map_or(Ok(Dns::default()), |path| {
            let text =
                fs::read_to_string(path).with_context(|| format!("read resolvConf {}", path.display()));
            text.map(|text| resolv_conf::parse(&text))
        })?;
        let leases = Store::create(&config.place)?.lease(at, sets, &requested)?;
        let ips = leases.iter().map(|(address, range)| {
            let address = IpNetwork::new(*address, range.subnet.prefix())?;
            Ok(IpConfig { interface: None, address, gateway: range.gateway })
        });
        let ips = ips.collect::<anyhow::Result<_>>()?;
        Ok(AddResult { interfaces: Vec::new(), ips, routes: config.routes, dns })
    }

    /// Needs the configuration for `dataDir` alone: ranges may be invalid by now, or not be given again.
    fn del(request: &Request, at: &Attachment, _: Option<&NetnsPath>) -> anyhow::Result<()> {
        if let Some(mut store) = Store::open(&place(request)?)? {
            store.release(at)?;
        }
        Ok(())
    }

    /// The attachment holds one address of each set, and they are the ones that ADD gave.
    fn check(request: &Request, at: &Attachment, _: &NetnsPath) -> anyhow::Result<()> {
        let config = Config::parse(request)?;
        let sets = config.some_sets()?;
        let previous = request.prev_result()?.map(|result| result.ips);
        let held = Store::open(&config.place)?.map_or(Ok(Vec::new()), |mut store| store.held(at))?;
        for (index, set) in sets.iter().enumerate() {
            let of_set: Vec<_> = held.iter().filter(|address| set.range_of(**address).is_some()).collect();
            let [address] = of_set[..] else {
                bail!("range set {index} ({set}): {at} holds {} addresses of it, not 1", of_set.len());
            };
            let Some(previous) = &previous else { continue };
            let given: Vec<_> = previous
                .iter()
                .map(|ip| ip.address.ip())
                .filter(|given| set.range_of(*given).is_some())
                .collect();
            if given != [*address] {
                bail!("range set {index} ({set}): {at} holds {address}, prevResult has {given:?}");
            }
        }
        Ok(())
    }

    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        let Some(mut store) = Store::open(&place(request)?)? else { return Ok(()) };
        let containers: BTreeSet<_> = valid.0.iter().map(|target| target.container.as_str()).collect();
        let targets: BTreeSet<_> =
            valid.0.iter().map(|target| (target.container.as_str(), target.ifname.as_str())).collect();
        let released = store.retain(|owner: &Owner| match owner.ifname() {
            Some(ifname) => targets.contains(&(owner.container(), ifname)),
            None => containers.contains(owner.container()),
        })?;
        if !released.is_empty() {
            log::info!("GC of {}: released {released:?}", request.name);
        }
        Ok(())
    }

    /// Code 50 when a set has no address left. Ranges that come with each ADD (`ipRanges`) are not known here.
    fn status(request: &Request) -> anyhow::Result<()> {
        let config = Config::parse(request)?;
        let store = Store::open(&config.place)?;
        for (index, set) in config.sets.iter().enumerate() {
            let has_free = match &store {
                Some(store) => store.has_free(index, set)?,
                None => candidates(set, None).next().is_some(),
            };
            if !has_free {
                return Err(Error::new(Code::NotAvailable, exhausted(index, set).to_string()).into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
