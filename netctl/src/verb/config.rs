//! `netctl config`: what is wrong with the configuration files.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{doctor, network};
use crate::{
    commands,
    doctor::examine,
    exit::{Exit, Failure},
    facts::{Facts, network::Network},
    output::{self, Reply, Table},
    verb::{Context, look::Sight},
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
    /// Show them as they are understood, a network an item
    #[command(after_help = "Example:\n  netctl config show mynet")]
    Show { networks: Vec<String> },
    /// Print the JSON schema of a network configuration list, for editors
    #[command(after_help = "Example:\n  netctl config schema > conflist.schema.json")]
    Schema,
}

impl Config {
    pub fn is_done_by_others(&self) -> bool {
        !matches!(self.verb, Verb::Schema)
    }

    pub fn is_look(&self) -> bool {
        matches!(self.verb, Verb::Show { .. })
    }
}

/// What the plugins' configurations are; nothing of the other verbs.
pub fn look(config: &Config, facts: &Facts, context: &Context) -> Option<Result<Sight, Failure>> {
    let Verb::Show { networks } = &config.verb else { return None };
    let (known, unknown) = match &networks[..] {
        [] => (facts.networks.iter().collect(), BTreeMap::new()),
        named => network::chosen(facts, named),
    };
    context.show_commands(|| commands::facts::syntax(known.iter().copied()));
    let item = |network: &&Network| {
        let list = &network.list;
        let config: Value = serde_json::from_slice(&list.bytes).unwrap_or_default();
        json!({"name": list.name.as_str(), "file": list.file.display().to_string(), "config": config})
    };
    let items = known.iter().map(item).collect();
    let names = known.iter().map(|network| network.list.name.to_string()).collect();
    let reply = Reply { kind: "Configurations", items, names, table: Table::default() };
    Some(Ok(Sight { unknown, ..Sight::from(reply) }))
}

pub fn run(config: &Config, context: &Context) -> Result<Exit, Failure> {
    match config.verb {
        Verb::Show { .. } => Err(Failure::Usage("this only looks".to_owned())),
        Verb::Schema => {
            output::write(SCHEMA);
            Ok(Exit::Fine)
        }
        Verb::Lint => {
            let facts = context.facts()?;
            context.show_commands(|| commands::facts::syntax(&facts.networks));
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
