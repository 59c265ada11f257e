//! Rules about the name servers that containers were given: each was asked from inside.

use std::{collections::BTreeMap, net::IpAddr};

use kernel::link::Kind;

use super::{ALL, host::way_in, routes::best, tunnels, undo};
use crate::{
    doctor::{Finding, Remedy, Rule, mend::Mend},
    facts::{
        Facts,
        firewall::{Chain, Traffic},
        trials::{Outcome, Question},
    },
};

pub(super) const DNS_BLOCKED: Rule = Rule {
    code: "dns-blocked",
    summary: "a container's questions to its name server are not answered",
    text: "The container was given a name server, asked it for the root's servers by UDP, and heard nothing for a second. A rule of the host that drops \
           port 53 is named where one is found; else the server is down, or out of reach from there. Where another finding says already why the container \
           reaches nobody there, this is none.",
    remedy: Remedy::Person("the rules, or the server, are somebody else's"),
    check: dns_blocked,
};

fn dns_blocked(facts: &Facts) -> Vec<Finding> {
    asked(facts, Outcome::Silent)
}

pub(super) const DNS_UNSERVED: Rule = Rule {
    code: "dns-unserved",
    summary: "nobody serves names at the address that a container was given",
    text: "The container was given a name server, and that address refuses questions: no program listens on port 53 there. It may listen on another \
           address only (127.0.0.53), or not run.",
    remedy: Remedy::Person("the server is somebody else's"),
    check: dns_unserved,
};

fn dns_unserved(facts: &Facts) -> Vec<Finding> {
    asked(facts, Outcome::Refused)
}

/// One finding a server and rule: a server that is down is so for all.
fn asked(facts: &Facts, outcome: Outcome) -> Vec<Finding> {
    let mut groups: BTreeMap<(IpAddr, Option<String>), Vec<&Question>> = BTreeMap::new();
    let asked: Vec<_> = facts.trials.questions.iter().filter(|it| it.outcome == outcome).collect();
    let others = if asked.is_empty() { Vec::new() } else { others(facts) };
    for question in asked.into_iter().filter(|question| !is_known(facts, &others, question)) {
        let rule = (outcome == Outcome::Silent).then(|| stopped_by(facts, question)).flatten();
        groups.entry((question.server, rule)).or_default().push(question);
    }
    let found = groups.into_iter().filter_map(|((server, rule), questions)| {
        let first = &facts.attachments[questions.first()?.attachment];
        let mut spot = first.netns_spot(facts);
        spot.rule.clone_from(&rule);
        let (message, cause) = match (outcome, &rule) {
            (Outcome::Refused, _) => {
                (format!("nobody answers names at {server}"), format!("port 53 of {server} is closed"))
            }
            (_, Some(rule)) => {
                (format!("{} cannot ask {server} for names", first.key), format!("{rule} stops it"))
            }
            (_, None) => (
                format!("{} cannot ask {server} for names", first.key),
                "no answer within a second".to_owned(),
            ),
        };
        let command = match &rule {
            Some(rule) => undo(rule),
            None => format!("netctl trace netns:{} {server} --udp 53", first.netns.as_deref().unwrap_or("?")),
        };
        let found = Finding::new(spot, message, cause).mend(Mend::ByHand(command));
        let names = questions.iter().take(SHOWN).map(|it| facts.attachments[it.attachment].key.to_string());
        let more = questions.len().saturating_sub(SHOWN);
        let names = names.chain((more > 0).then(|| format!("and {more} more")));
        Some(names.fold(found, |found, name| found.evidence(format!("asked by {name}"))))
    });
    found.collect()
}

/// What is wrong beside names.
fn others(facts: &Facts) -> Vec<Finding> {
    let others = ALL.iter().filter(|rule| ![DNS_BLOCKED.code, DNS_UNSERVED.code].contains(&rule.code));
    others.flat_map(|rule| (rule.check)(facts)).collect()
}

/// One of these findings says already why the container does not reach the server.
fn is_known(facts: &Facts, others: &[Finding], question: &Question) -> bool {
    let attached = &facts.attachments[question.attachment];
    if others.iter().any(|found| found.cuts_off(facts, attached, question.server)) {
        return true;
    }
    let device = best(&facts.host().routes, question.server).and_then(|way| way.dev);
    let device = device.and_then(|device| facts.host().link_at(device));
    let tunnel = device.filter(|link| matches!(link.kind, Some(Kind::Vxlan { .. })));
    tunnel.is_some_and(|tunnel| tunnels::is_faulty(facts, &tunnel.name))
}

/// The host's rule that stops the question.
fn stopped_by(facts: &Facts, question: &Question) -> Option<String> {
    let attached = &facts.attachments[question.attachment];
    let device = way_in(facts, attached)?;
    let mut addresses: Vec<_> = attached.addresses().into_iter().map(|address| address.ip()).collect();
    addresses.push(question.server);
    let port = DNS.to_be_bytes();
    let headers: [&[u8]; 2] = [&[UDP], &port];
    let is_ipv4 = question.server.is_ipv4();
    let traffic = Traffic { is_ipv4, device: &device.name, addresses: &addresses, headers: &headers };
    let is_ours = facts.host().addresses.iter().any(|it| it.network.ip() == question.server);
    let chains: &[Chain] = if is_ours { &facts.input } else { &facts.forward };
    chains.iter().find_map(|chain| chain.stops(&traffic))
}

const DNS: u16 = 53;
const UDP: u8 = 17;
/// Of the containers that asked in vain.
const SHOWN: usize = 5;
