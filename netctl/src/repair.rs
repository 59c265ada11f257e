//! Putting back what the records say: the elements of the suite's tables after somebody flushed them.

use anyhow::Context as _;
use attach::ruleset::{owner::Owner, sweep};
use cni::names::Attachment;
use kernel::nft::Nft;

use crate::facts::Facts;

/// What a repair would do, or did.
#[derive(Debug, Default)]
pub struct Plan {
    /// Attachments whose elements are put back, with what is missing.
    pub restore: Vec<(Attachment, Vec<String>)>,
    /// Comments of elements that belong to nobody.
    pub sweep: Vec<String>,
}

impl Plan {
    pub fn new(facts: &Facts) -> Self {
        let wanting = facts.attachments.iter().filter(|it| it.gone.is_none());
        let wanting = wanting.filter(|it| !it.unruled.is_empty() || !it.unpublished.is_empty());
        let restore =
            wanting.map(|it| (it.key.clone(), [&it.unruled[..], &it.unpublished].concat())).collect();
        Self { restore, sweep: facts.strangers() }
    }

    pub fn is_empty(&self) -> bool {
        self.restore.is_empty() && self.sweep.is_empty()
    }
}

/// Carries the plan out, in one batch for each attachment.
pub fn rules(facts: &Facts) -> anyhow::Result<Plan> {
    let plan = Plan::new(facts);
    if plan.is_empty() {
        return Ok(plan);
    }
    let mut nft = Nft::open()?;
    for attached in facts.attachments.iter().filter(|it| plan.restore.iter().any(|(key, _)| *key == it.key)) {
        let plans = attached.made.iter().map(|made| &made.ruleset).chain(&attached.chained);
        for plan in plans {
            plan.add(&mut nft).with_context(|| format!("restore the rules of {}", attached.key))?;
        }
    }
    for network in facts.networks.iter().filter(|_| !plan.sweep.is_empty()) {
        let name = &network.list.name;
        let valid = facts.attached_to(network).map(|attached| &attached.key);
        sweep::remove_stale(&mut nft, name, valid).with_context(|| format!("sweep the rules of {name}"))?;
    }
    Ok(plan)
}

/// The comments of all attachments.
pub(crate) fn comment(key: &Attachment) -> String {
    Owner::of(key).comment().to_owned()
}
