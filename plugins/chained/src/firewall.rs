//! `firewall`: containers are let through the host's filter, and kept from each other where the network says so.

use attach::{
    check::failed,
    failures::Failures,
    lock::NetworkLock,
    record::{self, Records},
    ruleset::{legacy, owner::Owner, plan::Plan, sweep},
    supposed::Supposed,
};
use cni::{
    error::Error,
    names::{Attachment, NetnsPath},
    request::{Request, ValidAttachments},
    result::AddResult,
    run::Plugin,
};
use ipnetwork::IpNetwork;
use kernel::{link, netlink::Netlink, nft::Nft, sysctl};

use crate::{addresses::of_interface, stale::detach_each, usable};

pub(crate) mod config;
pub mod state;
mod status;

use self::{
    config::{Config, IngressPolicy},
    state::{Guarded, NAME, Shared, records},
};

/// What each attachment of this boot has in the suite's tables, by its record: for who puts it back.
pub fn rulesets() -> Result<Vec<(Attachment, Plan)>, record::Error> {
    let mut all = Vec::new();
    for records in Records::of_every_network(NAME)? {
        let found = records.all::<Guarded>()?.into_iter();
        all.extend(found.map(|it| (it.attachment.clone(), it.data.ruleset(&it.attachment))));
    }
    Ok(all)
}

/// What the networks of this boot have besides, for all of their attachments.
pub fn shared() -> Result<Vec<Shared>, record::Error> {
    let mut all = Vec::new();
    for records in Records::of_every_network(NAME)? {
        for record in records.all::<Guarded>()? {
            let shared = record.data.shared(&record.attachment.network);
            // One after the other they are mostly the same.
            if !all.contains(&shared) {
                all.push(shared);
            }
        }
    }
    Ok(all)
}

/// What an ADD of this configuration after this `prevResult` would have made, and what the network has by it: for who puts it back
/// without a record.
pub fn supposed(request: &Request, attachment: &Attachment) -> anyhow::Result<(Supposed, Shared)> {
    let guarded = guarded(Config::new(request)?, &request.required_prev_result()?, attachment)?;
    let supposed = Supposed::new(NAME, &guarded, guarded.ruleset(attachment))?;
    Ok((supposed, guarded.shared(&attachment.network)))
}

/// The plugin of type `firewall`.
#[derive(Debug)]
pub struct Firewall;

impl Plugin for Firewall {
    const NAME: &'static str = NAME;

    fn add(request: &Request, attachment: &Attachment, _: &NetnsPath) -> anyhow::Result<AddResult> {
        let config = Config::new(request)?;
        let result = request.required_prev_result()?;
        let guarded = guarded(config, &result, attachment)?;
        add(attachment, &guarded).inspect_err(|_| {
            if let Err(err) = take_back(attachment, &guarded) {
                log::error!("{attachment}: after a failed ADD: {err:#}");
            }
        })?;
        Ok(result)
    }

    fn del(request: &Request, attachment: &Attachment, _: Option<&NetnsPath>) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        match failures.note(records(&attachment.network).find::<Guarded>(attachment)) {
            Some(Some((_, guarded))) => {
                failures.note(take_back(attachment, &guarded));
            }
            _ => {
                failures.note(take_back_unrecorded(request, attachment));
            }
        }
        failures.into_result()
    }

    fn check(request: &Request, attachment: &Attachment, _: &NetnsPath) -> anyhow::Result<()> {
        let guarded = guarded(Config::new(request)?, &request.required_prev_result()?, attachment)?;
        let mut nft = Nft::open()?;
        let mut missing = guarded.ruleset(attachment).missing(&mut nft)?;
        missing.extend(guarded.shared(&attachment.network).missing(&mut nft)?);
        if missing.is_empty() {
            return Ok(());
        }
        Err(failed(format!("the nftables ruleset lacks {}", missing.join(", "))).into())
    }

    fn gc(request: &Request, valid: &ValidAttachments) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        detach_each(NAME, request, valid, &mut failures, |attachment, guarded: Guarded| {
            take_back(attachment, &guarded)
        });
        let valid: Vec<_> = valid.0.iter().map(|target| target.clone().on(request.name.clone())).collect();
        failures.note(Nft::open().and_then(|mut nft| sweep::remove_stale(&mut nft, &request.name, &valid)));
        failures.into_result()
    }

    fn status(request: &Request) -> anyhow::Result<()> {
        let config = Config::new(request)?;
        status::check(&mut usable::nftables()?, &config, &request.name)
    }
}

/// What is to be guarded of a result. Code 7 where the policy asks for what the result does not have.
fn guarded(config: Config, result: &AddResult, attachment: &Attachment) -> anyhow::Result<Guarded> {
    let Config { admin_chain, zone: _, policy, from, internal } = config;
    let on_host = |interface: &&cni::result::Interface| interface.sandbox.is_empty();
    // The first is the bridge, or the host's end where there is none, as the reference has it.
    let interface = result.interfaces.iter().find(on_host).map(|interface| interface.name.clone());
    if interface.is_none() && (policy != IngressPolicy::Open || internal) {
        let why = "the result before has no interface on the host, which these need";
        let field = if internal { "internal" } else { "ingressPolicy" };
        return Err(Error::invalid_config(field, "prevResult.interfaces", why).into());
    }
    let port = match policy {
        IngressPolicy::Isolated if !bridged_packets_are_seen() => port(result)?,
        _ => None,
    };
    let addresses = of_interface(result, &attachment.ifname);
    Ok(Guarded { addresses, interface, port, policy, from, internal, admin_chain })
}

/// With br_netfilter on, what a bridge passes on goes through the rules for what is forwarded, where published ports are
/// told apart. Without, the bridge's own rules keep ports apart, and published ports are routed.
fn bridged_packets_are_seen() -> bool {
    ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"]
        .iter()
        .all(|path| sysctl::read(path).is_ok_and(|value| value == "1"))
}

fn port(result: &AddResult) -> anyhow::Result<Option<String>> {
    let mut host = Netlink::open()?;
    for interface in result.interfaces.iter().filter(|interface| interface.sandbox.is_empty()) {
        if let Some(link) = link::find(&mut host, &interface.name)?
            && link.is_veth()
            && link.port.is_some()
        {
            return Ok(Some(link.name));
        }
    }
    Ok(None)
}

fn add(attachment: &Attachment, guarded: &Guarded) -> anyhow::Result<()> {
    let network = &attachment.network;
    let records = records(network);
    // Whoever removes what the network has as its last waits until this one is written down.
    let _shared = NetworkLock::shared(network)?;
    let mut nft = Nft::open()?;
    if let Some((_, old)) = records.find::<Guarded>(attachment)?
        && old != *guarded
    {
        old.ruleset(attachment).remove(&mut nft)?;
    }
    records.begin(attachment, guarded)?;
    guarded.ruleset(attachment).add(&mut nft)?;
    guarded.shared(network).ensure(&mut nft)?;
    records.complete(attachment)?;
    Ok(())
}

fn take_back(attachment: &Attachment, guarded: &Guarded) -> anyhow::Result<()> {
    let mut nft = Nft::open()?;
    guarded.ruleset(attachment).remove(&mut nft)?;
    let records = records(&attachment.network);
    records.remove(attachment)?;
    if !records.is_empty() {
        return Ok(());
    }
    let _alone = NetworkLock::exclusive(&attachment.network)?;
    if records.retire()? {
        guarded.shared(&attachment.network).remove(&mut nft)?;
    }
    Ok(())
}

/// Elements by their owner, and what the Go plugin made for the addresses of the result.
fn take_back_unrecorded(request: &Request, attachment: &Attachment) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    // An ADD that was killed may have left one that can't be read, or an empty directory.
    let records = records(&attachment.network);
    failures.note(records.remove(attachment));
    failures.note(records.retire());
    let mut nft = Nft::open()?;
    failures.note(sweep::remove_guard(&mut nft, &Owner::of(attachment)));
    if let Ok(Some(result)) = request.prev_result() {
        let addresses: Vec<_> = of_interface(&result, &attachment.ifname).iter().map(IpNetwork::ip).collect();
        failures.note(legacy::remove_accepts(&mut nft, &addresses));
    }
    failures.into_result()
}
