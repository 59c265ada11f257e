//! The host's own `filter` tables: where their FORWARD drops what nobody accepts (Docker, ufw), an accept in a table of
//! ours does not help. So a network gets its accepts there, in the chain of the reference plugins and in forms that
//! iptables-save reads, one for each direction of each of its subnets. They are the network's, not an attachment's: under
//! its lock.
//!
//! Only iptables of the nft variant keeps its tables where netlink reaches.

use cni::names::NetworkName;
use ipnetwork::IpNetwork;
use kernel::{
    error::Result,
    nft::{
        Nft,
        batch::Batch,
        is_overtaken,
        list::ListedRule,
        rule::{DNAT, ESTABLISHED, Field, RELATED, Rule, Verdict},
        table::{Chain, Family, Table},
    },
};

/// What a network needs.
#[derive(Clone, Copy, Debug)]
pub struct Accepts<'a> {
    pub network: &'a NetworkName,
    pub subnets: &'a [IpNetwork],
    /// The user's chain, which comes before them.
    pub admin_chain: &'a str,
}

impl Accepts<'_> {
    /// Puts the accepts where the host has such tables; what is there already is fine.
    pub fn ensure(&self, nft: &mut Nft) -> Result<()> {
        self.tables().try_for_each(|table| self.ensure_in(nft, table))
    }

    /// What should be there and is not, as iptables would be told to add it.
    pub fn missing(&self, nft: &mut Nft) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        for table in self.tables() {
            if !has_filter(nft, table.family)? {
                continue;
            }
            let tool = if table.family == Family::Ip { "iptables" } else { "ip6tables" };
            if !jumps(&nft.rules(table.chain(FORWARD))?, CNI_FORWARD) {
                missing.push(format!("{tool} -I {FORWARD} -j {CNI_FORWARD}"));
            }
            let there = self.own(&nft.rules(table.chain(CNI_FORWARD))?).count();
            let wanted = self.of(table);
            if there < 2 * wanted.len() {
                missing.extend(wanted.iter().flat_map(|subnet| commands(*subnet)));
            }
        }
        Ok(missing)
    }

    /// Takes the accepts of the network away, and the chain with the last of anybody's.
    pub fn remove(&self, nft: &mut Nft) -> Result<()> {
        for family in [Family::Ip, Family::Ip6] {
            if has_filter(nft, family)? {
                self.remove_in(nft, Table { family, name: FILTER })?;
            }
        }
        Ok(())
    }

    fn tables(&self) -> impl Iterator<Item = Table<'static>> {
        let has = |v4: bool| self.subnets.iter().any(|subnet| subnet.is_ipv4() == v4);
        let families = [(true, Family::Ip), (false, Family::Ip6)].into_iter().filter(move |(v4, _)| has(*v4));
        families.map(|(_, family)| Table { family, name: FILTER })
    }

    fn of(&self, table: Table<'_>) -> Vec<IpNetwork> {
        let v4 = table.family == Family::Ip;
        self.subnets.iter().filter(|subnet| subnet.is_ipv4() == v4).copied().collect()
    }

    fn own<'r>(&self, rules: &'r [ListedRule]) -> impl Iterator<Item = &'r ListedRule> {
        let mark = self.mark();
        rules.iter().filter(move |rule| rule.comment.as_ref() == Some(&mark))
    }

    fn mark(&self) -> String {
        let mut mark = format!("tenon {}", self.network);
        mark.truncate(kernel::nft::comment::MAX);
        mark
    }

    fn ensure_in(&self, nft: &mut Nft, table: Table<'static>) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if !has_filter(nft, table.family)? {
                return Ok(());
            }
            let generation = nft.generation()?;
            let batch = self.lacking(nft, table)?;
            if batch.is_empty() {
                return Ok(());
            }
            match nft.commit(batch.only_at(generation)) {
                Err(err) if is_overtaken(&err) => {}
                // Without its base chain the table drops nothing.
                Err(err) if err.is_missing() => return Ok(()),
                done => return done,
            }
        }
        let batch = self.lacking(nft, table)?;
        nft.commit(batch)
    }

    fn lacking(&self, nft: &mut Nft, table: Table<'static>) -> Result<Batch> {
        let (forward, accepts) = (table.chain(FORWARD), table.chain(CNI_FORWARD));
        let mut batch = Batch::new();
        let there = nft.rules(accepts)?;
        let mark = self.mark();
        if there.is_empty() {
            let chains = nft.chains(table)?;
            for name in [self.admin_chain, CNI_FORWARD] {
                if !chains.iter().any(|chain| chain == name) {
                    batch.add_chain(table.chain(name));
                }
            }
        }
        if !jumps(&there, self.admin_chain) {
            let jump = Verdict::Jump(self.admin_chain.to_owned());
            let rule = Rule::new(accepts).counter().verdict(jump);
            batch.insert_rule(rule.commented("CNI firewall plugin admin overrides"));
        }
        let own: Vec<_> = self.own(&there).collect();
        for subnet in self.of(table) {
            // Both of a subnet come and go together.
            if !own.iter().any(|rule| names(rule, subnet)) {
                accept(&mut batch, accepts, subnet, &mark);
            }
        }
        if !jumps(&nft.rules(forward)?, CNI_FORWARD) {
            let rule = Rule::new(forward).counter().verdict(Verdict::Jump(CNI_FORWARD.to_owned()));
            batch.insert_rule(rule.commented("CNI firewall plugin rules"));
        }
        Ok(batch)
    }

    fn remove_in(&self, nft: &mut Nft, table: Table<'static>) -> Result<()> {
        // The user's chain goes too if it is empty, unless somebody else jumps to it. All in one batch: each that removes
        // something is waited for when the socket is closed.
        let mut with_admin = true;
        for attempt in 0.. {
            let generation = nft.generation()?;
            let batch = self.removal(nft, table, with_admin)?;
            match nft.commit(batch.only_at(generation)) {
                Err(err) if is_overtaken(&err) && attempt < ATTEMPTS => {}
                Err(err) if err.is_busy() && with_admin => with_admin = false,
                done => return done,
            }
        }
        Ok(())
    }

    fn removal(&self, nft: &mut Nft, table: Table<'static>, with_admin: bool) -> Result<Batch> {
        let (forward, accepts) = (table.chain(FORWARD), table.chain(CNI_FORWARD));
        let there = nft.rules(accepts)?;
        let mut batch = Batch::new();
        let own: Vec<_> = self.own(&there).collect();
        own.iter().for_each(|rule| batch.remove_rule(accepts, rule.handle));
        let others = there.iter().filter(|rule| {
            !own.contains(rule) && rule.verdict() != Some(Verdict::Jump(self.admin_chain.to_owned()))
        });
        if own.is_empty() || others.count() > 0 {
            return Ok(batch);
        }
        for rule in nft.rules(forward)? {
            if rule.verdict() == Some(Verdict::Jump(CNI_FORWARD.to_owned())) {
                batch.remove_rule(forward, rule.handle);
            }
        }
        batch.flush_chain(accepts);
        batch.remove_chain(accepts);
        let admin = table.chain(self.admin_chain);
        if with_admin && jumps(&there, self.admin_chain) && nft.rules(admin)?.is_empty() {
            batch.remove_chain(admin);
        }
        Ok(batch)
    }
}

/// As iptables would be told.
pub fn commands(subnet: IpNetwork) -> [String; 2] {
    let tool = if subnet.is_ipv4() { "iptables" } else { "ip6tables" };
    let (network, prefix) = (subnet.network(), subnet.prefix());
    [
        format!("{tool} -I {FORWARD} -s {network}/{prefix} -j ACCEPT"),
        format!(
            "{tool} -I {FORWARD} -d {network}/{prefix} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT"
        ),
    ]
}

/// What it sends, and what is sent to it by somebody whom it knows or to a port that is published.
fn accept(batch: &mut Batch, chain: Chain<'_>, subnet: IpNetwork, mark: &str) {
    let (source, destination) = if subnet.is_ipv4() {
        (Field::Ip4Source, Field::Ip4Destination)
    } else {
        (Field::Ip6Source, Field::Ip6Destination)
    };
    let states = RELATED | ESTABLISHED | DNAT;
    let to = Rule::new(chain).within(destination, subnet).iptables_states(states);
    let from = Rule::new(chain).within(source, subnet);
    for rule in [to, from] {
        batch.append_rule(rule.counter().verdict(Verdict::Accept).commented(mark));
    }
}

fn jumps(rules: &[ListedRule], to: &str) -> bool {
    rules.iter().any(|rule| rule.verdict() == Some(Verdict::Jump(to.to_owned())))
}

fn names(rule: &ListedRule, subnet: IpNetwork) -> bool {
    let bytes = match subnet.network() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    rule.comparisons().any(|value| value == bytes)
}

fn has_filter(nft: &mut Nft, family: Family) -> Result<bool> {
    Ok(nft.tables(family)?.iter().any(|table| table == FILTER))
}

const FILTER: &str = "filter";
const FORWARD: &str = "FORWARD";
/// The reference's, so that its DEL finds its own beside ours.
const CNI_FORWARD: &str = "CNI-FORWARD";
const ATTEMPTS: usize = 20;
