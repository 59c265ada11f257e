//! `netctl probe` and `netctl mesh`: who reaches whom, how fast, and up to which size.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use crate::{
    agent::{
        node::Node,
        nodes::{Found, Nodes},
        place::Place,
        protocol::{Reply as Answer, Request},
    },
    commands,
    exit::{Exit, Failure},
    output::{Format, Reply, Table},
    reach::Reached,
    verb::Context,
};

/// Tries whether DST answers SRC, how fast, and up to which packet size. `netctl trace` says where it ends.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netctl probe c1 c2\n  netctl probe c1 10.9.0.1 -o json")]
pub struct Probe {
    /// As of `netctl trace`
    #[arg(value_name = "SRC")]
    source: String,
    #[arg(value_name = "DST")]
    destination: String,
}

/// Tries which containers of a network reach which, here and on peers: times as a matrix, and path MTUs that differ.
#[derive(Debug, Args)]
#[command(after_help = MESH_HELP)]
pub struct Mesh {
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Every container, not only the first two of each node
    #[arg(long)]
    all: bool,
}

pub fn probe(probe: &Probe, context: &Context) -> Result<Exit, Failure> {
    let mut nodes = Nodes::start(context.node.as_deref(), &context.peers, context.containers())?;
    let unknown = |selector: &str| Failure::Usage(format!("no node knows {selector:?}"));
    let source = nodes.resolve(&probe.source)?.ok_or_else(|| unknown(&probe.source))?;
    let address = match nodes.address(&probe.destination) {
        Some(address) => address,
        None => {
            let found = nodes.resolve(&probe.destination)?.ok_or_else(|| unknown(&probe.destination))?;
            *found.addresses.first().ok_or_else(|| anyhow!("{} has no address", probe.destination))?
        }
    };
    let Found { node, place, .. } = source;
    let reached = reach(&mut nodes.all[node], Some(place.path.clone()), vec![address])?;
    context.show_commands(|| {
        let to = reached.iter();
        to.flat_map(|it| commands::nodes::probe(&context.peers, node, &place, it.to, it.path_mtu)).collect()
    });
    let ends = [(probe.source.clone(), probe.destination.clone())];
    let pairs: Vec<_> =
        ends.into_iter().zip(reached).map(|((from, to), reached)| Pair { from, to, reached }).collect();
    finish(&pairs, context)
}

pub fn mesh(mesh: &Mesh, context: &Context) -> Result<Exit, Failure> {
    let mut nodes = Nodes::start(context.node.as_deref(), &context.peers, context.containers())?;
    let ends = ends(mesh, &mut nodes)?;
    if ends.is_empty() {
        return Err(Failure::Usage(format!("no node has a container on a network {:?}", mesh.network)));
    }
    let mut pairs = Vec::new();
    for (nth, end) in ends.iter().enumerate() {
        let others = ends
            .iter()
            .enumerate()
            .filter(|(other, it)| *other != nth && it.address.is_ipv4() == end.address.is_ipv4());
        let names: BTreeMap<IpAddr, String> = others.map(|(_, it)| (it.address, it.name.clone())).collect();
        let reached =
            reach(&mut nodes.all[end.node], Some(end.netns.clone()), names.keys().copied().collect())?;
        context.show_commands(|| {
            let place = Place { name: end.name.clone(), path: end.netns.clone(), inode: 0 };
            let to = reached.iter();
            to.flat_map(|it| commands::nodes::probe(&context.peers, end.node, &place, it.to, it.path_mtu))
                .collect()
        });
        pairs.extend(reached.into_iter().map(|reached| {
            let to = names.get(&reached.to).cloned().unwrap_or_default();
            Pair { from: end.name.clone(), to, reached }
        }));
    }
    let cell = |from: &End, to: &End| {
        let pair = pairs.iter().find(|pair| pair.from == from.name && pair.to == to.name);
        pair.map_or_else(String::new, |pair| pair.reached.rtt_us.map_or_else(|| "✗".to_owned(), milliseconds))
    };
    let row = |from: &End| {
        let mtus =
            pairs.iter().filter(|pair| pair.from == from.name).filter_map(|pair| pair.reached.path_mtu);
        let (least, most) = mtus.fold((u32::MAX, 0), |(least, most), mtu| (least.min(mtu), most.max(mtu)));
        let mtu = match least.cmp(&most) {
            std::cmp::Ordering::Less => format!("{least}-{most}"),
            std::cmp::Ordering::Equal => most.to_string(),
            std::cmp::Ordering::Greater => String::new(),
        };
        let cells = ends.iter().map(|to| cell(from, to));
        [from.name.clone()].into_iter().chain(cells).chain([mtu]).collect()
    };
    let rows: Vec<Vec<String>> = ends.iter().map(row).collect();
    let names = ends.iter().map(|end| end.name.clone());
    let header: Vec<String> =
        ["from\\to".to_owned()].into_iter().chain(names).chain(["path-mtu".to_owned()]).collect();
    if matches!(context.layout.format, Format::Table | Format::Wide) && context.layout.columns.is_empty() {
        crate::output::write(&crate::output::columns(&header, &rows));
        return Ok(exit(&pairs));
    }
    finish(&pairs, context)
}

/// A container, where it can be sent from and to.
struct End {
    node: usize,
    /// With its node where there are several.
    name: String,
    netns: PathBuf,
    address: IpAddr,
}

fn ends(mesh: &Mesh, nodes: &mut Nodes) -> Result<Vec<End>, Failure> {
    let several = nodes.all.len() > 1;
    let mut ends = Vec::new();
    for (number, node) in nodes.all.iter_mut().enumerate() {
        let Answer::Attachments(rows) = node.ask(Request::Attachments)? else { continue };
        let of_network = rows.into_iter().filter(|row| row.network.as_deref() == Some(mesh.network.as_str()));
        let found = of_network.filter_map(|row| {
            let (netns, address) = (row.netns()?.into(), row.first_ip()?);
            let name =
                if several { format!("{}/{}", node.name, row.label()) } else { row.label().to_owned() };
            Some(End { node: number, name, netns, address })
        });
        ends.extend(found.take(if mesh.all { usize::MAX } else { FEW }));
    }
    Ok(ends)
}

struct Pair {
    from: String,
    to: String,
    reached: Reached,
}

fn reach(node: &mut Node, from: Option<PathBuf>, to: Vec<IpAddr>) -> anyhow::Result<Vec<Reached>> {
    match node.ask(Request::Reach { from, to })? {
        Answer::Reached(reached) => Ok(reached),
        _ => Err(anyhow!("node {} answers another question", node.name)),
    }
}

fn table(pairs: &[Pair]) -> Table {
    let rows = pairs.iter().map(|pair| {
        let Reached { to, rtt_us, path_mtu, error } = &pair.reached;
        let text = |number: Option<String>| number.unwrap_or_default();
        let state = if rtt_us.is_some() { "ok" } else { "no answer" };
        let error = error.clone().unwrap_or_else(|| state.to_owned());
        vec![
            pair.from.clone(),
            pair.to.clone(),
            to.to_string(),
            text(rtt_us.map(milliseconds)),
            text(path_mtu.map(|mtu| mtu.to_string())),
            error,
        ]
    });
    let columns = &["FROM", "TO", "ADDRESS", "RTT-MS", "PATH-MTU", "STATE"];
    Table { columns, wide: &[], rows: rows.collect() }
}

fn finish(pairs: &[Pair], context: &Context) -> Result<Exit, Failure> {
    let item = |Pair { from, to, reached }: &Pair| {
        let Reached { to: address, rtt_us, path_mtu, error } = reached;
        json!({"from": from, "to": to, "address": address, "rtt_us": rtt_us, "path_mtu": path_mtu, "error": error})
    };
    let names = pairs.iter().map(|pair| format!("{} {}", pair.from, pair.to)).collect();
    let (items, table) = (pairs.iter().map(item).collect(), table(pairs));
    context.write(&Reply { kind: "Reachability", items, names, table })?;
    Ok(exit(pairs))
}

fn exit(pairs: &[Pair]) -> Exit {
    if pairs.iter().all(|pair| pair.reached.rtt_us.is_some()) { Exit::Fine } else { Exit::Finding }
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:02}", microseconds / 1000, microseconds % 1000 / 10)
}

/// Of each node, for a matrix that people can read.
const FEW: usize = 2;

const MESH_HELP: &str = "\
Examples:
  netctl mesh mynet
  netctl mesh mynet --all --peer n2='ssh root@n2 netctl agent --stdio'

Exit status: 0 all reach all, 1 somebody does not";
