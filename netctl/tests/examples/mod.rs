//! The examples in the help of every verb, and where each of them is run: the verbs come from clap's tree, the place from what an example
//! says, so that none has no place.

use clap::CommandFactory;
use netctl::cli::Cli;

/// Where an example is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    /// A network whose plugin writes down what it is told.
    Exec,
    /// A host with overlayd.
    Overlay,
    /// Hosts with traffic.
    Packets,
    /// A node with containers.
    Node,
}

impl Scene {
    fn of(example: &str) -> Self {
        match example.split(' ').nth(1) {
            Some("exec") => Self::Exec,
            Some("overlay") => Self::Overlay,
            Some("trace" | "drops" | "capture") => Self::Packets,
            _ => Self::Node,
        }
    }

    /// All examples that are run there, each once, in the order of the help.
    pub(crate) fn examples(self) -> Vec<String> {
        let all = commands().iter().flat_map(|(_, command)| examples(command)).collect::<Vec<_>>();
        let mut found: Vec<String> = Vec::new();
        for example in all.into_iter().filter(|example| Self::of(example) == self) {
            if !found.contains(&example) {
                found.push(example);
            }
        }
        assert!(!found.is_empty(), "no example for {self:?}");
        found
    }
}

/// The command, and all verbs under it.
pub(crate) fn commands() -> Vec<(String, clap::Command)> {
    fn add(found: &mut Vec<(String, clap::Command)>, path: &str, command: &clap::Command) {
        found.push((path.to_owned(), command.clone()));
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            add(found, &format!("{path} {}", verb.get_name()), verb);
        }
    }
    let mut found = Vec::new();
    add(&mut found, "netctl", &Cli::command());
    found
}

/// The command lines under `Example:` or `Examples:`, without what a run of spaces sets off as explanation.
pub(crate) fn examples(command: &clap::Command) -> Vec<String> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let help = help.replace("Examples:\n", "Example:\n");
    let examples = help.split_once("Example:\n").map(|(_, examples)| examples.to_owned()).unwrap_or_default();
    let lines = examples.lines().take_while(|line| line.starts_with("  netctl "));
    lines.map(|line| line.trim_start().split("  ").next().unwrap_or_default().to_owned()).collect()
}

/// Colours are forced, and NO_COLOR forbids them.
pub(crate) const COLOURLESS: [(&str, &str); 2] = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")];
