//! The verbs, and what each of them is told.

use std::{
    io::{Write, stderr},
    sync::Arc,
    time::Duration,
};

use crate::{
    agent::{known::Known, node::Peer, place::Containers},
    exit::Failure,
    facts::Facts,
    output::{Drawing, Format, Layout, Reply},
    paths::Paths,
    term::Style,
};

pub mod agent;
pub mod bench;
pub mod capture;
pub mod config;
pub mod doctor;
pub mod drops;
pub mod exec;
pub mod explain;
pub mod graph;
pub mod inspect;
pub mod ipam;
pub mod look;
pub mod mesh;
pub mod nat;
pub mod network;
pub mod overlay;
pub mod ps;
pub mod repair;
pub mod report;
pub mod shell;
pub mod status;
pub mod tables;
pub mod top;
pub mod trace;

/// What the command line and the environment say to every verb.
#[derive(Debug, Clone)]
pub struct Context {
    pub paths: Paths,
    pub layout: Layout,
    /// Only of pictures.
    pub drawing: Option<Drawing>,
    /// Of standard error.
    pub style: Style,
    pub quiet: bool,
    pub show_commands: bool,
    /// What to call this node; its host name if not given.
    pub node: Option<String>,
    pub peers: Vec<Peer>,
    /// How long to wait before the next look, where there is one.
    pub watch: Option<Duration>,
    /// The command line, for peers.
    pub words: Vec<String>,
}

impl Context {
    /// Of who answers for this node and prints nothing.
    pub fn of_agent(node: String, paths: Paths) -> Self {
        Self {
            paths,
            layout: Layout::new(Format::Json),
            drawing: None,
            style: Style { color: false, ascii: false },
            quiet: true,
            show_commands: false,
            node: Some(node),
            peers: Vec::new(),
            watch: None,
            words: Vec::new(),
        }
    }

    /// Writes a reply as it was asked for.
    pub fn write(&self, reply: &Reply) -> Result<(), Failure> {
        reply.write(&self.layout)
    }

    /// Everything there is to know of this node. What could not be looked at is said on standard error.
    pub fn facts(&self) -> Result<Facts, Failure> {
        let facts = Facts::gather(self.node.as_deref(), &self.paths)?;
        self.warn(&facts.blind);
        Ok(facts)
    }

    /// Says what could not be looked at.
    pub fn warn(&self, blind: &[String]) {
        for what in blind.iter().filter(|_| !self.quiet) {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(stderr(), "{} {what}", self.style.warning());
        }
    }

    /// Says which commands show or do the same, if that was asked for.
    pub fn show_commands(&self, lines: impl FnOnce() -> Vec<String>) {
        if !self.show_commands {
            return;
        }
        for line in lines() {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(stderr(), "$ {line}");
        }
    }

    /// What names this node's containers.
    pub fn containers(&self) -> Arc<dyn Containers> {
        Arc::new(Known::new(self.node.clone(), self.paths.clone()))
    }
}
