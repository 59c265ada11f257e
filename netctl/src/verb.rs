//! The verbs, and what each of them is told.

use crate::{agent::node::Peer, output::Format, paths::Paths, term::Style};

pub mod agent;
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
