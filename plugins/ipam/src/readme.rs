//! The README's tables against the structs that configurations are read into: neither has a key that the other lacks.

use std::collections::BTreeSet;

use serde::{
    Deserializer,
    de::{DeserializeOwned, Error, Visitor, value},
    forward_to_deserialize_any,
};

use crate::{host_local, range::RangeConf, requested::CniArgsConf, static_};

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

fn keys<T: DeserializeOwned>(prefix: &str) -> Vec<String> {
    let Err(fields) = T::deserialize(FieldNames) else { panic!("no struct") };
    fields.to_string().split(' ').map(|field| format!("{prefix}{field}")).collect()
}

/// The first column of the first table under a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let readme = include_str!("../README.md");
    let section = readme.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    let table = section.lines().skip_while(|line| !line.starts_with("| key ")).skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

#[track_caller]
fn check(heading: &str, keys: &[Vec<String>], others: &[&str]) {
    let keys = keys.iter().flatten().cloned().chain(others.iter().map(ToString::to_string));
    assert_eq!(documented(heading), keys.collect(), "{heading}");
}

#[test]
fn host_local_s_options() {
    use host_local::config::{IpamConf, RuntimeConf};
    let keys = [
        keys::<IpamConf>(""),
        keys::<RangeConf>("ranges[][]."),
        keys::<RuntimeConf>("runtimeConfig."),
        keys::<CniArgsConf>("args.cni."),
    ];
    check("host-local", &keys, &["type", "CNI_ARGS IP"]);
}

#[test]
fn static_s_options() {
    use static_::config::{AddressConf, IpamConf, RuntimeConf};
    let keys = [
        keys::<IpamConf>(""),
        keys::<AddressConf>("addresses[]."),
        keys::<RuntimeConf>("runtimeConfig."),
        keys::<CniArgsConf>("args.cni."),
    ];
    check("static", &keys, &["type", "CNI_ARGS IP", "CNI_ARGS GATEWAY"]);
}
