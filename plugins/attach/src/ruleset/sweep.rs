//! Taking out elements by their owner: for GC, for repair, and for a DEL that has no record to tell the keys. Reads all
//! elements.

use std::collections::{BTreeMap, BTreeSet};

use cni::names::{Attachment, NetworkName};
use kernel::{
    error::Result,
    nft::{Nft, element::Element},
};

use super::{
    owner::{Owner, prefix},
    plan::{Group, Plan, places},
    schema::{BRIDGE, INET, Place},
};

/// Takes out all elements of an attachment.
pub fn remove_owned(nft: &mut Nft, owner: &Owner) -> Result<()> {
    sweep(nft, |_| true, |comment| comment == owner.comment())
}

/// Takes out the published ports of an attachment, and leaves what other plugins have for it.
pub fn remove_ports(nft: &mut Nft, owner: &Owner) -> Result<()> {
    sweep(nft, Place::is_of_ports, |comment| comment == owner.comment())
}

/// Takes out what guards an attachment, and leaves what other plugins have for it.
pub fn remove_guard(nft: &mut Nft, owner: &Owner) -> Result<()> {
    sweep(nft, Place::is_of_guard, |comment| comment == owner.comment())
}

/// Takes out all elements of a network's attachments, except of those in `valid`.
pub fn remove_stale<'a>(
    nft: &mut Nft,
    network: &NetworkName,
    valid: impl IntoIterator<Item = &'a Attachment>,
) -> Result<()> {
    let prefix = prefix(network);
    let valid: BTreeSet<_> = valid.into_iter().map(|of| Owner::of(of).comment().to_owned()).collect();
    sweep(nft, |_| true, |comment| comment.starts_with(&prefix) && !valid.contains(comment))
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

/// What belongs together goes together, with the owner's guard: who took over an address after we looked keeps it.
fn sweep(nft: &mut Nft, wanted: impl Fn(&Place) -> bool, is_stale: impl Fn(&str) -> bool) -> Result<()> {
    let stale = stale(nft, wanted, is_stale)?;
    for groups in stale.chunks(AT_ONCE) {
        Plan::of(groups.to_vec()).remove(nft)?;
    }
    Ok(())
}

fn stale(
    nft: &mut Nft,
    wanted: impl Fn(&Place) -> bool,
    is_stale: impl Fn(&str) -> bool,
) -> Result<Vec<Group>> {
    let is_stale = |element: &Element| element.comment.as_deref().is_some_and(&is_stale);
    let (mut guards, mut others) = (BTreeMap::new(), Vec::new());
    for table in [INET, BRIDGE] {
        for place in places(nft, table)? {
            let elements = nft.elements(place.set())?.into_iter();
            if place.is_of_owners() {
                guards.extend(elements.map(|element| (element.key.clone(), (place.clone(), element))));
            } else if wanted(&place) {
                others.extend(elements.filter(is_stale).map(|element| (place.clone(), element)));
            }
        }
    }
    let mut groups = BTreeMap::new();
    for (key, guard) in &guards {
        if is_stale(&guard.1) && wanted(&guard.0) {
            groups.insert(key.clone(), Group { guard: Some(guard.clone()), elements: vec![] });
        }
    }
    for (place, element) in others {
        let key = &element.key[..element.key.len().min(OWNER_KEY)];
        // Under the guard of somebody else it is theirs, whatever it says.
        if place.goes_with_address() && guards.get(key).is_some_and(|(_, guard)| !is_stale(guard)) {
            continue;
        }
        let group = groups.entry(key.to_vec()).or_insert_with(|| Group { guard: None, elements: vec![] });
        group.elements.push((place, element));
    }
    Ok(groups.into_values().collect())
}

/// So many fit into the send buffer that everybody has (208 KiB): each takes some hundred bytes for each of its elements.
const AT_ONCE: usize = 200;
/// The keys of owners, interface and address, are how the keys of their other elements begin.
const OWNER_KEY: usize = 2;
