//! What the host's nftables do with packets at a hook, as far as rules can be read without guessing: by the interface
//! or network that they name. iptables' rules are nftables' too where iptables is the nft one.

use std::net::IpAddr;

use kernel::{
    error::Result,
    nft::{
        Nft,
        list::ListedRule,
        rule::Verdict,
        table::{Family, Hook, Table},
    },
};

/// A chain at one hook.
#[derive(Debug)]
pub struct Chain {
    /// `inet`, `ip`.
    pub family: &'static str,
    pub table: String,
    pub name: String,
    pub drops: bool,
    /// In order; those of chains that a rule jumps to are in its place.
    pub rules: Vec<Rule>,
}

/// A rule that decides.
#[derive(Debug)]
pub struct Rule {
    pub chain: String,
    pub handle: u64,
    pub accepts: bool,
    /// It chooses by nothing that is out of sight here.
    is_plain: bool,
    /// What it compares packets with, and what the jumps to it did.
    comparisons: Vec<Vec<u8>>,
    /// Sets that it looks into.
    lookups: Vec<String>,
}

/// What a chain does with the packets of some containers.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    Passes,
    /// By the rule with this handle in this chain.
    DroppedBy(String, u64),
    DroppedByPolicy,
}

impl Chain {
    /// All of the current namespace at a hook.
    pub fn all(hook: Hook) -> Result<Vec<Self>> {
        let mut nft = Nft::open()?;
        let mut all = Vec::new();
        for (family, name) in [(Family::Inet, "inet"), (Family::Ip, "ip"), (Family::Ip6, "ip6")] {
            for base in nft.bases(family, hook)? {
                let table = Table { family, name: &base.table };
                let rules = read(&mut nft, table, &base.chain, &Conditions::default(), DEPTH)?;
                all.push(Self {
                    family: name,
                    drops: base.drops,
                    name: base.chain,
                    table: base.table,
                    rules,
                });
            }
        }
        Ok(all)
    }

    /// The fate of packets to and from `address` behind `device`. An accept that names either counts for both directions.
    pub fn fate(&self, device: &str, address: IpAddr) -> Fate {
        let other = if address.is_ipv4() { "ip6" } else { "ip" };
        if self.family == other {
            return Fate::Passes;
        }
        for rule in &self.rules {
            if rule.accepts && rule.names(device, address) {
                return Fate::Passes;
            }
            if !rule.accepts && rule.is_only_about(device, address) {
                return Fate::DroppedBy(rule.chain.clone(), rule.handle);
            }
        }
        if self.drops { Fate::DroppedByPolicy } else { Fate::Passes }
    }

    /// Whether the chain stops this traffic, and by what, as far as that is certain: `ip filter INPUT handle 7`.
    pub fn stops(&self, traffic: &Traffic<'_>) -> Option<String> {
        if self.family == if traffic.is_ipv4 { "ip6" } else { "ip" } {
            return None;
        }
        let place = |chain: &str| format!("{} {} {chain}", self.family, self.table);
        for rule in &self.rules {
            let about = rule.comparisons.iter().all(|it| traffic.is_about(it));
            match rule.accepts {
                true if about || rule.may_let_in(traffic) => return None,
                false if about && rule.is_plain && rule.lookups.is_empty() => {
                    return Some(format!("{} handle {}", place(&rule.chain), rule.handle));
                }
                _ => {}
            }
        }
        self.drops.then(|| format!("{} policy", place(&self.name)))
    }
}

/// Packets of one kind, as rules name them.
#[derive(Debug, Clone, Copy)]
pub struct Traffic<'a> {
    pub is_ipv4: bool,
    pub device: &'a str,
    pub addresses: &'a [IpAddr],
    /// What of their headers rules compare: the protocol's number, a port.
    pub headers: &'a [&'a [u8]],
}

impl Traffic<'_> {
    fn is_about(&self, compared: &[u8]) -> bool {
        let nfproto: &[u8] = if self.is_ipv4 { &[2] } else { &[10] };
        compared == nfproto
            || self.headers.contains(&compared)
            || is_device(compared, self.device)
            || self.addresses.iter().any(|address| is_address(compared, *address))
    }
}

impl Rule {
    /// The rule takes packets of ours, perhaps not all.
    fn names(&self, device: &str, address: IpAddr) -> bool {
        let all = self.comparisons.is_empty() && self.lookups.is_empty();
        // Whose addresses are in a set of ours is for the plugin that put them there.
        let ours = self.lookups.iter().any(|_| self.comparisons.iter().all(|it| is_protocol(it)));
        all || ours || self.comparisons.iter().any(|it| is_device(it, device) || is_address(it, address))
    }

    /// The rule takes all packets of ours.
    fn is_only_about(&self, device: &str, address: IpAddr) -> bool {
        let about =
            |it: &Vec<u8>| is_device(it, device) || is_address(it, address) || is_protocol_of(it, address);
        self.is_plain && self.lookups.is_empty() && self.comparisons.iter().all(about)
    }
}

impl Rule {
    /// An accept of this port, or of a set of ports, whatever else it asks for: what is not certain is no finding.
    fn may_let_in(&self, traffic: &Traffic<'_>) -> bool {
        let names = |length: usize| {
            let mut headers = traffic.headers.iter().filter(|header| header.len() == length);
            headers.any(|header| self.comparisons.iter().any(|compared| compared == header))
        };
        const PROTOCOL: usize = 1;
        const PORT: usize = 2;
        names(PORT) || !self.lookups.is_empty() && names(PROTOCOL)
    }
}

/// Names of interfaces are compared whole with their end, or as the start before a `*`.
fn is_device(compared: &[u8], device: &str) -> bool {
    match compared.iter().position(|byte| *byte == 0) {
        Some(end) => &compared[..end] == device.as_bytes(),
        None => compared.len() > 1 && device.as_bytes().starts_with(compared),
    }
}

/// Networks are compared by their whole bytes, or padded with zeros after a mask.
fn is_address(compared: &[u8], address: IpAddr) -> bool {
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let end = compared.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    end > 1 && compared.len() <= octets.len() && octets.starts_with(&compared[..end])
}

/// One byte: NFPROTO or a transport protocol.
fn is_protocol(compared: &[u8]) -> bool {
    compared.len() == 1
}

fn is_protocol_of(compared: &[u8], address: IpAddr) -> bool {
    // NFPROTO_IPV4, NFPROTO_IPV6.
    compared == if address.is_ipv4() { [2] } else { [10] }
}

type Conditions = (Vec<Vec<u8>>, Vec<String>);

/// The deciding rules of a chain, behind the conditions of the jumps that led to it.
fn read(
    nft: &mut Nft,
    table: Table<'_>,
    chain: &str,
    before: &Conditions,
    depth: usize,
) -> Result<Vec<Rule>> {
    let mut found = Vec::new();
    for rule in nft.rules(table.chain(chain))? {
        let conditions = conditions(&rule, before);
        match rule.verdict() {
            Some(Verdict::Jump(to) | Verdict::Goto(to)) if depth > 0 => {
                found.extend(read(nft, table, &to, &conditions, depth - 1)?);
            }
            verdict => {
                let accepts = verdict == Some(Verdict::Accept);
                if accepts || verdict == Some(Verdict::Drop) || rule.rejects() {
                    let (is_plain, (comparisons, lookups)) = (rule.is_plain(), conditions);
                    let (chain, handle) = (rule.chain, rule.handle);
                    found.push(Rule { chain, handle, accepts, is_plain, comparisons, lookups });
                }
            }
        }
    }
    Ok(found)
}

fn conditions(rule: &ListedRule, before: &Conditions) -> Conditions {
    let comparisons = before.0.iter().cloned().chain(rule.comparisons().map(<[u8]>::to_vec));
    let lookups = before.1.iter().cloned().chain(rule.lookups().map(str::to_owned));
    (comparisons.collect(), lookups.collect())
}

/// The kernel allows 16 (NFT_JUMP_STACK_SIZE).
const DEPTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(accepts: bool, comparisons: &[&[u8]], lookups: &[&str]) -> Rule {
        Rule {
            chain: "in".to_owned(),
            handle: 7,
            accepts,
            is_plain: true,
            comparisons: comparisons.iter().map(|it| it.to_vec()).collect(),
            lookups: lookups.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    /// Of UDP to port 4789 that comes in by u0.
    #[track_caller]
    fn check(drops: bool, rules: Vec<Rule>, expected: Option<&str>) {
        let chain = Chain { family: "inet", table: "fw".to_owned(), name: "in".to_owned(), drops, rules };
        let headers: [&[u8]; 2] = [&[17], &[0x12, 0xb5]];
        let traffic = Traffic { is_ipv4: true, device: "u0", addresses: &[], headers: &headers };
        assert_eq!(chain.stops(&traffic).as_deref(), expected);
    }

    #[test]
    fn only_what_is_certain_stops() {
        let port: &[u8] = &[0x12, 0xb5];
        check(false, vec![], None);
        check(true, vec![], Some("inet fw in policy"));
        check(false, vec![rule(false, &[&[17], port], &[])], Some("inet fw in handle 7"));
        check(false, vec![rule(false, &[b"u0\0\0\0", &[2], &[17], port], &[])], Some("inet fw in handle 7"));
        // Another protocol, another port, another family, a set that nobody has looked into.
        check(false, vec![rule(false, &[&[6], port], &[])], None);
        check(false, vec![rule(false, &[&[17], &[0, 53]], &[])], None);
        check(false, vec![rule(false, &[&[10], &[17], port], &[])], None);
        check(false, vec![rule(false, &[&[17]], &["ports"])], None);
        // What may let it in does, for all that is known.
        check(true, vec![rule(true, &[&[17], port], &[])], None);
        check(true, vec![rule(true, &[b"eth9\0", &[17], port], &[])], None);
        check(true, vec![rule(true, &[&[17]], &["ports"])], None);
        check(true, vec![rule(true, &[&[6]], &["ports"])], Some("inet fw in policy"));
        check(true, vec![rule(true, &[&[0, 0, 0, 0]], &[])], Some("inet fw in policy"));
    }
}
