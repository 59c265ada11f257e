//! Who may send to our UDP ports: peers' addresses, and no container. Knows no network, only the union of all.
//!
//! VXLAN believes whoever reaches its port: any host, and any container that can send UDP, could put packets into the
//! network. So what arrives for one of our ports from elsewhere than a peer is dropped, as is what containers send there.

use std::{collections::BTreeSet, net::IpAddr};

use ipnetwork::IpNetwork;
use kernel::{
    error::Result,
    nft::{
        Nft,
        batch::Batch,
        element::Element,
        rule::{Field, Rule, Verdict},
        table::{Chain, ChainKind, Family, Hook, Set, Table},
        value::{Type, Value},
    },
};

/// What the guard lets through and what it stops.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Of all networks.
    pub ports: BTreeSet<u16>,
    /// Who may send to which port.
    pub peers: BTreeSet<(IpAddr, u16)>,
    /// Container addresses, which may not.
    pub pools: BTreeSet<IpNetwork>,
}

/// The guard as the kernel has it.
#[derive(Debug)]
pub struct Guard {
    nft: Nft,
    standing: Option<Policy>,
}

impl Guard {
    /// Opens the ruleset of the calling thread's namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { nft: Nft::open()?, standing: None })
    }

    /// Makes the kernel's rules so. The first time everything is written anew, in one batch: there is no moment without a
    /// guard. Later only peers that came or went are.
    pub fn enforce(&mut self, policy: &Policy) -> Result<()> {
        let batch = match &self.standing {
            Some(standing) if standing.ports == policy.ports && standing.pools == policy.pools => {
                difference(standing, policy)
            }
            _ => anew(policy),
        };
        // A difference that does not fit means that somebody else changed our sets.
        let done = match self.nft.commit(batch) {
            Err(_) if self.standing.is_some() => self.nft.commit(anew(policy)),
            done => done,
        };
        self.standing = done.as_ref().ok().map(|()| policy.clone());
        done
    }

    /// Whether the table is there. What is in it, nobody else has any business with.
    pub fn is_there(&mut self) -> Result<bool> {
        Ok(self.nft.tables(TABLE.family)?.iter().any(|name| name == TABLE.name))
    }

    /// Write everything anew the next time.
    pub fn forget(&mut self) {
        self.standing = None;
    }

    /// Takes the guard away.
    pub fn remove(&mut self) -> Result<()> {
        self.standing = None;
        let mut batch = Batch::new();
        batch.remove_table(TABLE);
        self.nft.commit(batch)
    }
}

fn anew(policy: &Policy) -> Batch {
    let Policy { ports, peers, pools } = policy;
    let mut batch = Batch::new();
    batch.remove_table(TABLE);
    batch.ensure_table(TABLE);
    for set in [PORTS, PEERS_V4, PEERS_V6] {
        batch.add_set(set);
    }
    for chain in [INPUT, FORWARD, ARRIVING, PASSING] {
        batch.add_chain(chain);
    }
    let ports: Vec<_> = ports.iter().map(|port| Element::new([Value::Port(*port)])).collect();
    batch.add_elements(PORTS, &ports);
    for (set, elements) in peer_elements(peers.iter()) {
        batch.add_elements(set, &elements);
    }
    // What is not for our ports, as most, is looked at once.
    for (hook, decides) in [(INPUT, ARRIVING), (FORWARD, PASSING)] {
        let udp = Rule::new(hook).equal(Field::L4Proto, &Value::Protocol(UDP));
        let to_us = udp.in_set(&[Field::DestinationPort.into()], PORTS);
        batch.append_rule(to_us.verdict(Verdict::Jump(decides.name.to_owned())));
    }
    for (field, peers) in [(Field::Ip4Source, PEERS_V4), (Field::Ip6Source, PEERS_V6)] {
        let from_peer = Rule::new(ARRIVING).in_set(&[field.into(), Field::DestinationPort.into()], peers);
        batch.append_rule(from_peer.verdict(Verdict::Accept));
    }
    let from_us = Rule::new(ARRIVING).equal(Field::Iifname, &Value::Ifname("lo".into()));
    batch.append_rule(from_us.verdict(Verdict::Accept));
    batch.append_rule(Rule::new(ARRIVING).counter().verdict(Verdict::Drop));
    for pool in pools {
        let field = if pool.is_ipv4() { Field::Ip4Source } else { Field::Ip6Source };
        batch.append_rule(Rule::new(PASSING).within(field, *pool).counter().verdict(Verdict::Drop));
    }
    batch
}

fn difference(standing: &Policy, policy: &Policy) -> Batch {
    let mut batch = Batch::new();
    for (set, elements) in peer_elements(policy.peers.difference(&standing.peers)) {
        batch.add_elements(set, &elements);
    }
    for (ip, port) in standing.peers.difference(&policy.peers) {
        batch.remove_element(set_of(*ip), &[Value::Ip(*ip), Value::Port(*port)]);
    }
    batch
}

fn peer_elements<'a>(peers: impl Iterator<Item = &'a (IpAddr, u16)>) -> [(Set<'static>, Vec<Element>); 2] {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (ip, port) in peers {
        let elements = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
        elements.push(Element::new([Value::Ip(*ip), Value::Port(*port)]));
    }
    [(PEERS_V4, v4), (PEERS_V6, v6)]
}

fn set_of(ip: IpAddr) -> Set<'static> {
    if ip.is_ipv4() { PEERS_V4 } else { PEERS_V6 }
}

/// A table of the agent's own: it is written whole, and goes without asking who else has rules in it.
pub const TABLE: Table<'static> = Table { family: Family::Inet, name: "tenon-overlay" };
const PORTS: Set<'static> = TABLE.set("ports", &[Type::Port]);
const PEERS_V4: Set<'static> = TABLE.set("peers4", &[Type::Ip4, Type::Port]);
const PEERS_V6: Set<'static> = TABLE.set("peers6", &[Type::Ip6, Type::Port]);
/// Before connection tracking, so that what is dropped costs nothing.
const INPUT: Chain<'static> = TABLE.base_chain("input", ChainKind::Filter, Hook::Input, -10);
const FORWARD: Chain<'static> = TABLE.base_chain("forward", ChainKind::Filter, Hook::Forward, -10);
/// For one of our ports of this host.
const ARRIVING: Chain<'static> = TABLE.chain("arriving");
/// For such a port of another.
const PASSING: Chain<'static> = TABLE.chain("passing");
const UDP: u8 = 17;
