//! A node's containers by the names that people have for them, from the caches, the records and the engines' files; and what a
//! peer is told of the node.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::bail;
use serde_json::Value;

use super::{
    place::{Containers, Place},
    protocol::{Examined, Looked},
};
use crate::{
    doctor::{self, Finding, Wire},
    exit::Exit,
    facts::{Facts, tunnel::Report},
    graph::model::{Host, Told},
    output::Reply,
    paths::Paths,
    report::{redact::redact, whole},
    verb::{
        Context,
        look::{self, Sight},
        ps::{self, Row},
    },
};

/// The attachments of this node.
#[derive(Debug)]
pub struct Known {
    node: Option<String>,
    paths: Paths,
    last: Mutex<Option<(Instant, Vec<Named>)>>,
}

/// An attachment that lives, by all its names.
#[derive(Debug, Clone)]
struct Named {
    place: Place,
    id: String,
    network: String,
    host_link: Option<String>,
}

impl Known {
    pub fn new(node: Option<String>, paths: Paths) -> Self {
        Self { node, paths, last: Mutex::new(None) }
    }

    fn facts(&self) -> anyhow::Result<Facts> {
        Facts::gather(self.node.as_deref(), &self.paths)
    }

    /// Asked for again and again while packets are watched: looked up anew every few seconds.
    fn named(&self) -> anyhow::Result<Vec<Named>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((at, named)) if at.elapsed() < FRESH => Ok(named.clone()),
            _ => {
                let named = names(&self.facts()?);
                *last = Some((Instant::now(), named.clone()));
                Ok(named)
            }
        }
    }
}

fn names(facts: &Facts) -> Vec<Named> {
    let named = facts.attachments.iter().filter_map(|it| {
        Some(Named {
            place: Place { name: it.label().to_owned(), ..facts.space(it)?.place.clone() },
            id: it.key.container.to_string(),
            network: it.key.network.to_string(),
            host_link: facts.host_link(it).map(|link| link.name.clone()),
        })
    });
    named.collect()
}

impl Containers for Known {
    fn find(&self, name: &str) -> anyhow::Result<Option<Place>> {
        let all = self.named()?;
        let called = |it: &Named, name: &str| it.place.name == name || it.id == name;
        let exact = |it: &&Named| {
            let (network, rest) = name.split_once('/').unwrap_or_default();
            called(it, name)
                || it.host_link.as_deref() == Some(name)
                || it.network == network && called(it, rest)
        };
        let mut found: Vec<_> = all.iter().filter(exact).collect();
        if found.is_empty() {
            let prefix = name.strip_prefix("id:").unwrap_or(name);
            found = all.iter().filter(|it| !prefix.is_empty() && it.id.starts_with(prefix)).collect();
        }
        let mut ids: Vec<_> = found.iter().map(|it| it.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > 1 {
            bail!("{name:?} means several containers: {}", ids.join(", "));
        }
        Ok(found.first().map(|it| it.place.clone()))
    }

    fn all(&self) -> Vec<Place> {
        // What can't be named is found by its veth device.
        self.named().unwrap_or_default().into_iter().map(|it| it.place).collect()
    }

    fn attachments(&self) -> anyhow::Result<Vec<Row>> {
        Ok(ps::rows(&self.facts()?))
    }

    fn look(&self, node: &str, words: &[String]) -> anyhow::Result<Looked> {
        let context = Context::of_agent(node.to_owned(), self.paths.clone());
        let facts = Facts::gather(Some(node), &self.paths)?;
        let Sight { reply, exit, unknown } = look::by_words(words, &facts, &context)?;
        let (Reply { items, names, table, .. }, blind) = (reply, facts.blind);
        let (well, unknown) = (exit == Exit::Fine, unknown.into_keys().collect());
        Ok(Looked { items, names, rows: table.rows, well, unknown, blind })
    }

    fn report(&self) -> anyhow::Result<Value> {
        let mut facts = self.facts()?;
        facts.try_out();
        // Secrets do not leave the node.
        Ok(redact(whole(&facts)))
    }

    fn examine(&self) -> anyhow::Result<Examined> {
        let mut facts = self.facts()?;
        facts.try_out();
        let (report, findings) = without_tunnels(&mut facts);
        Ok(Examined { report, findings, blind: facts.blind })
    }

    fn draw(&self) -> anyhow::Result<Told> {
        let mut facts = self.facts()?;
        let host = Host::new(&facts);
        let (report, findings) = without_tunnels(&mut facts);
        Ok(Told { host, report, findings })
    }
}

/// How tunnels of several nodes fit is for who asks them all.
fn without_tunnels(facts: &mut Facts) -> (Report, Vec<Wire>) {
    let report = std::mem::take(&mut facts.reports).into_iter().next().unwrap_or_default();
    (report, doctor::examine(facts).iter().map(Finding::wire).collect())
}

const FRESH: Duration = Duration::from_secs(5);
