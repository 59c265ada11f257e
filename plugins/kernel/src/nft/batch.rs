//! A batch: messages that the kernel applies all or none of, in order. Pure; [`super::Nft::commit`] sends it.
//!
//! `add_x` fails where x exists, `ensure_x` accepts it, `remove_x` accepts its absence.

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterProtoFamily,
    nftables::{
        ChainAttribute, ChainMessage, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage,
        SetAttribute, SetElementAttribute, SetElementList, SetElementMessage, SetMessage, TableMessage,
    },
    none::ControlMessage,
};

use super::{
    attribute::number,
    element::{Element, key_attributes},
    rule::Rule,
    table::{Chain, Family, Set, Table},
    value::{Value, display},
};
use crate::netfilter::serialize;

/// Changes to the ruleset, in the order in which they were put in.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) changes: Vec<Change>,
    generation: Option<u32>,
    sets: u32,
}

#[derive(Clone, Debug)]
pub(super) struct Change {
    message: NetfilterMessage,
    flags: u16,
    pub(super) act: String,
    /// Whether the absence of its object is success.
    pub(super) removal: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the batch apply only to this generation of the ruleset ([`super::Nft::generation`]); any change by
    /// anybody before it fails it with ERESTART.
    #[must_use]
    pub fn only_at(self, generation: u32) -> Self {
        Self { generation: Some(generation), ..self }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Makes the table unless it is there.
    pub fn ensure_table(&mut self, table: Table<'_>) {
        let message = NfTablesMessage::NewTable(TableMessage { attributes: table.attributes() });
        self.push(table.family, message, NLM_F_CREATE, format!("add table {table}"));
    }

    /// Removes a table with all that is in it.
    pub fn remove_table(&mut self, table: Table<'_>) {
        let message = NfTablesMessage::DeleteTable(TableMessage { attributes: table.attributes() });
        self.remove(table.family, message, format!("remove table {table}"));
    }

    /// Makes a chain.
    pub fn add_chain(&mut self, chain: Chain<'_>) {
        let message = NfTablesMessage::NewChain(ChainMessage { attributes: chain.attributes() });
        self.push(chain.table.family, message, NLM_F_CREATE | NLM_F_EXCL, format!("add chain {chain}"));
    }

    /// Removes a chain. It must be empty ([`Self::flush_chain`]) and nothing may jump to it, or the batch fails with
    /// EBUSY.
    pub fn remove_chain(&mut self, chain: Chain<'_>) {
        let attributes = vec![
            ChainAttribute::Table(chain.table.name.to_owned()),
            ChainAttribute::Name(chain.name.to_owned()),
        ];
        let message = NfTablesMessage::DeleteChain(ChainMessage { attributes });
        self.remove(chain.table.family, message, format!("remove chain {chain}"));
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, chain: Chain<'_>) {
        let message = NfTablesMessage::DeleteRule(RuleMessage { attributes: of_chain(chain) });
        self.remove(chain.table.family, message, format!("flush chain {chain}"));
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, set: Set<'_>) {
        self.sets += 1;
        let message = NfTablesMessage::NewSet(SetMessage { attributes: set.attributes(self.sets) });
        self.push(set.table.family, message, NLM_F_CREATE | NLM_F_EXCL, format!("add set {set}"));
    }

    /// Removes a set or map with its elements. No rule may use it, or the batch fails with EBUSY.
    pub fn remove_set(&mut self, set: Set<'_>) {
        let attributes =
            vec![SetAttribute::Table(set.table.name.to_owned()), SetAttribute::Name(set.name.to_owned())];
        let message = NfTablesMessage::DeleteSet(SetMessage { attributes });
        self.remove(set.table.family, message, format!("remove set {set}"));
    }

    /// Puts a rule behind the others of its chain.
    pub fn append_rule(&mut self, rule: Rule<'_>) {
        self.add_rule(rule, NLM_F_CREATE | NLM_F_APPEND);
    }

    /// Puts a rule before the others of its chain.
    pub fn insert_rule(&mut self, rule: Rule<'_>) {
        self.add_rule(rule, NLM_F_CREATE);
    }

    fn add_rule(&mut self, rule: Rule<'_>, flags: u16) {
        let chain = rule.chain;
        let message = NfTablesMessage::NewRule(RuleMessage { attributes: rule.attributes() });
        self.push(chain.table.family, message, flags, format!("add rule to chain {chain}"));
    }

    /// Removes the rule that has this handle ([`super::list::ListedRule::handle`]).
    pub fn remove_rule(&mut self, chain: Chain<'_>, handle: u64) {
        let mut attributes = of_chain(chain);
        attributes.push(RuleAttribute::Handle(handle));
        let message = NfTablesMessage::DeleteRule(RuleMessage { attributes });
        self.remove(chain.table.family, message, format!("remove rule {handle} of chain {chain}"));
    }

    /// Adds elements, none of which may be in the set yet.
    pub fn add_elements(&mut self, set: Set<'_>, elements: &[Element]) {
        self.put_elements(set, elements, NLM_F_CREATE | NLM_F_EXCL);
    }

    /// Adds those of the elements that are not in the set yet. One that is keeps its comment; in a map it must have
    /// the same data, or the batch fails with EEXIST.
    pub fn ensure_elements(&mut self, set: Set<'_>, elements: &[Element]) {
        self.put_elements(set, elements, NLM_F_CREATE);
    }

    fn put_elements(&mut self, set: Set<'_>, elements: &[Element], flags: u16) {
        // All elements of a message are one attribute, whose length is 16 bits wide.
        for elements in elements.chunks(ELEMENTS_IN_MESSAGE) {
            let attributes = elements.iter().flat_map(|element| element.attributes(set)).collect();
            let message = NfTablesMessage::NewSetElement(of_set(set, attributes));
            let act = match elements {
                [element] => format!("add {element} to set {set}"),
                [element, ..] => format!("add {element} and {} more to set {set}", elements.len() - 1),
                [] => continue,
            };
            self.push(set.table.family, message, flags, act);
        }
    }

    /// Removes the element that has this key.
    pub fn remove_element(&mut self, set: Set<'_>, key: &[Value]) {
        let message = NfTablesMessage::DeleteSetElement(of_set(set, key_attributes(set, key)));
        self.remove(set.table.family, message, format!("remove {} from set {set}", display(key)));
    }

    fn remove(&mut self, family: Family, message: NfTablesMessage, act: String) {
        self.push(family, message, 0, act);
        if let Some(change) = self.changes.last_mut() {
            change.removal = true;
        }
    }

    fn push(&mut self, family: Family, message: NfTablesMessage, flags: u16, act: String) {
        let message = NetfilterMessage::new(NetfilterHeader::new(family.into(), 0, 0), message);
        self.changes.push(Change { message, flags, act, removal: false });
    }

    /// The whole as bytes. The opening message has `sequence`, change number n has `sequence + 1 + n`.
    pub(super) fn serialize(&self, sequence: u32) -> Vec<u8> {
        let mut bytes = serialize(self.opening(), 0, sequence);
        let mut sequence = sequence;
        for change in &self.changes {
            sequence = sequence.wrapping_add(1);
            bytes.extend(serialize(change.message.clone(), change.flags, sequence));
        }
        bytes.extend(serialize(control(ControlMessage::BatchEnd), 0, sequence.wrapping_add(1)));
        bytes
    }

    fn opening(&self) -> NetfilterMessage {
        control(match self.generation {
            None => ControlMessage::BatchBegin,
            Some(generation) => ControlMessage::Other {
                message_type: NFNL_MSG_BATCH_BEGIN,
                attributes: vec![number(NFNL_BATCH_GENID, generation)],
            },
        })
    }
}

fn control(message: ControlMessage) -> NetfilterMessage {
    NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, NFNL_SUBSYS_NFTABLES),
        message,
    )
}

fn of_chain(chain: Chain<'_>) -> Vec<RuleAttribute> {
    vec![RuleAttribute::Table(chain.table.name.to_owned()), RuleAttribute::Chain(chain.name.to_owned())]
}

pub(super) fn of_set(set: Set<'_>, elements: Vec<ListAttribute<SetElementAttribute>>) -> SetElementMessage {
    let mut attributes =
        vec![SetElementList::Table(set.table.name.to_owned()), SetElementList::Set(set.name.to_owned())];
    if !elements.is_empty() {
        attributes.push(SetElementList::Elements(elements));
    }
    SetElementMessage { attributes }
}

/// The largest, with two keys of 64 bytes, 64 bytes of data and a full comment, takes less than 400 bytes.
const ELEMENTS_IN_MESSAGE: usize = 128;
/// `enum nfnl_batch_attributes` and the message types of linux/netfilter/nfnetlink.h
const NFNL_BATCH_GENID: u16 = 1;
const NFNL_MSG_BATCH_BEGIN: u8 = 16;
const NFNL_SUBSYS_NFTABLES: u16 = 10;
