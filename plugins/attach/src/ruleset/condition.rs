//! Conditions that an operator puts on packets: by address and by interface, each negated or not. Knows no syntax.

use std::fmt::{self, Write};

use ipnetwork::IpNetwork;
use kernel::nft::{
    rule::{Field, Rule},
    value::Value,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::schema::Ip;

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Condition {
    pub what: What,
    /// It must not be so.
    pub negated: bool,
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum What {
    /// The sender is in the network.
    Source(IpNetwork),
    /// The destination, before it is translated, is in the network.
    Destination(IpNetwork),
    /// The packet came by this interface.
    From(Interface),
    /// The packet leaves by this interface; where that is not decided yet, no interface is any name.
    To(Interface),
}

/// Which interfaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Interface {
    Named(String),
    /// All whose name begins so.
    Beginning(String),
}

impl Condition {
    pub(super) fn apply<'a>(&self, rule: Rule<'a>, ip: Ip) -> Rule<'a> {
        let within = |rule: Rule<'a>, field, network| match self.negated {
            false => rule.within(field, network),
            true => rule.not_within(field, network),
        };
        let name = |rule: Rule<'a>, field: Field, interface: &Interface| match interface {
            Interface::Named(name) if self.negated => rule.not_equal(field, &Value::Ifname(name.clone())),
            Interface::Named(name) => rule.equal(field, &Value::Ifname(name.clone())),
            Interface::Beginning(text) => rule.begins(field, text, self.negated),
        };
        match &self.what {
            What::Source(network) => within(rule, ip.source(), *network),
            What::Destination(network) => within(rule, ip.destination(), *network),
            What::From(interface) => name(rule, Field::Iifname, interface),
            What::To(interface) => name(rule, Field::Oifname, interface),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.negated { "!= " } else { "" };
        match &self.what {
            What::Source(network) => write!(f, "saddr {not}{network}"),
            What::Destination(network) => write!(f, "daddr {not}{network}"),
            What::From(Interface::Named(name)) => write!(f, "iifname {not}{name}"),
            What::From(Interface::Beginning(name)) => write!(f, "iifname {not}{name}*"),
            What::To(Interface::Named(name)) => write!(f, "oifname {not}{name}"),
            What::To(Interface::Beginning(name)) => write!(f, "oifname {not}{name}*"),
        }
    }
}

/// A name for these conditions together, for the maps of ports that are published under them; empty when there is none.
pub(super) fn suffix(conditions: &[Condition]) -> String {
    if conditions.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    for condition in conditions {
        let _ = writeln!(text, "{condition}");
    }
    let mut suffix = "_".to_owned();
    for byte in &Sha256::digest(text)[..4] {
        let _ = write!(suffix, "{byte:02x}");
    }
    suffix
}
