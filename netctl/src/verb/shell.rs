//! `netctl completion` and `netctl man`: what a shell and man(1) want to know of the command line.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{
    cli::Cli,
    exit::{Exit, Failure},
    output,
};

/// Prints the completions of a shell.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netctl completion bash")]
pub struct Completion {
    shell: Shell,
}

/// Prints the manual page of netctl, or writes those of all verbs into a directory.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netctl man\n  netctl man --dir /usr/local/share/man/man1")]
pub struct Man {
    /// Where to write netctl.1, netctl-ps.1 and so on
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn completion(completion: &Completion) -> Exit {
    let mut text = Vec::new();
    generate(completion.shell, &mut Cli::command(), "netctl", &mut text);
    output::write(&String::from_utf8_lossy(&text));
    Exit::Fine
}

pub fn man(man: &Man) -> Result<Exit, Failure> {
    match &man.dir {
        Some(dir) => {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
            let act = || format!("write manual pages to {}", dir.display());
            clap_mangen::generate_to(Cli::command(), dir).with_context(act)?;
        }
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text).context("write the manual page")?;
            output::write(&String::from_utf8_lossy(&text));
        }
    }
    Ok(Exit::Fine)
}
