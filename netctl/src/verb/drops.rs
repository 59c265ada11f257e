//! `netctl drops`: the command line of [`crate::drops`].

use std::{
    collections::BTreeMap,
    io::{Write, stderr},
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use crate::{
    agent::{
        node::Node,
        nodes::Nodes,
        place::Place,
        protocol::{Event, Request},
    },
    commands,
    drops::{
        hint::hint,
        tally::{Kind, Tally, clock, is_benign},
    },
    exit::{Exit, Failure},
    output::{self, Format},
    verb::Context,
};

/// Shows dropped packets as they happen, with the kernel's reason, on this host and its peers.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Drops {
    /// Only of these: containers, netns:PATH|NAME, pid:N, host, addresses; NODE/… on a peer
    #[arg(value_name = "SELECTOR")]
    selectors: Vec<String>,
    /// Those that happen on a healthy host too
    #[arg(long)]
    all: bool,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// End after so many drops
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Show like drops together every so often
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    every: u64,
}

pub fn run(drops: &Drops, context: &Context) -> Result<Exit, Failure> {
    let mut nodes = Nodes::start(context.node.as_deref(), &context.peers, context.containers())?;
    let places = find(&drops.selectors, &mut nodes)?;
    context.show_commands(|| {
        let of_node = |(nth, node): (usize, &Node)| commands::nodes::watch(&context.peers, nth, &node.own);
        nodes.all.iter().enumerate().flat_map(of_node).collect()
    });
    let mut posted = Vec::new();
    for position in 0..nodes.all.len() {
        let foreign = nodes.foreign(position);
        let named = places.as_ref().map(|places| places.get(&position).cloned().unwrap_or_default());
        posted.push(nodes.all[position].post(Request::WatchDrops { places: named, foreign })?);
    }
    for (node, posted) in nodes.all.iter_mut().zip(posted) {
        node.begun(posted)?;
    }
    let mut stream = Stream { format: context.layout.format, lines: 0 };
    let seen = watch(drops, &nodes, &mut stream, context)?;
    Ok(if seen == 0 { Exit::Fine } else { Exit::Finding })
}

/// The namespaces of the selectors by node; none if there are no selectors.
fn find(selectors: &[String], nodes: &mut Nodes) -> Result<Option<BTreeMap<usize, Vec<Place>>>, Failure> {
    if selectors.is_empty() {
        return Ok(None);
    }
    let mut places: BTreeMap<usize, Vec<Place>> = BTreeMap::new();
    for selector in selectors {
        let found = nodes.resolve(selector).with_context(|| format!("find {selector}"))?;
        let found = found.ok_or_else(|| Failure::Usage(format!("no node knows {selector:?}")))?;
        places.entry(found.node).or_default().push(found.place);
    }
    Ok(Some(places))
}

/// How many drops were seen until the end.
fn watch(drops: &Drops, nodes: &Nodes, stream: &mut Stream, context: &Context) -> Result<u64, Failure> {
    let begun = Instant::now();
    let end = drops.duration.map(Duration::try_from_secs_f64).transpose();
    let end = end.map_err(|err| Failure::Usage(format!("--duration: {err}")))?.map(|it| begun + it);
    let every = Duration::from_millis(drops.every);
    let (mut tally, mut seen, mut next) = (Tally::default(), 0, begun + every);
    loop {
        let now = Instant::now();
        let is_over = end.is_some_and(|end| now >= end) || drops.count.is_some_and(|count| seen >= count);
        if now >= next || is_over {
            stream.show(tally.take());
            next = now + every;
        }
        if is_over {
            return Ok(seen);
        }
        let until = end.map_or(next, |end| end.min(next));
        match nodes.events.recv_timeout(until.saturating_duration_since(now)) {
            Ok((node, Event::Seen(drop))) if drops.all || !is_benign(&drop) => {
                seen += 1;
                tally.add(&nodes.all[node].name, &drop);
            }
            Ok((node, Event::Failed(why))) => warn(context, &nodes.all[node].name, &why),
            Ok((node, Event::Missed { packets, .. })) => {
                let why = format!("{packets} drops were not counted: they came too fast");
                warn(context, &nodes.all[node].name, &why);
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(anyhow::anyhow!("all agents have ended").into());
            }
        }
    }
}

fn warn(context: &Context, node: &str, what: &str) {
    // Nobody is left to tell when standard error is closed.
    let _ = writeln!(stderr(), "{} {node}: {what}", context.style.warning());
}

/// Lines on standard output.
struct Stream {
    format: Format,
    lines: u64,
}

impl Stream {
    fn show(&mut self, counts: BTreeMap<Kind, u64>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for (kind, count) in counts {
            let line = match self.format {
                Format::Json => json_line(&kind, count, now),
                Format::Yaml => {
                    let value = serde_json::from_str(&json_line(&kind, count, now)).unwrap_or_default();
                    format!("---\n{}", output::yaml(&value).trim_end())
                }
                Format::Csv => csv_line(&kind, count, now, self.lines == 0),
                Format::Name => kind.reason.clone(),
                Format::Table | Format::Wide => self.row(&kind, count, now.as_secs()),
            };
            output::write(&format!("{line}\n"));
            self.lines += 1;
        }
    }

    fn row(&self, kind: &Kind, count: u64, seconds: u64) -> String {
        let Kind { node, netns, device, reason, function, packet } = kind;
        let row = |cells: [&str; 7]| {
            let [time, node, netns, device, count, reason, rest] = cells;
            format!("{time:8}  {node:<8}  {netns:<12}  {device:<12}  {count:>6}  {reason:<18}  {rest}")
        };
        let hint = hint(reason, function).map(|hint| format!("  ({})", hint.text)).unwrap_or_default();
        let rest = format!("{function}  {packet}{hint}");
        let line = row([&clock(seconds), node, netns, device, &count.to_string(), reason, &rest]);
        match self.lines {
            0 => format!(
                "{}\n{line}",
                row(["TIME", "NODE", "NETNS", "DEVICE", "COUNT", "REASON", "AT, PACKET"])
            ),
            _ => line,
        }
    }
}

fn csv_line(kind: &Kind, count: u64, now: Duration, is_first: bool) -> String {
    let Kind { node, netns, device, reason, function, packet } = kind;
    let time_ms = now.as_millis().to_string();
    let head = ["TIME-MS", "NODE", "NETNS", "DEVICE", "COUNT", "REASON", "FUNCTION", "PACKET"];
    let row =
        [&time_ms, node, netns, device, &count.to_string(), reason, function, packet].map(String::clone);
    let lines = is_first.then(|| head.map(str::to_owned).to_vec()).into_iter().chain([row.to_vec()]);
    output::csv(&lines.collect::<Vec<_>>()).trim_end().to_owned()
}

fn json_line(kind: &Kind, count: u64, now: Duration) -> String {
    let Kind { node, netns, device, reason, function, packet } = kind;
    let time_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    json!({
        "apiVersion": "netctl/v1", "kind": "Drop", "time_ms": time_ms, "node": node, "netns": netns, "device": device,
        "reason": reason, "function": function, "packet": packet, "count": count, "hint": hint(reason, function).map(|hint| hint.text),
    })
    .to_string()
}

const AFTER_HELP: &str = "\
Examples:
  netctl drops --duration 10
  netctl drops netns:c1 n2/host --peer n2='ssh root@n2 netctl agent --stdio'

Exit status: 0 nothing was dropped, 1 something was, 2 usage, 3 could not watch";
