//! What the Go reference plugins left in the ruleset for an attachment that they made: found by the names they give, and
//! taken out. For a DEL without a record of ours, after an upgrade under a running node.
//!
//! Their iptables rules are seen where iptables is the nft variant; the older one keeps its tables where no netlink
//! reaches. Each function does all that it can and then tells what failed.

use std::{fmt::Write, net::IpAddr};

use cni::names::Attachment;
use ipnetwork::IpNetwork;
use kernel::{
    error::Result,
    nft::{
        Nft,
        batch::Batch,
        list::ListedRule,
        rule::Verdict,
        table::{Family, Table},
    },
};
use sha2::{Digest, Sha512};

use crate::failures::Failures;

/// What bridge and ptp made for `ipMasq`, by either of their backends.
///
/// By iptables, all interfaces that a container has on one network share a chain: it stays while one of them needs it.
/// Without `addresses` (those of the attachment, with their subnets) it goes with all that jumps to it.
pub fn remove_masquerade(
    nft: &mut Nft,
    attachment: &Attachment,
    addresses: &[IpNetwork],
) -> anyhow::Result<()> {
    let Attachment { network, container, ifname } = attachment;
    let mut failures = Failures::default();
    let chain = format!("CNI-{}", sha512(&format!("{network}{container}"), 24));
    let mine =
        |rule: &ListedRule| addresses.is_empty() || addresses.iter().any(|address| names(rule, *address));
    for table in NAT {
        failures.note(remove_chain(nft, table, &chain, &["POSTROUTING"], mine));
    }
    let table = Table { family: Family::Inet, name: "cni_plugins_masquerade" };
    let network = sha512(network.as_str(), 16);
    let hash = format!("{network}-{}", sha512(&format!("{ifname}:{container}"), 16));
    let mine = |rule: &ListedRule| rule.comment.as_ref().is_some_and(|comment| comment.starts_with(&hash));
    failures.note(remove_rules(nft, table, "masq_checks", mine));
    failures.into_result()
}

/// What bridge made for `macspoofchk`.
pub fn remove_spoof_check(nft: &mut Nft, attachment: &Attachment) -> anyhow::Result<()> {
    let table = Table { family: Family::Bridge, name: "nat" };
    let chain = format!("cni-br-iface-{}-{}", attachment.container, attachment.ifname);
    let mut failures = Failures::default();
    failures.note(remove_chain(nft, table, &chain, &["PREROUTING"], |_| true));
    failures.note(remove_chain(nft, table, &format!("{chain}-mac"), &[], |_| true));
    failures.into_result()
}

/// What portmap made, by either of its backends.
pub fn remove_ports(nft: &mut Nft, attachment: &Attachment) -> anyhow::Result<()> {
    let Attachment { network, container, .. } = attachment;
    let mut failures = Failures::default();
    let hash = sha512(&format!("{network}{container}"), 21);
    for table in NAT {
        let chain = format!("CNI-DN-{hash}");
        failures.note(remove_chain(nft, table, &chain, &["CNI-HOSTPORT-DNAT"], |_| true));
    }
    for family in [Family::Ip, Family::Ip6] {
        let table = Table { family, name: "cni_hostport" };
        let mine = |rule: &ListedRule| rule.comment.as_deref() == Some(container.as_str());
        for chain in ["hostports", "hostip_hostports", "masquerading"] {
            failures.note(remove_rules(nft, table, chain, mine));
        }
    }
    failures.into_result()
}

/// What firewall made for these addresses.
pub fn remove_accepts(nft: &mut Nft, addresses: &[IpAddr]) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    for family in [Family::Ip, Family::Ip6] {
        let table = Table { family, name: "filter" };
        let mine = |rule: &ListedRule| {
            rule.verdict() == Some(Verdict::Accept)
                && addresses.iter().any(|&address| names(rule, IpNetwork::from(address)))
        };
        failures.note(remove_rules(nft, table, "CNI-FORWARD", mine));
    }
    failures.into_result()
}

/// Whether the rule is about this address, or (as plugins of 2016 had it) about all of its subnet.
fn names(rule: &ListedRule, address: IpNetwork) -> bool {
    let is = |value: &[u8], address: IpAddr| match address {
        IpAddr::V4(address) => value == address.octets(),
        IpAddr::V6(address) => value == address.octets(),
    };
    rule.comparisons().any(|value| is(value, address.ip()) || is(value, address.network()))
}

fn remove_rules(
    nft: &mut Nft,
    table: Table<'_>,
    chain: &str,
    is_mine: impl Fn(&ListedRule) -> bool,
) -> Result<()> {
    let chain = table.chain(chain);
    let mut batch = Batch::new();
    for rule in nft.rules(chain)?.iter().filter(|rule| is_mine(rule)) {
        batch.remove_rule(chain, rule.handle);
    }
    nft.commit(batch)
}

/// Removes what jumps to the chain from the chains `from` and is ours; and then the chain itself, unless somebody else
/// jumps there still.
fn remove_chain(
    nft: &mut Nft,
    table: Table<'_>,
    name: &str,
    from: &[&str],
    is_mine: impl Fn(&ListedRule) -> bool,
) -> Result<()> {
    if !nft.chains(table)?.iter().any(|chain| chain == name) {
        return Ok(());
    }
    let mut batch = Batch::new();
    let mut is_used = false;
    for from in from.iter().map(|from| table.chain(from)) {
        for rule in nft.rules(from)? {
            if rule.verdict() != Some(Verdict::Jump(name.to_owned())) {
                continue;
            }
            if is_mine(&rule) {
                batch.remove_rule(from, rule.handle);
            } else {
                is_used = true;
            }
        }
    }
    if !is_used {
        batch.flush_chain(table.chain(name));
        batch.remove_chain(table.chain(name));
    }
    nft.commit(batch)
}

/// The first hex digits, as the Go plugins shorten names.
fn sha512(text: &str, digits: usize) -> String {
    let mut hex = String::new();
    for byte in Sha512::digest(text) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex.truncate(digits);
    hex
}

/// Where iptables has its nat table.
const NAT: [Table<'static>; 2] =
    [Table { family: Family::Ip, name: "nat" }, Table { family: Family::Ip6, name: "nat" }];
