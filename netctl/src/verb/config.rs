//! `netctl config`: what is wrong with the configuration files.

use clap::{Args, Subcommand};

use super::doctor;
use crate::{
    commands,
    doctor::examine,
    exit::{Exit, Failure},
    output,
    verb::Context,
};

/// Checks the configuration files.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netctl config lint")]
pub struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say what is wrong in them: broken files with line and column, refused values, missing plugins, shared subnets
    #[command(after_help = "Example:\n  netctl config lint -o json")]
    Lint,
    /// Print the JSON schema of a network configuration list, for editors
    #[command(after_help = "Example:\n  netctl config schema > conflist.schema.json")]
    Schema,
}

impl Config {
    pub fn is_done_by_others(&self) -> bool {
        matches!(self.verb, Verb::Lint)
    }
}

pub fn run(config: &Config, context: &Context) -> Result<Exit, Failure> {
    match config.verb {
        Verb::Schema => {
            output::write(SCHEMA);
            Ok(Exit::Fine)
        }
        Verb::Lint => {
            let facts = context.facts()?;
            context.show_commands(|| commands::facts::syntax(&facts));
            let mut findings = examine(&facts);
            findings
                .retain(|found| ["config-invalid", "plugin-missing", "subnet-overlap"].contains(&found.code));
            doctor::show(&facts, &findings, context);
            Ok(if findings.is_empty() { Exit::Fine } else { Exit::Finding })
        }
    }
}

/// What the specification asks of every list (CNI 1.1, section 1), and the keys of the suite's own plugins that have few values.
const SCHEMA: &str = include_str!("../../etc/conflist.schema.json");
