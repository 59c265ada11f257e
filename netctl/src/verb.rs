//! The verbs, and what each of them is told.

use std::sync::Arc;

use crate::{
    agent::{
        node::Peer,
        place::{Containers, Unnamed},
    },
    output::Format,
    paths::Paths,
    term::Style,
};

pub mod agent;
pub mod capture;
pub mod drops;
pub mod exec;
pub mod trace;

/// What the command line and the environment say to every verb.
#[derive(Debug, Clone)]
pub struct Context {
    pub paths: Paths,
    pub format: Format,
    /// Of standard error.
    pub style: Style,
    pub quiet: bool,
    /// What to call this node; its host name if not given.
    pub node: Option<String>,
    pub peers: Vec<Peer>,
}

impl Context {
    /// What names this node's containers.
    pub fn containers(&self) -> Arc<dyn Containers> {
        Arc::new(Unnamed)
    }
}
