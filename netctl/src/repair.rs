//! Putting back what the records say, after somebody flushed the host's nftables: the elements of the suite's tables and the
//! accepts in the host's own; and the records themselves, from libcni's cache, after somebody took those. And taking out what nobody
//! needs any more.

use std::collections::BTreeSet;

use anyhow::Context as _;
use attach::{
    record::Records,
    ruleset::{owner::Owner, sweep},
};
use cni::{
    names::{Attachment, NetworkName},
    request::{Command, Request},
    run::Plugin,
};
use kernel::nft::Nft;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::facts::{Facts, attachment::Attached};

/// What a repair would do, or did.
#[derive(Debug, Default)]
pub struct Plan {
    /// Attachments whose elements are put back, with what is missing.
    pub restore: Vec<(Attachment, Vec<String>)>,
    /// Networks of which that is put back which their attachments share.
    pub restore_shared: Vec<(NetworkName, Vec<String>)>,
    /// Attachments that ended without our plugins, which all that is left of them goes with.
    pub forget: Vec<Attachment>,
    /// Comments of elements that belong to nobody.
    pub sweep: Vec<String>,
}

impl Plan {
    pub fn new(facts: &Facts) -> Self {
        let wanting = facts.attachments.iter().filter(|it| it.gone.is_none() && !it.abandoned);
        let wanting = wanting.map(|it| (it.key.clone(), missing(it)));
        let restore = wanting.filter(|(_, missing)| !missing.is_empty()).collect();
        let shared = facts.shared.iter().filter(|(_, missing)| !missing.is_empty());
        let restore_shared =
            shared.map(|(shared, missing)| (shared.network().clone(), missing.clone())).collect();
        let forget = facts.attachments.iter().filter(|it| it.abandoned).map(|it| it.key.clone()).collect();
        Self { restore, restore_shared, forget, sweep: facts.strangers() }
    }

    /// Nothing but what is to go, of the networks that `wanted` takes the names of.
    pub fn leftovers(facts: &Facts, wanted: impl Fn(&str) -> bool) -> Self {
        let Self { mut forget, mut sweep, .. } = Self::new(facts);
        forget.retain(|key| wanted(key.network.as_str()));
        sweep.retain(|comment| comment.split_once('/').is_some_and(|(network, _)| wanted(network)));
        Self { forget, sweep, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        let Self { restore, restore_shared, forget, sweep } = self;
        restore.is_empty() && restore_shared.is_empty() && forget.is_empty() && sweep.is_empty()
    }
}

fn missing(attached: &Attached) -> Vec<String> {
    let records = attached.lost.iter().map(|lost| format!("the record of {}", lost.plugin));
    let elements = attached.unruled.iter().chain(&attached.unpublished);
    elements.cloned().chain(records).collect()
}

/// Carries out what there is to do, in one batch for each attachment.
pub fn rules(facts: &Facts) -> anyhow::Result<Plan> {
    let plan = Plan::new(facts);
    if plan.is_empty() {
        return Ok(plan);
    }
    forget_all(&plan)?;
    let mut nft = Nft::open()?;
    for attached in facts.attachments.iter().filter(|it| plan.restore.iter().any(|(key, _)| *key == it.key)) {
        restore(attached, &mut nft).with_context(|| format!("restore the rules of {}", attached.key))?;
    }
    for (shared, _) in facts.shared.iter().filter(|(_, missing)| !missing.is_empty()) {
        let what = || format!("restore the rules of network {}", shared.network());
        shared.restore(&mut nft).with_context(what)?;
    }
    sweep_all(facts, &plan, &mut nft)?;
    Ok(plan)
}

/// Carries out of a plan what takes away.
pub fn remove(facts: &Facts, plan: &Plan) -> anyhow::Result<()> {
    forget_all(plan)?;
    if plan.sweep.is_empty() { Ok(()) } else { sweep_all(facts, plan, &mut Nft::open()?) }
}

fn forget_all(plan: &Plan) -> anyhow::Result<()> {
    for attachment in &plan.forget {
        forget(attachment).with_context(|| format!("take back what {attachment} was given"))?;
    }
    Ok(())
}

fn sweep_all(facts: &Facts, plan: &Plan, nft: &mut Nft) -> anyhow::Result<()> {
    for network in networks(&plan.sweep) {
        let valid = facts.attachments.iter().map(|it| &it.key).filter(|key| key.network == network);
        sweep::remove_stale(nft, &network, valid).with_context(|| format!("sweep the rules of {network}"))?;
    }
    Ok(())
}

/// Records that are lost come first, that of the interface as the last of them: without it the others are looked for again.
fn restore(attached: &Attached, nft: &mut Nft) -> anyhow::Result<()> {
    for lost in attached.lost.iter().rev() {
        lost.restore(&attached.key, nft)?;
    }
    let plans = attached.made.iter().map(|made| &made.ruleset).chain(&attached.chained);
    for plan in plans {
        plan.add(nft)?;
    }
    Ok(())
}

/// DEL by each plugin that has a record, last first, which is all that it needs.
fn forget(attachment: &Attachment) -> anyhow::Result<()> {
    del::<chained::vrf::Vrf>(attachment)?;
    del::<chained::sbr::Sbr>(attachment)?;
    del::<chained::bandwidth::Bandwidth>(attachment)?;
    del::<chained::tuning::Tuning>(attachment)?;
    del::<chained::firewall::Firewall>(attachment)?;
    del::<chained::portmap::Portmap>(attachment)?;
    del::<tap::Tap>(attachment)?;
    del::<dummy::Dummy>(attachment)?;
    del::<vlan::Vlan>(attachment)?;
    del::<ipvlan::Ipvlan>(attachment)?;
    del::<macvlan::Macvlan>(attachment)?;
    del::<ptp::Ptp>(attachment)?;
    del::<bridge::Bridge>(attachment)
}

fn del<P: Plugin>(attachment: &Attachment) -> anyhow::Result<()> {
    let records = Records::of(P::NAME, &attachment.network);
    if records.find::<IgnoredAny>(attachment)?.is_none() {
        return Ok(());
    }
    // Without `ipam`: leases are for whoever released them, or for `netctl ipam gc`.
    let config = json!({"cniVersion": "1.1.0", "name": attachment.network.as_str(), "type": P::NAME});
    let request = Request::parse(Command::Del, config.to_string().into_bytes(), |_| String::new())?;
    P::del(&request, attachment, None)
}

/// Comments begin with the network's name, unless that is very long.
fn networks(comments: &[String]) -> BTreeSet<NetworkName> {
    let name = |comment: &String| comment.split_once('/')?.0.parse().ok();
    comments.iter().filter_map(name).collect()
}

/// The comments of all attachments.
pub(crate) fn comment(key: &Attachment) -> String {
    Owner::of(key).comment().to_owned()
}
