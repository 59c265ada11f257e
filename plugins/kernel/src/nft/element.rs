//! Elements of sets and maps. Knows no owner: a comment is a text.

use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, SetElementAttribute, SetElementFlags, VerdictAttribute,
};

use netlink_packet_core::{DefaultNla, Nla};

use super::{
    comment,
    rule::Verdict,
    table::Set,
    value::{Value, decode, display, first, last},
};

/// An element with what it maps to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its key: one value for each type of the set's key.
    pub key: Vec<Value>,
    /// What a map maps it to.
    pub data: Data,
    /// At most [`comment::MAX`] bytes; the rest is cut off.
    pub comment: Option<String>,
}

/// What an element of a map stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nothing: an element of a set.
    None,
    /// One value for each type of the map's data.
    Values(Vec<Value>),
    /// What happens to the packet. Each commit that adds a jump has the kernel walk the whole table
    /// (nft_table_validate), all elements of its verdict maps included: not for maps with many elements.
    Verdict(Verdict),
}

impl Element {
    /// An element of a set.
    pub fn new(key: impl Into<Vec<Value>>) -> Self {
        Self { key: key.into(), data: Data::None, comment: None }
    }

    /// An element of a map.
    pub fn to(key: impl Into<Vec<Value>>, data: impl Into<Vec<Value>>) -> Self {
        Self { key: key.into(), data: Data::Values(data.into()), comment: None }
    }

    /// The same element with this comment.
    #[must_use]
    pub fn commented(self, comment: impl Into<String>) -> Self {
        Self { comment: Some(comment.into()), ..self }
    }

    pub(crate) fn attributes(&self, set: Set<'_>) -> Vec<ListAttribute<SetElementAttribute>> {
        let mut elements = key_attributes(set, &self.key);
        let Some(ListAttribute::Element(start)) = elements.first_mut() else { return elements };
        match &self.data {
            Data::None => {}
            Data::Values(values) => {
                start.push(SetElementAttribute::Data(DataAttribute::Value(first(values))))
            }
            Data::Verdict(verdict) => start.push(SetElementAttribute::Data(verdict.attribute())),
        }
        if let Some(text) = &self.comment {
            start.push(SetElementAttribute::UserData(comment::encode(text)));
        }
        elements
    }

    /// `None` for the second half of an interval in a tree, and for keys that do not have the types of `set`.
    pub(crate) fn parse(set: Set<'_>, attributes: &[SetElementAttribute]) -> Option<Self> {
        let mut element = Self::new([]);
        for attribute in attributes {
            match attribute {
                SetElementAttribute::Flags(flags) if flags.contains(SetElementFlags::IntervalEnd) => {
                    return None;
                }
                SetElementAttribute::Key(DataAttribute::Value(bytes)) => {
                    element.key = decode(set.key, bytes)?
                }
                SetElementAttribute::Data(DataAttribute::Value(bytes)) => {
                    element.data = Data::Values(decode(set.data, bytes)?);
                }
                SetElementAttribute::Data(DataAttribute::Verdict(verdict)) => {
                    element.data = Data::Verdict(Verdict::parse(verdict)?);
                }
                SetElementAttribute::UserData(data) => element.comment = comment::decode(data),
                _ => {}
            }
        }
        Some(element)
    }
}

/// A key as the kernel wants it: whole; in a tree of intervals as its first value and, an element of its own, the one
/// after the last; in a pipapo as first and last.
pub(crate) fn key_attributes(set: Set<'_>, key: &[Value]) -> Vec<ListAttribute<SetElementAttribute>> {
    let start = SetElementAttribute::Key(DataAttribute::Value(first(key)));
    if !set.intervals {
        return vec![ListAttribute::Element(vec![start])];
    }
    let last = last(key);
    if set.key.len() > 1 {
        let end = DataAttribute::Value(last);
        let mut value = vec![0; end.value_len()];
        end.emit_value(&mut value);
        let end = SetElementAttribute::KeyEnd(vec![DefaultNla::new(end.kind(), value)]);
        return vec![ListAttribute::Element(vec![start, end])];
    }
    let mut elements = vec![ListAttribute::Element(vec![start])];
    // An interval up to the highest value is left open, as nft does.
    elements.extend(successor(last).map(|end| {
        ListAttribute::Element(vec![
            SetElementAttribute::Key(DataAttribute::Value(end)),
            SetElementAttribute::Flags(SetElementFlags::IntervalEnd),
        ])
    }));
    elements
}

fn successor(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    for byte in bytes.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            return Some(bytes);
        }
    }
    None
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&display(&self.key))?;
        match &self.data {
            Data::None => Ok(()),
            Data::Values(values) => write!(f, " : {}", display(values)),
            Data::Verdict(verdict) => write!(f, " : {verdict}"),
        }
    }
}

impl Verdict {
    pub(crate) fn attribute(&self) -> DataAttribute {
        let mut attributes = vec![VerdictAttribute::Code(self.code())];
        if let Self::Jump(chain) | Self::Goto(chain) = self {
            attributes.push(VerdictAttribute::Chain(chain.clone()));
        }
        DataAttribute::Verdict(attributes)
    }
}
