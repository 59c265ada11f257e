//! Option pages against the structs that configurations are read into: neither has a key that the other lacks.

use std::collections::BTreeSet;

use serde::{
    Deserializer,
    de::{DeserializeOwned, Error, Visitor, value},
    forward_to_deserialize_any,
};

/// Answers a struct's request to be deserialized with the names of its fields, as an error.
struct FieldNames;

impl<'de> Deserializer<'de> for FieldNames {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        Err(Error::custom(fields.join(" ")))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The keys that `T` is read from, behind `prefix`.
#[must_use]
pub fn keys<T: DeserializeOwned>(prefix: &str) -> Vec<String> {
    let Err(fields) = T::deserialize(FieldNames) else { return Vec::new() };
    fields.to_string().split(' ').map(|field| format!("{prefix}{field}")).collect()
}

/// Holds the first table of a page's section against keys, where a key that has keys of its own is only there for them.
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
    let read: BTreeSet<_> = all.iter().filter(|key| !is_parent(key)).cloned().collect();
    assert_eq!(documented, read, "{heading}");
}
