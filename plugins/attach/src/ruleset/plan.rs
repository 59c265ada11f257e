//! What an attachment has in the tables: computed first, then put in, taken out or looked for as a whole.
//!
//! An address may be given out again while a stale DEL of its last holder is still to come. Taking it out by key alone
//! would hit the new holder. So a map says whose each address is, and DEL opens with "let it be mine": where it is not,
//! the kernel refuses the element for its other data, and the batch as a whole does nothing. No reading, no race.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use kernel::{
    error::{Error, Result},
    nft::{Nft, batch::Batch, element::Element, rule::Verdict, table::Table},
};
use nix::errno::Errno;

use super::{
    guard::Guard,
    masquerade::Masquerade,
    publish::Publish,
    schema::{Feature, INET, Place},
    spoof_check::SpoofCheck,
};

/// The elements of one attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub(super) features: BTreeSet<Feature>,
    pub(super) groups: Vec<Group>,
}

/// Elements that come and go together. The `guard` is an element of a map of owners whose data is the owner's tag: in the
/// way of everybody else who would add or remove the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) guard: Option<(Place, Element)>,
    pub(super) elements: Vec<(Place, Element)>,
}

impl Plan {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// To take out what was found.
    pub(super) fn of(groups: Vec<Group>) -> Self {
        Self { features: BTreeSet::new(), groups }
    }

    /// With connections of these addresses masqueraded.
    #[must_use]
    pub fn masquerade(mut self, masquerade: &Masquerade<'_>) -> Self {
        masquerade.plan(&mut self);
        self
    }

    /// With these ports published. Where another attachment has one of them, [`Plan::add`] fails, and
    /// [`super::publish::taken`] tells whose it is.
    #[must_use]
    pub fn publish(mut self, publish: &Publish<'_>) -> Self {
        publish.plan(&mut self);
        self
    }

    /// With connections to these addresses allowed from some interfaces only.
    #[must_use]
    pub fn guard(mut self, guard: &Guard<'_>) -> Self {
        guard.plan(&mut self);
        self
    }

    /// With frames of this port checked.
    #[must_use]
    pub fn spoof_check(mut self, check: &SpoofCheck<'_>) -> Self {
        check.plan(&mut self);
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Puts everything in, in one batch (several where there are hundreds of ports); what is in already is fine. Makes the
    /// features that are missing, and drives out what a former holder of the addresses left.
    pub fn add(&self, nft: &mut Nft) -> Result<()> {
        self.groups.chunks(AT_ONCE).try_for_each(|groups| self.add_groups(groups, nft))
    }

    fn add_groups(&self, groups: &[Group], nft: &mut Nft) -> Result<()> {
        for _ in 0..ATTEMPTS {
            match nft.commit(addition(groups)) {
                Err(err) if err.is_missing() => self.make_features(nft)?,
                Err(err) if is_taken(&err) && !self.evict(nft)? => return Err(err),
                Err(err) if is_taken(&err) => {}
                done => return done,
            }
        }
        nft.commit(addition(groups))
    }

    /// Takes everything out that is in and still belongs to this attachment.
    ///
    /// Keep `nft` open until the other work of the DEL is done: closing it waits for an RCU grace period.
    pub fn remove(&self, nft: &mut Nft) -> Result<()> {
        for groups in self.groups.chunks(AT_ONCE) {
            match nft.commit(removal(groups)) {
                Err(err) if err.is_missing() || is_taken(&err) || is_foreign(&err) => {}
                done => {
                    done?;
                    continue;
                }
            }
            // Some of it is not there or not ours: find out which.
            for group in groups {
                match nft.commit(removal(std::slice::from_ref(group))) {
                    Err(err) if err.is_missing() || is_taken(&err) || is_foreign(&err) => {}
                    done => done?,
                }
            }
        }
        Ok(())
    }

    /// What should be in the tables and is not, as text; empty when all is well. Costs the same in tables of any size.
    pub fn missing(&self, nft: &mut Nft) -> Result<Vec<String>> {
        self.missing_from(nft, &mut Rules::default())
    }

    /// As [`Plan::missing`], for one of many: the rules that they share are read once.
    pub fn missing_from(&self, nft: &mut Nft, rules: &mut Rules) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for feature in &self.features {
            missing.extend_from_slice(rules.missing(nft, feature)?);
        }
        let elements = self.groups.iter().flat_map(|group| group.guard.iter().chain(&group.elements));
        for (place, element) in elements {
            let found = nft.find_element(place.set(), &element.key)?;
            if found.is_none_or(|found| found.data != element.data) {
                missing.push(format!("{element} in set {}", place.set()));
            }
        }
        Ok(missing)
    }

    fn make_features(&self, nft: &mut Nft) -> Result<()> {
        for feature in &self.features {
            match nft.commit(feature.schema()) {
                Err(err) if err.is_exists() => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Takes out what is in the name of another attachment under our keys: that one is gone, for the address is ours
    /// now. The only place where ADD reads; it happens after a DEL that never came.
    ///
    /// False when what is in the way has its place: a port is not given out, two attachments may want it.
    fn evict(&self, nft: &mut Nft) -> Result<bool> {
        for (place, guard) in self.groups.iter().filter_map(|group| group.guard.as_ref()) {
            let Some(found) = nft.find_element(place.set(), &guard.key)? else { continue };
            if found.data == guard.data {
                continue;
            }
            if !place.is_of_owners() {
                return Ok(false);
            }
            let mut elements = Vec::new();
            for place in places(nft, INET)?.into_iter().filter(|place| !place.is_of_owners()) {
                let all = nft.elements(place.set())?.into_iter();
                let theirs = all.filter(|element| element.key.starts_with(&guard.key));
                elements.extend(theirs.map(|element| (place.clone(), element)));
            }
            Self::of(vec![Group { guard: Some((place.clone(), found)), elements }]).remove(nft)?;
        }
        Ok(true)
    }
}

/// What is missing of each feature's rules, as far as it was looked at.
#[derive(Debug, Default)]
pub struct Rules(BTreeMap<Feature, Vec<String>>);

impl Rules {
    fn missing(&mut self, nft: &mut Nft, feature: &Feature) -> Result<&[String]> {
        match self.0.entry(feature.clone()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => Ok(unknown.insert(missing_rules(nft, feature)?)),
        }
    }
}

fn missing_rules(nft: &mut Nft, feature: &Feature) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    let rules = nft.rules(feature.chain())?;
    if let Some(chain) = feature.jumped_to() {
        let jump = Verdict::Jump(chain.name.to_owned());
        if !rules.iter().any(|rule| rule.verdict().as_ref() == Some(&jump)) {
            missing.push(format!("a jump from chain {} to {}", feature.chain(), chain.name));
        }
    }
    let looked_up: BTreeSet<_> = rules.iter().flat_map(|rule| rule.lookups()).collect();
    for place in feature.looked_up() {
        if !looked_up.contains(place.set().name) {
            missing.push(format!("a rule of chain {} for set {}", feature.chain(), place.set().name));
        }
    }
    Ok(missing)
}

/// Those of our sets that are there.
pub(super) fn places(nft: &mut Nft, table: Table<'_>) -> Result<Vec<Place>> {
    Ok(nft.sets(table)?.iter().filter_map(|name| Place::named(table, name)).collect())
}

fn addition(groups: &[Group]) -> Batch {
    let mut batch = Batch::new();
    for (place, element) in groups.iter().flat_map(|group| group.guard.iter().chain(&group.elements)) {
        batch.ensure_elements(place.set(), std::slice::from_ref(element));
    }
    batch
}

fn removal(groups: &[Group]) -> Batch {
    let mut batch = Batch::new();
    for Group { guard, elements } in groups {
        if let Some((place, element)) = guard {
            batch.ensure_elements(place.set(), std::slice::from_ref(element));
            batch.remove_element(place.set(), &element.key);
        }
        for (place, element) in elements {
            batch.remove_element(place.set(), &element.key);
        }
    }
    batch
}

/// The set has other keys than ours (nf_tables_delsetelem): somebody else made it, and nothing of ours is in it.
fn is_foreign(error: &Error) -> bool {
    error.raw_os_error() == Some(Errno::EINVAL as i32)
}

/// An element of that key with other data is in: EBUSY up to Linux 5.5, EEXIST since (nft_add_set_elem).
fn is_taken(error: &Error) -> bool {
    error.is_exists() || error.is_busy()
}

/// So many groups of five elements fit into the send buffer that everybody has (208 KiB).
const AT_ONCE: usize = 100;
/// Once for missing features, once for a former holder, and as much again for somebody who flushes the ruleset.
const ATTEMPTS: usize = 4;
