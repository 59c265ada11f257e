//! `netctl probe` and `netctl mesh`: who reaches whom, how fast, up to which size, and by which ports and names.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use anyhow::anyhow;
use clap::Args;

use self::pair::{Named, Pair, exit, finish, milliseconds, port_name};
use crate::{
    agent::{
        node::Node,
        nodes::{Found, Nodes},
        place::Place,
        protocol::{Reply as Answer, Request},
    },
    commands,
    exit::{Exit, Failure},
    lookup::LookedUp,
    output::{self, Format},
    trace::probe::Protocol,
    verb::Context,
};

mod pair;

/// Tries whether DST answers SRC, how fast, and up to which packet size; and, where they are asked for, ports of DST and names. `netctl
/// trace` says where it ends.
#[derive(Debug, Args)]
#[command(after_help = PROBE_HELP)]
pub struct Probe {
    /// As of `netctl trace`
    #[arg(value_name = "SRC")]
    source: String,
    #[arg(value_name = "DST")]
    destination: String,
    #[command(flatten)]
    more: More,
}

/// Tries which containers of a network reach which, here and on peers: times as a matrix, path MTUs that differ, and, where they are asked
/// for, ports and names.
#[derive(Debug, Args)]
#[command(after_help = MESH_HELP)]
pub struct Mesh {
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Every container, not only the first two of each node
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    more: More,
}

/// What is tried beside echo requests.
#[derive(Debug, Args)]
struct More {
    /// A connection to this port; may be repeated
    #[arg(long, value_name = "PORT")]
    tcp: Vec<u16>,
    /// A datagram to this port, which a service may leave without an answer; may be repeated
    #[arg(long, value_name = "PORT")]
    udp: Vec<u16>,
    /// The addresses of this name, by the source's own resolv.conf; may be repeated
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
}

impl More {
    fn ports(&self) -> Vec<Protocol> {
        let tcp = self.tcp.iter().map(|port| Protocol::Tcp(*port));
        tcp.chain(self.udp.iter().map(|port| Protocol::Udp(*port))).collect()
    }
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
    let from = End { node, name: probe.source.clone(), place, address };
    let to = BTreeMap::from([(address, probe.destination.clone())]);
    let (pairs, names) = from.try_all(&mut nodes.all[node], &to, &probe.more, context)?;
    finish(&pairs, &names, context)
}

pub fn mesh(mesh: &Mesh, context: &Context) -> Result<Exit, Failure> {
    let mut nodes = Nodes::start(context.node.as_deref(), &context.peers, context.containers())?;
    let ends = ends(mesh, &mut nodes)?;
    if ends.is_empty() {
        return Err(Failure::Usage(format!("no node has a container on a network {:?}", mesh.network)));
    }
    let (mut pairs, mut names) = (Vec::new(), Vec::new());
    for (nth, end) in ends.iter().enumerate() {
        let others = ends
            .iter()
            .enumerate()
            .filter(|(other, it)| *other != nth && it.address.is_ipv4() == end.address.is_ipv4());
        let to: BTreeMap<IpAddr, String> = others.map(|(_, it)| (it.address, it.name.clone())).collect();
        let tried = end.try_all(&mut nodes.all[end.node], &to, &mesh.more, context)?;
        pairs.extend(tried.0);
        names.extend(tried.1);
    }
    if matches!(context.layout.format, Format::Table | Format::Wide) && context.layout.columns.is_empty() {
        output::write(&matrix(&ends, &pairs, &names));
        return Ok(exit(&pairs, &names));
    }
    finish(&pairs, &names, context)
}

/// From the rows to the columns: the time, and ports that are not as they should be.
fn matrix(ends: &[End], pairs: &[Pair], names: &[Named]) -> String {
    let cell = |from: &End, to: &End| {
        let pair = pairs.iter().find(|pair| pair.from == from.name && pair.to == to.name);
        pair.map_or_else(String::new, |pair| {
            let time = pair.reached.rtt_us.map_or_else(|| "✗".to_owned(), milliseconds);
            let bad = pair.ports.iter().filter(|port| !port.is_well());
            let bad = bad.map(|port| format!("✗{}", port_name(port.port)));
            [time].into_iter().chain(bad).collect::<Vec<_>>().join(" ")
        })
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
        let of = || names.iter().filter(|it| it.from == from.name);
        let bad: Vec<_> = of().filter(|it| it.found.error.is_some()).map(|it| &it.found.name).collect();
        let dns = match bad[..] {
            [] => "ok".to_owned(),
            _ => bad.into_iter().map(|name| format!("✗{name}")).collect::<Vec<_>>().join(" "),
        };
        let dns = of().next().map(|_| dns);
        let cells = ends.iter().map(|to| cell(from, to));
        [from.name.clone()].into_iter().chain(cells).chain([mtu]).chain(dns).collect()
    };
    let rows: Vec<Vec<String>> = ends.iter().map(row).collect();
    let columns = ends.iter().map(|end| end.name.clone());
    let dns = (!names.is_empty()).then(|| "dns".to_owned());
    let header: Vec<String> = ["from\\to".to_owned()]
        .into_iter()
        .chain(columns)
        .chain(["path-mtu".to_owned()])
        .chain(dns)
        .collect();
    output::columns(&header, &rows)
}

/// A container, where it can be sent from and to.
struct End {
    node: usize,
    /// With its node where there are several.
    name: String,
    place: Place,
    address: IpAddr,
}

fn ends(mesh: &Mesh, nodes: &mut Nodes) -> Result<Vec<End>, Failure> {
    let several = nodes.all.len() > 1;
    let mut ends = Vec::new();
    for (number, node) in nodes.all.iter_mut().enumerate() {
        let Answer::Attachments(rows) = node.ask(Request::Attachments)? else { continue };
        let of_network = rows.into_iter().filter(|row| row.network.as_deref() == Some(mesh.network.as_str()));
        let found = of_network.filter_map(|row| {
            let (path, address) = (PathBuf::from(row.netns()?), row.first_ip()?);
            let name =
                if several { format!("{}/{}", node.name, row.label()) } else { row.label().to_owned() };
            let place = Place { name: name.clone(), path, inode: 0 };
            Some(End { node: number, name, place, address })
        });
        ends.extend(found.take(if mesh.all { usize::MAX } else { FEW }));
    }
    Ok(ends)
}

impl End {
    /// From here to all of `to`, which have names.
    fn try_all(
        &self,
        node: &mut Node,
        to: &BTreeMap<IpAddr, String>,
        more: &More,
        context: &Context,
    ) -> anyhow::Result<(Vec<Pair>, Vec<Named>)> {
        let (path, addresses, ports) =
            (self.place.path.clone(), to.keys().copied().collect::<Vec<_>>(), more.ports());
        let question = Request::Reach { from: Some(path.clone()), to: addresses.clone() };
        let Answer::Reached(reached) = node.ask(question)? else { return Err(another(node)) };
        let mut knocked = Vec::new();
        if !ports.is_empty() {
            let question = Request::Knock { from: path, to: addresses, ports: ports.clone() };
            let Answer::Knocked(found) = node.ask(question)? else { return Err(another(node)) };
            knocked = found;
        }
        let names = self.look_up(node, &more.dns)?;
        context.show_commands(|| {
            let of = |it: &crate::reach::Reached| {
                let echo = commands::nodes::probe(&context.peers, self.node, &self.place, it.to, it.path_mtu);
                [echo, commands::nodes::knock(&context.peers, self.node, &self.place, it.to, &ports)].concat()
            };
            let names = commands::nodes::look_up(&context.peers, self.node, &self.place, &more.dns);
            reached.iter().flat_map(of).chain(names).collect()
        });
        let pair = |reached: crate::reach::Reached| Pair {
            from: self.name.clone(),
            to: to.get(&reached.to).cloned().unwrap_or_default(),
            ports: knocked.iter().filter(|it| it.to == reached.to).cloned().collect(),
            reached,
        };
        let named = |found: LookedUp| Named { from: self.name.clone(), found };
        Ok((reached.into_iter().map(pair).collect(), names.into_iter().map(named).collect()))
    }

    fn look_up(&self, node: &mut Node, names: &[String]) -> anyhow::Result<Vec<LookedUp>> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let question = Request::LookUp { from: self.place.path.clone(), names: names.to_vec() };
        let Answer::LookedUp(found) = node.ask(question)? else { return Err(another(node)) };
        Ok(found)
    }
}

fn another(node: &Node) -> anyhow::Error {
    anyhow!("node {} answers another question", node.name)
}

/// Of each node, for a matrix that people can read.
const FEW: usize = 2;

const PROBE_HELP: &str = "\
Examples:
  netctl probe c1 c2
  netctl probe c1 10.9.0.1 -o json
  netctl probe c1 c2 --tcp 80 --dns db.example

Exit status: 0 it answers; 1 it does not, or a port is closed or a TCP one silent, or a name has no address";

const MESH_HELP: &str = "\
Examples:
  netctl mesh mynet
  netctl mesh mynet --all --peer n2='ssh root@n2 netctl agent --stdio'

Exit status: 0 all reach all; 1 somebody does not, or a port or a name is not as for `netctl probe`";
