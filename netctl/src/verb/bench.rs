//! `netctl bench`: how much passes between two ends.

use std::net::{IpAddr, SocketAddr};

use anyhow::anyhow;
use clap::Args;
use nix::sys::utsname::uname;
use serde_json::json;

use crate::{
    agent::{
        nodes::Nodes,
        protocol::{Reply as Answer, Request},
    },
    commands,
    exit::{Exit, Failure},
    output::{Reply, Table},
    throughput::Measured,
    verb::Context,
};

/// Measures TCP between two containers, here or on peers: throughput of one connection and of eight, times there and back, connections
/// a second. Loads the hosts between them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  netctl bench c1 c2 --time 200\n  netctl bench c1 n2/c2 --peer n2='ssh root@n2 netctl agent --stdio'"
)]
pub struct Bench {
    /// As of `netctl trace`
    #[arg(value_name = "SRC")]
    source: String,
    #[arg(value_name = "DST")]
    destination: String,
    /// Of each of the four measurements
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    time: u64,
}

pub fn run(bench: &Bench, context: &Context) -> Result<Exit, Failure> {
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
    let Answer::Serving { port } = nodes.all[destination.node].ask(server)? else {
        return Err(anyhow!("{} serves nothing", bench.destination).into());
    };
    let to = SocketAddr::new(address, port);
    let client = Request::Measure { from: source.place.path, to, milliseconds: bench.time };
    // Four measurements, and what is on its way at the end of each.
    let patience = std::time::Duration::from_millis(bench.time * 4) + std::time::Duration::from_secs(60);
    let Answer::Measured(measured) = nodes.all[source.node].ask_for(client, patience)? else {
        return Err(anyhow!("{} measures nothing", bench.source).into());
    };
    let Measured { tcp_1_bits_per_s, tcp_8_bits_per_s, rtt_p50_us, rtt_p99_us, connections_per_s } = measured;
    let kernel = uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let item = json!({"from": bench.source, "to": bench.destination, "address": address, "time_ms": bench.time, "kernel": kernel,
        "tcp_1_bits_per_s": tcp_1_bits_per_s, "tcp_8_bits_per_s": tcp_8_bits_per_s, "rtt_p50_us": rtt_p50_us,
        "rtt_p99_us": rtt_p99_us, "connections_per_s": connections_per_s});
    let numbers = [
        tcp_1_bits_per_s / 1_000_000,
        tcp_8_bits_per_s / 1_000_000,
        rtt_p50_us,
        rtt_p99_us,
        connections_per_s,
    ];
    let cells =
        [bench.source.clone(), bench.destination.clone()].into_iter().chain(numbers.map(|it| it.to_string()));
    let columns = &["FROM", "TO", "TCP-1-MBIT", "TCP-8-MBIT", "P50-US", "P99-US", "CONN/S"];
    let table = Table { columns, wide: &[], rows: vec![cells.collect()] };
    context.write(&Reply {
        kind: "Throughput",
        items: vec![item],
        names: vec![bench.destination.clone()],
        table,
    })?;
    Ok(Exit::Fine)
}
