//! Option pages against the structs that configurations are read into: neither has a key that the other lacks.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

/// The keys that `T` is read from, behind `prefix`.
#[must_use]
pub fn keys<T: DeserializeOwned>(prefix: &str) -> Vec<String> {
    cni::decode::field_names::<T>().iter().map(|field| format!("{prefix}{field}")).collect()
}

/// Holds the first table of a page's section against keys, where a key that has keys of its own need not be told of by itself.
///
/// # Panics
/// When one has what the other lacks.
#[track_caller]
pub fn check(page: &str, heading: &str, keys: &[Vec<String>], others: &[&str]) {
    let section = page.split("\n## ").find(|section| section.lines().next() == Some(heading));
    let section = section.unwrap_or_else(|| panic!("no section {heading}"));
    let table = section.lines().skip_while(|line| !line.starts_with("| key ")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    let documented: BTreeSet<_> = rows.filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect();
    let all: BTreeSet<_> =
        keys.iter().flatten().cloned().chain(others.iter().map(ToString::to_string)).collect();
    let is_parent = |key: &str| {
        all.iter().any(|other| other.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', '['])))
    };
    let told: BTreeSet<_> = documented.iter().filter(|key| !is_parent(key)).collect();
    let read: BTreeSet<_> = all.iter().filter(|key| !is_parent(key)).collect();
    assert_eq!(told, read, "{heading}");
    assert!(documented.is_subset(&all), "{heading}: {documented:?}, but {all:?}");
}
