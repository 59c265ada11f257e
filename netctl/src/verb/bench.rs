//! `netctl bench`: how much passes between two ends, and whether it is more than before.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    agent::{
        nodes::Nodes,
        protocol::{Reply as Answer, Request},
    },
    commands,
    exit::{Exit, Failure},
    output::{Reply, Table},
    throughput::{End, Measured},
    verb::Context,
};

/// Measures TCP and UDP between two containers, here or on peers: throughput of one connection and of eight, times there and back,
/// connections a second; small datagrams a second, and how many of them got lost. Loads the hosts between them.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Bench {
    /// As of `netctl trace`
    #[arg(value_name = "SRC")]
    source: String,
    #[arg(value_name = "DST")]
    destination: String,
    /// Of each of the five measurements
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    time: u64,
    /// Say what has changed since the run whose JSON is in this file; refused where kernel, CPUs, MTU, offloads or time differ
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
}

pub fn run(bench: &Bench, context: &Context) -> Result<Exit, Failure> {
    let before = bench.compare.as_deref().map(earlier).transpose()?;
    let mut nodes = Nodes::start(context.node.as_deref(), &context.peers, context.containers())?;
    let mut find = |selector: &str| {
        let unknown = || Failure::Usage(format!("no node knows {selector:?}"));
        nodes.resolve(selector).map_err(Failure::from)?.ok_or_else(unknown)
    };
    let (source, destination) = (find(&bench.source)?, find(&bench.destination)?);
    let address: IpAddr =
        *destination.addresses.first().ok_or_else(|| anyhow!("{} has no address", bench.destination))?;
    context.show_commands(|| commands::nodes::bench(&context.peers, &source, &destination, address));
    let server = Request::Serve { on: destination.place.path, address };
    let Answer::Serving { port, end } = nodes.all[destination.node].ask(server)? else {
        return Err(anyhow!("{} serves nothing", bench.destination).into());
    };
    let to = SocketAddr::new(address, port);
    let client = Request::Measure { from: source.place.path, to, milliseconds: bench.time };
    // Five measurements, and what is on its way at the end of each.
    let patience = std::time::Duration::from_millis(bench.time * 5) + std::time::Duration::from_secs(60);
    let Answer::Measured(measured) = nodes.all[source.node].ask_for(client, patience)? else {
        return Err(anyhow!("{} measures nothing", bench.source).into());
    };
    let mut item = numbers(&measured);
    let ends = json!({"from": bench.source, "to": bench.destination, "address": address});
    let conditions = json!({"source": measured.end, "destination": end, "same_node": source.node == destination.node,
        "ipv6": address.is_ipv6(), "time_ms": bench.time});
    let kernel = &measured.end.kernel;
    for (key, value) in [("kernel", json!(kernel)), ("time_ms", json!(bench.time)), ("context", conditions)] {
        item[key] = value;
    }
    for (key, value) in ends.as_object().into_iter().flatten() {
        item[key] = value.clone();
    }
    if let (Some(before), Some(file)) = (before, &bench.compare) {
        is_comparable(&before["context"], &item["context"], file)?;
        item["before"] = before;
    }
    context.write(&reply(item, &bench.destination))?;
    Ok(Exit::Fine)
}

fn numbers(measured: &Measured) -> Value {
    let Measured { tcp_1_bits_per_s, tcp_8_bits_per_s, rtt_p50_us, rtt_p99_us, connections_per_s, .. } =
        measured;
    let Measured { udp_packets_per_s, udp_loss_percent, end: End { .. }, .. } = measured;
    json!({"tcp_1_bits_per_s": tcp_1_bits_per_s, "tcp_8_bits_per_s": tcp_8_bits_per_s, "rtt_p50_us": rtt_p50_us,
        "rtt_p99_us": rtt_p99_us, "connections_per_s": connections_per_s, "udp_packets_per_s": udp_packets_per_s,
        "udp_loss_percent": udp_loss_percent})
}

/// What `bench -o json` wrote.
fn earlier(file: &Path) -> Result<Value, Failure> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let document: Value =
        serde_json::from_slice(&bytes).with_context(|| format!("read a run in {}", file.display()))?;
    let item = &document["items"][0];
    match document["kind"] == KIND && item["context"].is_object() {
        true => Ok(item.clone()),
        false => Err(Failure::Usage(format!("{} is not what `netctl bench -o json` writes", file.display()))),
    }
}

/// Numbers of other machines, devices or times say nothing about what has changed.
fn is_comparable(before: &Value, now: &Value, file: &Path) -> Result<(), Failure> {
    let mut differing = Vec::new();
    for (key, now) in now.as_object().into_iter().flatten() {
        let before = &before[key];
        match now.as_object() {
            Some(end) => {
                differing.extend(end.iter().filter(|(inner, value)| before[*inner] != **value).map(
                    |(inner, value)| format!("{inner} of the {key}: {} then, {value} now", before[inner]),
                ))
            }
            None if before != now => differing.push(format!("{key}: {before} then, {now} now")),
            None => {}
        }
    }
    match &differing[..] {
        [] => Ok(()),
        _ => Err(Failure::Usage(format!(
            "not to be compared with {}: {}",
            file.display(),
            differing.join("; ")
        ))),
    }
}

/// A row; of a comparison one for each run, and the change in percent.
fn reply(item: Value, name: &str) -> Reply {
    let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
    let row = |of: &Value, run: Option<&str>| {
        let cells = KEYS.iter().map(|(key, unit)| {
            let value = of[key].as_f64().unwrap_or_default() / unit;
            if *key == LOSS { format!("{value:.2}") } else { format!("{value:.0}") }
        });
        let ends = [text("from"), text("to")].into_iter();
        ends.chain(run.map(str::to_owned)).chain(cells).collect::<Vec<_>>()
    };
    let Some(before) = item.get("before") else {
        let table = Table { columns: &COLUMNS, wide: &[], rows: vec![row(&item, None)] };
        return Reply { kind: KIND, names: vec![name.to_owned()], table, items: vec![item] };
    };
    let change = KEYS.iter().map(|(key, _)| {
        let (before, now) =
            (before[key].as_f64().unwrap_or_default(), item[key].as_f64().unwrap_or_default());
        match *key == LOSS || before == 0.0 {
            true => format!("{:+.2}", now - before),
            false => format!("{:+.0}%", (now / before - 1.0) * 100.0),
        }
    });
    let change = [text("from"), text("to"), "change".to_owned()].into_iter().chain(change).collect();
    let rows = vec![row(before, Some("before")), row(&item, Some("now")), change];
    let table = Table { columns: &COMPARED, wide: &[], rows };
    Reply { kind: KIND, names: vec![name.to_owned()], table, items: vec![item] }
}

const KIND: &str = "Throughput";
const LOSS: &str = "udp_loss_percent";
/// With what a column's unit has of the number's.
const KEYS: [(&str, f64); 7] = [
    ("tcp_1_bits_per_s", 1e6),
    ("tcp_8_bits_per_s", 1e6),
    ("rtt_p50_us", 1.0),
    ("rtt_p99_us", 1.0),
    ("connections_per_s", 1.0),
    ("udp_packets_per_s", 1.0),
    (LOSS, 1.0),
];
const COLUMNS: [&str; 9] =
    ["FROM", "TO", "TCP-1-MBIT", "TCP-8-MBIT", "P50-US", "P99-US", "CONN/S", "UDP-PPS", "UDP-LOSS-%"];
const COMPARED: [&str; 10] =
    ["FROM", "TO", "RUN", "TCP-1-MBIT", "TCP-8-MBIT", "P50-US", "P99-US", "CONN/S", "UDP-PPS", "UDP-LOSS-%"];

const AFTER_HELP: &str = "\
Examples:
  netctl bench c1 c2 --time 200
  netctl bench c1 c2 --time 100 -o json > before.json
  netctl bench c1 c2 --time 100 --compare before.json
  netctl bench c1 n2/c2 --peer n2='ssh root@n2 netctl agent --stdio'";
