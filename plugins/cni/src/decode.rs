//! JSON into structs the way Go's `encoding/json` reads it, since that is what configurations in the field were tried
//! against: keys match in any case (an exact match wins), `null` is absence, unknown keys are passed over.
//!
//! It is a serde [`Deserializer`] over a [`Value`] that also knows where it is, so that an error names the field and the
//! value. Structs read through it can't use `#[serde(flatten)]`, which hides the field names from the deserializer.

use std::{cell::Cell, fmt, net::IpAddr};

use ipnetwork::IpNetwork;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::error::Error;

/// Reads `value` as a `T`. The error has code 7, and its message reads `ipam.ranges[0][1].subnet: "10.1.0.0/40": why`.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    let root = Node { value, path: &Path::Root };
    root.locate(T::deserialize(root)).map_err(|err| {
        let Mismatch { at, why } = err;
        let (field, value) = at.unwrap_or_default();
        Error::invalid_config(if field.is_empty() { "configuration" } else { &field }, value, why)
    })
}

/// As [`decode`], for the fields of a JSON object.
pub fn decode_object<T: DeserializeOwned>(object: &Map<String, Value>) -> Result<T, Error> {
    decode(&Value::Object(object.clone()))
}

/// The value under `key` in any case; an exact match wins, then the last of the others, as in Go. `null` is absence.
pub fn field<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object
        .get(key)
        .or_else(|| object.iter().rev().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v))
        .filter(|v| !v.is_null())
}

/// The keys that a struct is read from, as they are written in a configuration; none if `T` is no struct. For whoever
/// documents or checks configurations: the struct is the one place where its keys stand.
pub fn field_names<T: DeserializeOwned>() -> &'static [&'static str] {
    let names = Cell::new([].as_slice());
    // The struct asks for its fields by name, and is told that there are none to be had.
    let refused = T::deserialize(FieldNames(&names)).is_err();
    if refused { names.get() } else { &[] }
}

struct FieldNames<'a>(&'a Cell<&'static [&'static str]>);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Mismatch> {
        Err(serde::de::Error::custom("is no struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Mismatch> {
        self.0.set(fields);
        Err(serde::de::Error::custom("is only asked for its fields"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// For `#[serde(with = "cni::decode::cidr")]`: `10.1.0.5/16`, host bits kept, the prefix length not optional.
pub mod cidr {
    use super::{Deserialize, Deserializer, IpNetwork, parse_cidr};

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNetwork, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_cidr(&text).ok_or_else(|| serde::de::Error::custom("is not an address with a prefix length"))
    }

    pub fn serialize<S: serde::Serializer>(network: &IpNetwork, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(network)
    }
}

/// `10.1.0.5/16` as an address and its prefix; `None` for anything else. Unlike [`IpNetwork`]'s own parser it wants the
/// prefix length, in digits, as Go's `net.ParseCIDR` does.
pub fn parse_cidr(text: &str) -> Option<IpNetwork> {
    let (address, prefix) = text.split_once('/')?;
    if prefix.is_empty() || prefix.len() > 3 || !prefix.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    IpNetwork::new(address.parse().ok()?, prefix.parse().ok()?).ok()
}

/// For `#[serde(default, deserialize_with = "cni::decode::optional_ip")]`: an address, or the empty string that Go's
/// encoder writes for none.
pub fn optional_ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    text.parse().map(Some).map_err(|_| serde::de::Error::custom("is not an IP address"))
}

/// Where in the document a value stands.
enum Path<'a> {
    Root,
    Key(&'a Self, &'a str),
    Index(&'a Self, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(Self::Root, key) => f.write_str(key),
            Self::Key(parent, key) => write!(f, "{parent}.{key}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A value that does not fit its type: why, and, once it has passed the innermost node, where and which.
#[derive(Debug)]
struct Mismatch {
    at: Option<(String, String)>,
    why: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Mismatch {}

impl serde::de::Error for Mismatch {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self { at: None, why: why.to_string() }
    }
}

#[derive(Clone, Copy)]
struct Node<'a> {
    value: &'a Value,
    path: &'a Path<'a>,
}

impl<'a> Node<'a> {
    fn locate<T>(self, result: Result<T, Mismatch>) -> Result<T, Mismatch> {
        result.map_err(|mut err| {
            if err.at.is_none() {
                err.at = Some((self.path.to_string(), abridged(self.value)));
            }
            err
        })
    }

    /// A leaf: serde_json knows how to offer it to the visitor and what to say when the visitor refuses.
    fn leaf<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let result = match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            Value::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
                (Some(n), _, _) => visitor.visit_u64(n),
                (_, Some(n), _) => visitor.visit_i64(n),
                (_, _, Some(n)) => visitor.visit_f64(n),
                (None, None, None) => Err(serde::de::Error::custom("is out of range")),
            },
            Value::String(s) => visitor.visit_string(s.clone()),
            Value::Array(items) => visitor.visit_seq(Items { items, next: 0, path: self.path }),
            Value::Object(object) => {
                let entries =
                    object.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.as_str(), v)).collect();
                visitor.visit_map(Entries { entries, next: 0, path: self.path })
            }
        };
        self.locate(result)
    }
}

/// A value as an error shows it: whole when short.
fn abridged(value: &Value) -> String {
    let mut text = value.to_string();
    if let Some((cut, _)) = text.char_indices().nth(MAX_VALUE_SHOWN) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.leaf(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let result = if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) };
        self.locate(result)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let result = visitor.visit_newtype_struct(self);
        self.locate(result)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let result = match self.value {
            Value::String(name) => visitor.visit_enum(name.as_str().into_deserializer()),
            _ => Err(serde::de::Error::custom("is not a string")),
        };
        self.locate(result)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let Value::Object(object) = self.value else {
            return self.locate(Err(serde::de::Error::custom("is not an object")));
        };
        let entries = fields.iter().filter_map(|name| Some((*name, field(object, name)?))).collect();
        let result = visitor.visit_map(Entries { entries, next: 0, path: self.path });
        self.locate(result)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: &'a [Value],
    next: usize,
    path: &'a Path<'a>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        let Some(value) = self.items.get(self.next) else { return Ok(None) };
        let path = Path::Index(self.path, self.next);
        self.next += 1;
        let node = Node { value, path: &path };
        // Located here too: a `deserialize_with` refuses after the node has answered.
        node.locate(seed.deserialize(node)).map(Some)
    }
}

struct Entries<'a> {
    entries: Vec<(&'a str, &'a Value)>,
    next: usize,
    path: &'a Path<'a>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        let Some((key, _)) = self.entries.get(self.next) else { return Ok(None) };
        seed.deserialize((*key).into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let Some((key, value)) = self.entries.get(self.next) else {
            return Err(serde::de::Error::custom("has no value"));
        };
        self.next += 1;
        let node = Node { value, path: &Path::Key(self.path, key) };
        node.locate(seed.deserialize(node))
    }
}

/// Longer values are cut in messages.
const MAX_VALUE_SHOWN: usize = 120;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Conf {
        bridge: String,
        is_gateway: bool,
        mtu: Option<u32>,
        ranges: Vec<Vec<Range>>,
        args: BTreeMap<String, Value>,
        mode: Mode,
    }

    impl Default for Conf {
        fn default() -> Self {
            Self {
                bridge: "cni0".into(),
                is_gateway: false,
                mtu: None,
                ranges: vec![],
                args: BTreeMap::new(),
                mode: Mode::L2,
            }
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Range {
        #[serde(with = "cidr")]
        subnet: IpNetwork,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        L2,
        L3,
    }

    #[track_caller]
    fn check(input: Value, expected: Result<Conf, &str>) {
        assert_eq!(decode::<Conf>(&input).map_err(|e| e.msg), expected.map_err(str::to_owned));
    }

    #[test]
    fn keys_match_in_any_case_and_null_is_absence() {
        check(json!({}), Ok(Conf::default()));
        check(
            json!({"BRIDGE": "br1", "isgateway": true, "MTU": null, "unknown": 1, "args": {"a": null, "B": {"C": 1}}}),
            Ok(Conf {
                bridge: "br1".into(),
                is_gateway: true,
                args: BTreeMap::from([("B".into(), json!({"C": 1}))]),
                ..Conf::default()
            }),
        );
        check(
            json!({"BRIDGE": "no", "bridge": "exact"}),
            Ok(Conf { bridge: "exact".into(), ..Conf::default() }),
        );
        check(json!({"bridge": null}), Ok(Conf::default()));
        check(json!({"mode": "l3"}), Ok(Conf { mode: Mode::L3, ..Conf::default() }));
    }

    #[test]
    fn errors_name_the_field_and_the_value() {
        check(
            json!({"isGateway": "yes"}),
            Err(r#"isGateway: "yes": invalid type: string "yes", expected a boolean"#),
        );
        check(json!({"mtu": -1}), Err("mtu: -1: invalid value: integer `-1`, expected u32"));
        check(
            json!({"ranges": [[{"subnet": "10.0.0.0/8"}, {"subnet": "10.1.0.0"}]]}),
            Err(r#"ranges[0][1].subnet: "10.1.0.0": is not an address with a prefix length"#),
        );
        check(json!({"ranges": [[{}]]}), Err("ranges[0][0]: {}: missing field `subnet`"));
        check(json!({"ranges": {}}), Err("ranges: {}: invalid type: map, expected a sequence"));
        check(json!({"mode": "l4"}), Err(r#"mode: "l4": unknown variant `l4`, expected `l2` or `l3`"#));
        check(json!([]), Err("configuration: []: is not an object"));
    }

    #[test]
    fn field_names_are_as_written() {
        assert_eq!(field_names::<Conf>(), ["bridge", "isGateway", "mtu", "ranges", "args", "mode"]);
        assert_eq!(field_names::<u32>(), [] as [&str; 0]);
        assert_eq!(field_names::<Vec<Conf>>(), [] as [&str; 0]);
    }

    #[test]
    fn cidrs() {
        for good in ["10.1.0.5/16", "0.0.0.0/0", "fd00::1/64", "::/0", "10.0.0.1/32"] {
            assert_eq!(parse_cidr(good).map(|n| n.to_string()).as_deref(), Some(good));
        }
        for bad in [
            "",
            "/",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/255.0.0.0",
            "10.0.0.0/+8",
            "10.0.0.0/0008",
            "::/129",
            "a/8",
        ] {
            assert_eq!(parse_cidr(bad), None, "{bad}");
        }
    }
}
