//! `netctl trace`: the command line of [`crate::trace`].

use std::{
    fs::File,
    io::{BufWriter, Write, stderr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;

use crate::{
    agent::nodes::Nodes,
    commands,
    exit::{Exit, Failure},
    output::{self, Format},
    trace::{
        explain::{Explained, explain},
        probe::Protocol,
        run::{Question, Report, run as ask},
        save::save,
        show, told,
        verdict::Verdict,
    },
    verb::{Context, graph},
};

/// Sends a marked probe from SRC to DST and shows every hop on every host, and where and why it ended.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Trace {
    /// Where to start: a container, netns:PATH|NAME, pid:N, host, an address; NODE/… on a peer
    #[arg(value_name = "SRC")]
    source: String,
    /// Where to go: likewise, or an address outside
    #[arg(value_name = "DST")]
    destination: String,
    #[command(flatten)]
    protocol: Wanted,
    /// How many probes
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    count: u8,
    /// Bytes behind the transport header; a TCP probe has none
    #[arg(long, value_name = "BYTES", default_value_t = 48, value_parser = clap::value_parser!(u16).range(16..=65000))]
    size: u16,
    /// Use IPv6
    #[arg(short = '6', long)]
    ipv6: bool,
    /// How long to wait for the last answer
    #[arg(long, value_name = "MS", default_value_t = 1500)]
    patience: u64,
    /// How long to wait for the probes at most; what is not decided by then stays open
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    timeout: u32,
    /// Write every hop to this file as pcapng, with what happened there as comment
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Draw the hosts with the way of the probe to this file, SVG or, where it ends in .html, a page
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// Send nothing: ask every kernel on the way what it would do with the packet. Rules of nftables are listed, not simulated
    #[arg(long, conflicts_with_all = ["write", "no_bpf"])]
    explain: bool,
    /// Do without BPF, as on a kernel that has none
    #[arg(long)]
    no_bpf: bool,
}

#[derive(Debug, Clone, Args)]
#[group(multiple = false)]
struct Wanted {
    /// A TCP SYN to this port
    #[arg(long, value_name = "PORT")]
    tcp: Option<u16>,
    /// A datagram to this port
    #[arg(long, value_name = "PORT")]
    udp: Option<u16>,
    /// An echo request, which is the default
    #[arg(long)]
    icmp: bool,
}

pub fn run(trace: &Trace, context: &Context) -> Result<Exit, Failure> {
    let question = Question {
        source: trace.source.clone(),
        destination: trace.destination.clone(),
        protocol: trace.protocol.protocol(),
        count: trace.count,
        payload: trace.size.into(),
        ipv6: trace.ipv6,
        patience: Duration::from_millis(trace.patience),
        timeout: Duration::from_secs(trace.timeout.into()),
        without_bpf: trace.no_bpf,
    };
    let mut nodes = Nodes::start(context.node.as_deref(), &context.peers, context.containers())?;
    if trace.explain {
        return explained(trace, &explain(&question, &mut nodes)?, context);
    }
    let report = ask(&question, &mut nodes)?;
    context.show_commands(|| {
        commands::nodes::trace(&context.peers, &report.source, report.evidence.target, report.protocol)
    });
    show_report(&report, context);
    if let Some(path) = &trace.write {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        save(&report, BufWriter::new(file)).with_context(|| format!("write {}", path.display()))?;
    }
    if let Some(file) = &trace.graph {
        let document = show::document(&report);
        let hops = document["hops"].as_array().cloned().unwrap_or_default();
        graph::write(file, hops, context)?;
    }
    Ok(exit(&report))
}

fn exit(report: &Report) -> Exit {
    match report.outcome.verdict {
        Verdict::Delivered => Exit::Fine,
        Verdict::Inconclusive => Exit::CouldNotRun,
        _ => Exit::Finding,
    }
}

/// As a run's end, of what was only asked.
fn explained(trace: &Trace, explained: &Explained, context: &Context) -> Result<Exit, Failure> {
    let report = &explained.report;
    context
        .show_commands(|| commands::nodes::explain(&context.peers, &report.source, report.evidence.target));
    let document = told::document(explained);
    match context.layout.format {
        Format::Json => output::write(&format!("{document}\n")),
        Format::Yaml => output::write(&output::yaml(&document)),
        Format::Csv => output::write(&told::csv(explained)),
        Format::Name => output::write(&format!("{}\n", report.outcome.verdict.word())),
        Format::Table | Format::Wide => output::write(&told::table(explained, context.style)),
    }
    if let Some(file) = &trace.graph {
        let mut hops = document["hops"].as_array().cloned().unwrap_or_default();
        hops.retain(|hop| hop["event"] == "rx" || hop["event"] == "tx" || hop["event"] == "drop");
        graph::write(file, hops, context)?;
    }
    Ok(exit(report))
}

impl Wanted {
    fn protocol(&self) -> Protocol {
        match (self.tcp, self.udp) {
            (Some(port), _) => Protocol::Tcp(port),
            (None, Some(port)) => Protocol::Udp(port),
            (None, None) => Protocol::Icmp,
        }
    }
}

fn show_report(report: &Report, context: &Context) {
    if !context.quiet {
        for limit in &report.evidence.limits {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(stderr(), "{} {limit}", context.style.warning());
        }
    }
    match context.layout.format {
        Format::Json => output::write(&format!("{}\n", show::document(report))),
        Format::Yaml => output::write(&output::yaml(&show::document(report))),
        Format::Csv => output::write(&show::csv(report)),
        Format::Name => output::write(&format!("{}\n", report.outcome.verdict.word())),
        Format::Table | Format::Wide => output::write(&show::table(report, context.style)),
    }
}

const AFTER_HELP: &str = "\
Examples:
  netctl trace netns:c1 netns:c2 --tcp 80
  netctl trace netns:c1 netns:c2 --timeout 20
  netctl trace netns:c1 n2/netns:c2 --explain --peer n2='ssh root@n2 netctl agent --stdio'
  netctl trace c1 n2/c2 --peer n2='ssh root@n2 netctl agent --stdio'

Exit status: 0 delivered, 1 not, 2 usage, 3 could not be found out";
