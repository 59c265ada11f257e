//! `netctl agent --stdio`: what runs on a peer.

use std::{
    io::{stdin, stdout},
    sync::Arc,
};

use clap::Args;

use crate::{
    agent::{place::Unnamed, serve::serve},
    exit::{Exit, Failure},
};

/// Answers another netctl on standard input and output. What --peer starts on the other side.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Agent {
    /// Speak on standard input and output
    #[arg(long, required = true)]
    stdio: bool,
}

pub fn run(_: &Agent) -> Result<Exit, Failure> {
    serve(stdin().lock(), stdout(), Arc::new(Unnamed))?;
    Ok(Exit::Fine)
}

const AFTER_HELP: &str = "\
Example:
  netctl trace c1 n2/c2 --peer n2='ssh root@n2 netctl agent --stdio'";
