//! Reading the ruleset back: for CHECK, GC, repair and people, never to decide what ADD and DEL write.

use netlink_packet_core::{
    DecodeError, NLM_F_ACK, NetlinkDeserializable, NetlinkHeader, NlasIterator, Parseable,
};
use netlink_packet_netfilter::{
    NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{
        ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions,
        Hook as HookAttribute, Immediate, ListAttribute, Lookup, NfTablesMessage, Operator, RuleAttribute,
        RuleMessage, SetAttribute, SetElementAttribute, SetMessage, TableAttribute, TableMessage,
    },
};

use nix::errno::Errno;

use super::{
    Nft,
    batch::of_set,
    comment,
    element::{Element, key_attributes},
    request,
    rule::Verdict,
    table::{Chain, Hook, Set, Table},
    unsupported,
    value::{Value, display},
};
use crate::error::Result;

/// A chain that the kernel itself runs packets through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedBase {
    /// The table that holds it.
    pub table: String,
    /// Its name.
    pub chain: String,
    /// Its policy drops what no rule of it decides.
    pub drops: bool,
}

/// A rule that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRule {
    /// The chain it belongs to.
    pub chain: String,
    /// Its number, unique in its table.
    pub handle: u64,
    /// Its comment.
    pub comment: Option<String>,
    /// All else that the kernel says of it.
    pub attributes: Vec<RuleAttribute>,
}

impl ListedRule {
    /// Names of the sets and maps that the rule looks into.
    pub fn lookups(&self) -> impl Iterator<Item = &str> {
        let lookups = self.expressions().filter_map(|expression| match expression {
            Expressions::Lookup(lookup) => Some(lookup),
            _ => None,
        });
        lookups.flatten().filter_map(|attribute| match attribute {
            Lookup::Set(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// What the rule compares packets with, in bytes.
    pub fn comparisons(&self) -> impl Iterator<Item = &[u8]> {
        let comparisons = self.expressions().filter_map(|expression| match expression {
            Expressions::Cmp(comparison) => Some(comparison),
            _ => None,
        });
        comparisons.flatten().filter_map(|attribute| match attribute {
            Cmp::Data(DataAttribute::Value(value)) => Some(value.as_slice()),
            _ => None,
        })
    }

    /// Whether the rule chooses packets by comparing them for equality and by sets, and by nothing else.
    pub fn is_plain(&self) -> bool {
        self.expressions().all(|expression| match expression {
            Expressions::Cmp(comparison) => comparison
                .iter()
                .all(|part| !matches!(part, Cmp::Op(operator) if *operator != Operator::Equal)),
            Expressions::Other { expression_type, .. } => {
                ["counter", "log", "reject", "comment"].contains(&expression_type.as_str())
            }
            Expressions::Unknown(_) => false,
            _ => true,
        })
    }

    /// Whether the rule sends an error back.
    pub fn rejects(&self) -> bool {
        let is_it = |expression: &Expressions| matches!(expression, Expressions::Other { expression_type, .. } if expression_type == "reject");
        self.expressions().any(is_it)
    }

    /// What becomes of a packet that the rule matches, if it says so itself: a translation is none.
    pub fn verdict(&self) -> Option<Verdict> {
        let immediates = self.expressions().filter_map(|expression| match expression {
            Expressions::Immediate(immediate) => Some(immediate),
            _ => None,
        });
        immediates.flatten().find_map(|attribute| match attribute {
            Immediate::Data(DataAttribute::Verdict(verdict)) => Verdict::parse(verdict),
            _ => None,
        })
    }

    fn expressions(&self) -> impl Iterator<Item = &Expressions> {
        let lists = self.attributes.iter().filter_map(|attribute| match attribute {
            RuleAttribute::Expressions(expressions) => Some(expressions),
            _ => None,
        });
        let parts = lists.flatten().filter_map(|expression| match expression {
            ListAttribute::Element(parts) => Some(parts),
            _ => None,
        });
        parts.flatten().filter_map(|part| match part {
            ExpressionAttribute::Data(expression) => Some(expression),
            _ => None,
        })
    }
}

impl Nft {
    /// Names of the tables in the family of `family`.
    pub fn tables(&mut self, family: super::table::Family) -> Result<Vec<String>> {
        let message = NfTablesMessage::GetTable(TableMessage { attributes: vec![] });
        let answers = self.dump(family.into(), message, "list tables");
        Ok(or_none(answers)?
            .into_iter()
            .filter_map(|answer| match answer {
                NfTablesMessage::NewTable(table) => table.attributes.into_iter().find_map(|a| match a {
                    TableAttribute::Name(name) => Some(name),
                    _ => None,
                }),
                _ => None,
            })
            .collect())
    }

    /// Names of the chains in a table; none when there is no such table.
    pub fn chains(&mut self, table: Table<'_>) -> Result<Vec<String>> {
        let message = NfTablesMessage::GetChain(ChainMessage { attributes: vec![] });
        let answers = self.dump(table.family.into(), message, &format!("list chains of table {table}"));
        Ok(or_none(answers)?
            .into_iter()
            .filter_map(|answer| {
                let NfTablesMessage::NewChain(chain) = answer else { return None };
                let mut name = None;
                for attribute in chain.attributes {
                    match attribute {
                        // The kernel does not filter this dump.
                        ChainAttribute::Table(of) if of != table.name => return None,
                        ChainAttribute::Name(its) => name = Some(its),
                        _ => {}
                    }
                }
                name
            })
            .collect())
    }

    /// The chains of a family at a hook, of all its tables.
    pub fn bases(&mut self, family: super::table::Family, hook: Hook) -> Result<Vec<ListedBase>> {
        let message = NfTablesMessage::GetChain(ChainMessage { attributes: vec![] });
        let answers = or_none(self.dump(family.into(), message, "list base chains"))?;
        let chains = answers.into_iter().filter_map(|answer| match answer {
            NfTablesMessage::NewChain(chain) => Some(chain.attributes),
            _ => None,
        });
        Ok(chains.filter_map(|attributes| base(attributes, hook)).collect())
    }

    /// Names of the sets and maps in a table; none when there is no such table.
    pub fn sets(&mut self, table: Table<'_>) -> Result<Vec<String>> {
        let attributes = vec![SetAttribute::Table(table.name.to_owned())];
        let message = NfTablesMessage::GetSet(SetMessage { attributes });
        let answers = self.dump(table.family.into(), message, &format!("list sets of table {table}"));
        Ok(or_none(answers)?
            .into_iter()
            .filter_map(|answer| match answer {
                NfTablesMessage::NewSet(set) => set.attributes.into_iter().find_map(|a| match a {
                    SetAttribute::Name(name) => Some(name),
                    _ => None,
                }),
                _ => None,
            })
            .collect())
    }

    /// Elements of a set or map; none when it is not there.
    pub fn elements(&mut self, set: Set<'_>) -> Result<Vec<Element>> {
        let message = NfTablesMessage::GetSetElement(of_set(set, vec![]));
        let answers = self.dump_as(set.table.family.into(), message, &format!("list elements of set {set}"));
        Ok(elements(set, or_none(answers)?).collect())
    }

    /// The element of this key, if it is there; costs the same in a set of any size.
    pub fn find_element(&mut self, set: Set<'_>, key: &[Value]) -> Result<Option<Element>> {
        let message = NfTablesMessage::GetSetElement(of_set(set, key_attributes(set, key)));
        match self.socket.request(&request(set.table.family.into(), message), NLM_F_ACK) {
            Err(e) if e.source.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(None),
            Err(e) => Err(e.into_error(format!("find {} in set {set}", display(key)))),
            Ok(answers) => Ok(elements(set, answers).next()),
        }
    }

    /// Rules of a chain in their order; none when it is not there.
    pub fn rules(&mut self, chain: Chain<'_>) -> Result<Vec<ListedRule>> {
        let attributes = vec![
            RuleAttribute::Table(chain.table.name.to_owned()),
            RuleAttribute::Chain(chain.name.to_owned()),
        ];
        let message = NfTablesMessage::GetRule(RuleMessage { attributes });
        let answers = self.dump(chain.table.family.into(), message, &format!("list rules of chain {chain}"));
        Ok(or_none(answers)?
            .into_iter()
            .filter_map(|answer| match answer {
                NfTablesMessage::NewRule(rule) => Some(listed(chain.name, rule.attributes)),
                _ => None,
            })
            .collect())
    }

    fn dump(
        &mut self,
        family: NetfilterProtoFamily,
        message: NfTablesMessage,
        act: &str,
    ) -> Result<Vec<NfTablesMessage>> {
        let answers = self.dump_as(family, message, act)?;
        Ok(answers.into_iter().filter_map(nf_tables).collect())
    }

    fn dump_as<A: NetlinkDeserializable>(
        &mut self,
        family: NetfilterProtoFamily,
        message: NfTablesMessage,
        act: &str,
    ) -> Result<Vec<A>> {
        let answers = self.socket.dump(&request(family, message));
        answers.map_err(|e| unsupported(e).into_error(act))
    }
}

/// Elements of a set in one message of the kernel. Taken apart here: NetfilterMessage prints the whole message into an
/// error text for each element, whether there is an error or not, which takes half a millisecond each.
struct Elements(Vec<Vec<SetElementAttribute>>);

impl NetlinkDeserializable for Elements {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let mut elements = Vec::new();
        for attribute in NlasIterator::new(payload.get(NFGENMSG_LEN..).unwrap_or_default()) {
            let attribute = attribute?;
            if attribute.kind() != NFTA_SET_ELEM_LIST_ELEMENTS {
                continue;
            }
            for element in NlasIterator::new(attribute.value()) {
                let element = element?;
                let parts = NlasIterator::new(element.value());
                elements
                    .push(parts.map(|part| SetElementAttribute::parse(&part?)).collect::<Result<_, _>>()?);
            }
        }
        Ok(Self(elements))
    }
}

fn elements(set: Set<'_>, answers: Vec<Elements>) -> impl Iterator<Item = Element> {
    answers.into_iter().flat_map(|answer| answer.0).filter_map(move |parts| Element::parse(set, &parts))
}

fn nf_tables(message: NetfilterMessage) -> Option<NfTablesMessage> {
    match message.inner {
        NetfilterMessageInner::NfTables(message) => Some(message),
        _ => None,
    }
}

/// `None` unless the chain is at the hook.
fn base(attributes: Vec<ChainAttribute>, hook: Hook) -> Option<ListedBase> {
    const NF_DROP: u32 = 0;
    let mut base = ListedBase { table: String::new(), chain: String::new(), drops: false };
    let mut is_there = false;
    for attribute in attributes {
        match attribute {
            ChainAttribute::Table(table) => base.table = table,
            ChainAttribute::Name(name) => base.chain = name,
            ChainAttribute::Policy(policy) => base.drops = policy == NF_DROP,
            ChainAttribute::Hook(its) => {
                is_there = its.iter().any(
                    |it| matches!(it, HookAttribute::Number(number) if u32::from(*number) == hook.number()),
                );
            }
            _ => {}
        }
    }
    is_there.then_some(base)
}

fn or_none<T>(answers: Result<Vec<T>>) -> Result<Vec<T>> {
    match answers {
        Err(e) if e.is_missing() || e.is_unsupported() => Ok(vec![]),
        answers => answers,
    }
}

fn listed(chain: &str, attributes: Vec<RuleAttribute>) -> ListedRule {
    let mut rule = ListedRule { chain: chain.to_owned(), handle: 0, comment: None, attributes: Vec::new() };
    for attribute in attributes {
        match attribute {
            RuleAttribute::Handle(handle) => rule.handle = handle,
            RuleAttribute::UserData(data) => rule.comment = comment::decode(&data),
            other => rule.attributes.push(other),
        }
    }
    rule
}

/// linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h
const NFGENMSG_LEN: usize = 4;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
