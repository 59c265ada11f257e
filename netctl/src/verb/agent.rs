//! `netctl agent --stdio`: what runs on a peer.

use std::io::{stdin, stdout};

use clap::Args;

use crate::{
    agent::serve::serve,
    exit::{Exit, Failure},
    verb::Context,
};

/// Answers another netctl on standard input and output. What --peer starts on the other side.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Agent {
    /// Speak on standard input and output
    #[arg(long, required = true)]
    stdio: bool,
}

pub fn run(_: &Agent, context: &Context) -> Result<Exit, Failure> {
    serve(stdin().lock(), stdout(), context.containers())?;
    Ok(Exit::Fine)
}

const AFTER_HELP: &str = "\
Example:
  netctl trace c1 n2/c2 --peer n2='ssh root@n2 netctl agent --stdio'";
