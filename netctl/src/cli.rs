//! The command line: what every verb understands, and the verbs.

use std::{env, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{
    agent::node::Peer,
    exit::{Exit, Failure},
    facts::engines,
    output::{Layout, Wanted},
    paths::Paths,
    term::{Color, Style},
    verb::{
        self, agent, bench, capture, config, doctor, drops, exec, explain, graph, inspect, ipam, look, mesh,
        nat, network, overlay, ps, repair, report, shell, status, tables, top, trace,
    },
};

/// See and repair the container networks of this node.
#[derive(Debug, Parser)]
#[command(name = "netctl", version, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where the node's state is, as net.d/, results/ and networks/, in place of /etc/cni/net.d and /var/lib/cni
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Another host: its name and the command that runs `netctl agent --stdio` there; may be repeated
    #[arg(long = "peer", global = true, value_name = "NAME=COMMAND")]
    pub peers: Vec<Peer>,
    /// What to call this host, in place of its host name
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    /// Which engines to ask for the names of containers
    #[arg(long, global = true, value_name = "ENGINE", value_enum, default_value_t = engines::Wanted::Auto)]
    pub runtime: engines::Wanted,
    /// Format of the reply
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t = Wanted::Table)]
    pub output: Wanted,
    /// The same as -o json
    #[arg(long, global = true, conflicts_with = "output")]
    pub json: bool,
    /// Of a table, only these columns
    #[arg(long, global = true, value_name = "COLUMN", value_delimiter = ',')]
    pub columns: Vec<String>,
    /// Of a table, no header
    #[arg(long, global = true)]
    pub no_headers: bool,
    /// Of the verbs that only look: look again and again, and show what changes; with -o json as lines of what came and what went
    #[arg(long, global = true, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = pause)]
    pub watch: Option<f64>,
    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    pub color: Color,
    /// No characters outside of ASCII
    #[arg(long, global = true)]
    pub ascii: bool,
    /// On standard error, only what went wrong
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// On standard error, the commands of ip, bridge, nft, ... that show or do the same
    #[arg(long, global = true)]
    pub show_commands: bool,
}

/// The verbs; one module each in [`crate::verb`].
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the attached containers with their addresses and the host's side of them
    #[command(visible_aliases = ["attachments", "containers"])]
    Ps(ps::Ps),
    /// Show the networks of this node
    #[command(visible_alias = "net")]
    Network(network::Network),
    /// Show the networks that span hosts, and apply a peers file
    Overlay(overlay::Overlay),
    /// Show everything about a container
    Inspect(inspect::Inspect),
    /// Show this node on one screen
    Status(status::Status),
    /// List which MAC address goes with which IP address, everywhere
    Neigh(tables::Neigh),
    /// List behind which port or tunnel each MAC address is
    Fdb(tables::Fdb),
    /// List tracked connections of containers
    Flows(tables::Flows),
    /// List published ports and masqueraded containers
    Nat(nat::Nat),
    /// Draw hosts, tunnels, bridges and containers
    Graph(graph::Graph),
    /// Show and mend the books on addresses
    Ipam(ipam::Ipam),
    /// Find what is wrong on this node, why, and what mends it
    Doctor(doctor::Doctor),
    /// Explain a code of the doctor
    Explain(explain::Explain),
    /// Put back what the records say, after somebody flushed the firewall
    Repair(repair::Repair),
    /// Check the configuration files
    Config(config::Config),
    /// Run a network's plugins as a container runtime does
    Exec(exec::Exec),
    /// Follow a probe through every host and say where it ends, and why
    Trace(trace::Trace),
    /// Try whether one end reaches another, how fast, and up to which size
    Probe(mesh::Probe),
    /// Try which containers of a network reach which
    Mesh(mesh::Mesh),
    /// Measure how much passes between two ends
    Bench(bench::Bench),
    /// Show what each container receives and sends now
    Top(top::Top),
    /// Show dropped packets as they happen, and why
    Drops(drops::Drops),
    /// Capture packets of containers and hosts into one file
    Capture(capture::Capture),
    /// Print all that is known of this node, to attach to a ticket
    Report(report::Report),
    /// Answer another netctl on standard input and output
    Agent(agent::Agent),
    /// Print the completions of a shell
    Completion(shell::Completion),
    /// Print the manual page
    Man(shell::Man),
}

fn pause(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|err| format!("{err}"))?;
    if (0.05..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("not within 0.05 and 3600".to_owned()) }
}

impl Cli {
    /// Does what the command line says.
    pub fn run(self) -> Result<Exit, Failure> {
        let Self { global, verb } = self;
        let wanted = if global.json { Wanted::Json } else { global.output };
        let (format, drawing) = wanted.parts();
        if drawing.is_some() && !matches!(verb, Verb::Graph(_)) {
            return Err(Failure::Usage("only `netctl graph` draws pictures".to_owned()));
        }
        if global.show_commands && !verb.is_done_by_others() {
            return Err(Failure::Usage("--show-commands: no other command does this".to_owned()));
        }
        let variable = |name: &str| env::var(name).ok();
        let mut paths = Paths::new(global.root.as_deref(), variable);
        paths.engines.retain(|engine| global.runtime.covers(engine));
        let context = verb::Context {
            paths,
            layout: Layout { columns: global.columns, headers: !global.no_headers, ..Layout::new(format) },
            drawing,
            style: Style::of_stderr(global.color, global.ascii, variable),
            quiet: global.quiet,
            show_commands: global.show_commands,
            node: global.node,
            peers: global.peers,
            watch: global.watch.map(Duration::from_secs_f64),
            words: env::args().collect(),
        };
        if context.watch.is_some() && !look::is_look(&verb) {
            return Err(Failure::Usage("--watch: this verb does more than look".to_owned()));
        }
        match verb {
            Verb::Overlay(overlay) => overlay::run(&overlay, &context),
            Verb::Graph(graph) => graph::run(&graph, &context),
            Verb::Ipam(_) | Verb::Config(_) if look::is_look(&verb) => look::run(&verb, &context),
            Verb::Ipam(ipam) => ipam::run(&ipam, &context),
            Verb::Doctor(doctor) => doctor::run(&doctor, &context),
            Verb::Explain(explain) => explain::run(&explain, &context),
            Verb::Repair(repair) => repair::run(&repair, &context),
            Verb::Config(config) => config::run(&config, &context),
            Verb::Exec(exec) => exec::run(exec, &context),
            Verb::Trace(trace) => trace::run(&trace, &context),
            Verb::Probe(probe) => mesh::probe(&probe, &context),
            Verb::Mesh(mesh) => mesh::mesh(&mesh, &context),
            Verb::Report(report) => report::run(&report, &context),
            Verb::Bench(bench) => bench::run(&bench, &context),
            Verb::Top(top) => top::run(&top, &context),
            Verb::Drops(drops) => drops::run(&drops, &context),
            Verb::Capture(capture) => capture::run(capture, &context),
            Verb::Agent(agent) => agent::run(&agent, &context),
            Verb::Ps(_) | Verb::Network(_) | Verb::Inspect(_) | Verb::Status(_) => look::run(&verb, &context),
            Verb::Neigh(_) | Verb::Fdb(_) | Verb::Flows(_) | Verb::Nat(_) => look::run(&verb, &context),
            Verb::Completion(completion) => Ok(shell::completion(&completion)),
            Verb::Man(man) => shell::man(&man),
        }
    }
}

impl Verb {
    /// Whether there are commands for `--show-commands`. The doctor's findings have theirs anyway.
    fn is_done_by_others(&self) -> bool {
        match self {
            Self::Explain(_) | Self::Agent(_) | Self::Completion(_) | Self::Man(_) => false,
            Self::Config(config) => config.is_done_by_others(),
            _ => true,
        }
    }
}

const AFTER_HELP: &str = "\
Example:
  netctl exec add mynet netns:blue    attach the namespace that `ip netns` calls blue to the network mynet

Exit status:
  0 fine, 1 a finding or a failed call, 2 usage, 3 could not run, 4 some checks could not be made";
