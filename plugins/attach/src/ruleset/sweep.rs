//! Taking out elements by their owner: for GC, for repair, and for a DEL that has no record to tell the keys. Reads all
//! elements.

use std::collections::BTreeSet;

use cni::names::{Attachment, NetworkName};
use kernel::{
    error::Result,
    nft::{Nft, batch::Batch, is_overtaken},
};

use super::{
    owner::{Owner, prefix},
    plan::places,
    schema::{BRIDGE, INET},
};

/// Takes out all elements of an attachment.
pub fn remove_owned(nft: &mut Nft, owner: &Owner) -> Result<()> {
    sweep(nft, |comment| comment == owner.comment())
}

/// Takes out all elements of a network's attachments, except of those in `valid`.
pub fn remove_stale<'a>(
    nft: &mut Nft,
    network: &NetworkName,
    valid: impl IntoIterator<Item = &'a Attachment>,
) -> Result<()> {
    let prefix = prefix(network);
    let valid: BTreeSet<_> = valid.into_iter().map(|of| Owner::of(of).comment().to_owned()).collect();
    sweep(nft, |comment| comment.starts_with(&prefix) && !valid.contains(comment))
}

/// The comments of all elements: every attachment that has any, in the form of [`Owner::comment`].
pub fn owners(nft: &mut Nft) -> Result<BTreeSet<String>> {
    let mut owners = BTreeSet::new();
    for table in [INET, BRIDGE] {
        for place in places(nft, table)? {
            owners.extend(nft.elements(place.set())?.into_iter().filter_map(|element| element.comment));
        }
    }
    Ok(owners)
}

/// Looks and removes again until there is nothing to remove. Nobody is hit who took over an element in between: the
/// batch counts only for the ruleset that was looked at.
fn sweep(nft: &mut Nft, is_stale: impl Fn(&str) -> bool) -> Result<()> {
    let mut patience = PATIENCE;
    loop {
        let generation = match nft.generation() {
            // A kernel without nf_tables has no elements either.
            Err(err) if err.is_unsupported() => return Ok(()),
            generation => generation?,
        };
        let batch = stale(nft, &is_stale)?;
        if batch.is_empty() {
            return Ok(());
        }
        match nft.commit(batch.only_at(generation)) {
            Err(err) if is_overtaken(&err) && patience > 0 => patience -= 1,
            done => done?,
        }
    }
}

fn stale(nft: &mut Nft, is_stale: impl Fn(&str) -> bool) -> Result<Batch> {
    let mut batch = Batch::new();
    let mut count = 0;
    for table in [INET, BRIDGE] {
        for place in places(nft, table)? {
            let elements = nft.elements(place.set())?.into_iter();
            let stale = elements.filter(|element| element.comment.as_deref().is_some_and(&is_stale));
            for element in stale.take(AT_ONCE - count) {
                batch.remove_element(place.set(), &element.key);
                count += 1;
            }
        }
    }
    Ok(batch)
}

/// So many removals fit into the send buffer that everybody has (208 KiB).
const AT_ONCE: usize = 1000;
/// How often others may get in between before this gives up.
const PATIENCE: usize = 100;
