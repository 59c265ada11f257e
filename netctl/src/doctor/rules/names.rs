//! Rules about the name servers that containers were given: each was asked from inside.

use std::{collections::BTreeMap, net::IpAddr};

use super::{host::way_in, tunnels::astray, undo};
use crate::{
    doctor::{Finding, Rule, mend::Mend},
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
           port 53 is named where one is found; else the server is down, or out of reach from there.",
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
    check: dns_unserved,
};

fn dns_unserved(facts: &Facts) -> Vec<Finding> {
    asked(facts, Outcome::Refused)
}

/// One finding a server and rule: a server that is down is so for all.
fn asked(facts: &Facts, outcome: Outcome) -> Vec<Finding> {
    let mut groups: BTreeMap<(IpAddr, Option<String>), Vec<&Question>> = BTreeMap::new();
    // Whose frames are sent elsewhere hears no server either: that is fdb-stale's to tell.
    let deaf: Vec<_> = astray(facts).map(|(attached, ..)| &attached.key).collect();
    for question in facts.trials.questions.iter().filter(|question| question.outcome == outcome) {
        if deaf.contains(&&facts.attachments[question.attachment].key) {
            continue;
        }
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
