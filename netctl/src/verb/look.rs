//! The verbs that only look: what each says of a node, asked of this one and of every peer, once or again and again.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, stdout},
    thread,
};

use anyhow::bail;
use clap::Parser as _;
use serde_json::{Value, json};

use super::{config, inspect, ipam, nat, network, ps, status, tables};
use crate::{
    agent::{
        peers::Asked,
        protocol::{Looked, Reply as Answer, Request},
    },
    cli::{Cli, Verb},
    exit::{Exit, Failure},
    facts::Facts,
    output::{self, Format, Layout, Reply},
    verb::Context,
};

/// What a verb says of a node.
pub struct Sight {
    pub reply: Reply,
    pub exit: Exit,
    /// Names on the command line that mean nothing there, with what to say if they mean nothing anywhere.
    pub unknown: BTreeMap<String, String>,
}

impl From<Reply> for Sight {
    /// With nothing wrong, and all names known.
    fn from(reply: Reply) -> Self {
        Self { reply, exit: Exit::Fine, unknown: BTreeMap::new() }
    }
}

/// What the verb says of the node that the facts are of; none if it does more than look.
pub fn look(verb: &Verb, facts: &Facts, context: &Context) -> Option<Result<Sight, Failure>> {
    Some(match verb {
        Verb::Ps(ps) => Ok(ps::look(ps, facts, context).into()),
        Verb::Network(network) => Ok(network::look(network, facts, context)),
        Verb::Inspect(inspect) => inspect::look(inspect, facts, context),
        Verb::Status(_) => Ok(status::look(facts, context)),
        Verb::Neigh(_) => tables::neigh(facts, context).map(Sight::from),
        Verb::Fdb(_) => tables::fdb(facts, context).map(Sight::from),
        Verb::Flows(flows) => tables::flows(flows, facts, context).map(Sight::from),
        Verb::Nat(_) => nat::look(facts, context).map(Sight::from),
        Verb::Ipam(ipam) => return ipam::look(ipam, facts, context),
        Verb::Config(config) => return config::look(config, facts, context),
        _ => return None,
    })
}

/// Whether the verb is one of those.
pub fn is_look(verb: &Verb) -> bool {
    match verb {
        Verb::Ps(_) | Verb::Network(_) | Verb::Inspect(_) | Verb::Status(_) => true,
        Verb::Neigh(_) | Verb::Fdb(_) | Verb::Flows(_) | Verb::Nat(_) => true,
        Verb::Ipam(ipam) => ipam.is_look(),
        Verb::Config(config) => config.is_look(),
        _ => false,
    }
}

/// What a peer is asked: the words of the command line that it was asked with.
pub fn by_words(words: &[String], facts: &Facts, context: &Context) -> anyhow::Result<Sight> {
    let Cli { verb, .. } = Cli::try_parse_from(words)?;
    match look(&verb, facts, context) {
        Some(sight) => Ok(sight?),
        None => bail!("{words:?} does more than look"),
    }
}

/// Shows what the verb says of this node and of its peers, again whenever it changes if that is wished.
pub fn run(verb: &Verb, context: &Context) -> Result<Exit, Failure> {
    let Some(pause) = context.watch else {
        let (sight, layout) = everywhere(verb, context)?;
        sight.reply.write(&layout)?;
        return Ok(sight.exit);
    };
    let is_screen = stdout().is_terminal() && matches!(context.layout.format, Format::Table | Format::Wide);
    let mut before: Option<Vec<Value>> = None;
    loop {
        let (Sight { reply, .. }, layout) = everywhere(verb, context)?;
        match &before {
            Some(items) if *items == reply.items => {}
            Some(items) if !is_screen => changes(items, &reply.items, reply.kind),
            _ => {
                if is_screen {
                    output::write(CLEAR);
                }
                reply.write(&layout)?;
            }
        }
        before = Some(reply.items);
        thread::sleep(pause);
    }
}

/// A line of JSON for what came and what went.
fn changes(before: &[Value], after: &[Value], kind: &str) {
    let without = |all: &[Value], known: &[Value]| -> Vec<Value> {
        all.iter().filter(|it| !known.contains(it)).cloned().collect()
    };
    let (added, removed) = (without(after, before), without(before, after));
    let line = json!({"apiVersion": output::API_VERSION, "kind": "Change", "of": kind, "added": added, "removed": removed});
    output::write(&format!("{line}\n"));
}

/// Of this node, then of each peer; and a layout that tells their rows apart.
fn everywhere(verb: &Verb, context: &Context) -> Result<(Sight, Layout), Failure> {
    let question = |peer: &str| Request::Look { node: peer.to_owned(), words: context.words.clone() };
    let asked = Asked::each(&context.peers, question);
    let facts = context.facts()?;
    let sight = look(verb, &facts, context);
    let mut sight = sight.ok_or_else(|| Failure::Usage("this does more than look".to_owned()))??;
    let mut layout = context.layout.clone();
    name_node(&mut sight.reply.items, &facts.node);
    let (replies, failed) = asked.replies();
    context.warn(&failed);
    let mut nodes = vec![facts.node; sight.reply.table.rows.len()];
    for (node, answer) in replies {
        let Answer::Looked(Looked { mut items, names, rows, well, unknown, blind }) = answer else {
            continue;
        };
        context.warn(&blind.into_iter().map(|what| format!("{node}: {what}")).collect::<Vec<_>>());
        name_node(&mut items, &node);
        nodes.resize(nodes.len() + rows.len(), node);
        let Sight { reply, exit, unknown: nowhere } = &mut sight;
        reply.items.extend(items);
        reply.names.extend(names);
        reply.table.rows.extend(rows);
        nowhere.retain(|name, _| unknown.contains(name));
        *exit = exit.and(if well { Exit::Fine } else { Exit::Finding });
    }
    if !context.peers.is_empty() {
        layout.nodes = Some(nodes);
    }
    if !failed.is_empty() {
        sight.exit = sight.exit.and(Exit::Partial);
    }
    match sight.unknown.into_values().next() {
        Some(why) => Err(Failure::Usage(why)),
        None => Ok((Sight { unknown: BTreeMap::new(), ..sight }, layout)),
    }
}

fn name_node(items: &mut [Value], node: &str) {
    for item in items.iter_mut().filter_map(Value::as_object_mut) {
        item.entry("node").or_insert_with(|| node.into());
    }
}

/// Of a terminal.
const CLEAR: &str = "\x1b[H\x1b[2J";
