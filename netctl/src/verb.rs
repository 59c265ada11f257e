//! The verbs, and what each of them is told.

use crate::{output::Format, paths::Paths, term::Style};

pub mod exec;

/// What the command line and the environment say to every verb.
#[derive(Debug, Clone)]
pub struct Context {
    pub paths: Paths,
    pub format: Format,
    /// Of standard error.
    pub style: Style,
    pub quiet: bool,
}
