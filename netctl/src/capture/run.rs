//! A capture from beginning to end: find the places, have every node record, write what it reports.

use std::{
    collections::BTreeMap,
    io::Write,
    net::IpAddr,
    sync::mpsc::RecvTimeoutError,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::file::{CaptureFile, decode};
use crate::{
    agent::{
        nodes::Nodes,
        protocol::{CapturePlace, Captured, Event, Request},
    },
    exit::Failure,
};

/// What to capture.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Selectors; none is the node's own namespace.
    pub selectors: Vec<String>,
    /// The own namespace of every node that has one of them, too.
    pub underlay: bool,
    pub filter: String,
    pub snaplen: u32,
    /// End after so many packets.
    pub count: Option<u64>,
    /// End after so long.
    pub duration: Option<Duration>,
}

/// Namespaces by node, and the names of their addresses.
pub struct Scene {
    places: BTreeMap<usize, Vec<CapturePlace>>,
    pub names: Vec<(IpAddr, String)>,
}

/// Finds the places. Wrong names are usage errors.
pub fn find(wish: &Wish, nodes: &mut Nodes) -> Result<Scene, Failure> {
    let mut scene = Scene { places: BTreeMap::new(), names: Vec::new() };
    let own = ["host".to_owned()];
    let selectors = if wish.selectors.is_empty() { &own[..] } else { &wish.selectors };
    for selector in selectors {
        let found = nodes.resolve(selector).with_context(|| format!("find {selector}"))?;
        let found = found.ok_or_else(|| Failure::Usage(format!("no node knows {selector:?}")))?;
        let name = format!("{}.{}", found.place.name, nodes.all[found.node].name);
        scene.names.extend(found.addresses.iter().map(|address| (*address, name.clone())));
        let device = None;
        scene.places.entry(found.node).or_default().push(CapturePlace { place: found.place, device });
    }
    for (node, places) in &mut scene.places {
        let own = nodes.all[*node].own.clone();
        if wish.underlay {
            places.push(CapturePlace { place: own, device: None });
        }
        let mut seen = Vec::new();
        places.retain(|it| {
            let is_new = !seen.contains(&it.place.inode);
            seen.push(it.place.inode);
            is_new
        });
    }
    Ok(scene)
}

/// Has every node record.
pub fn start(wish: &Wish, scene: Scene, nodes: &mut Nodes) -> anyhow::Result<()> {
    for (node, places) in scene.places {
        let (filter, snaplen) = (wish.filter.clone(), wish.snaplen);
        nodes.all[node].begin(Request::Capture { places, filter, snaplen })?;
    }
    Ok(())
}

/// Why a capture ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// As wished, or by the user.
    Done,
    /// A node stopped, for this reason.
    Failed(String),
}

/// How a capture went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered {
    pub end: End,
    /// Packets that the kernel had no room for.
    pub missed: u64,
}

/// Hands every packet to `each` until the wish is fulfilled, `is_over` says so, or a node fails.
pub fn gather(
    wish: &Wish,
    nodes: &Nodes,
    is_over: &dyn Fn() -> bool,
    each: &mut dyn FnMut(&str, &Captured) -> anyhow::Result<()>,
) -> anyhow::Result<Gathered> {
    let until = wish.duration.map(|duration| Instant::now() + duration);
    let (mut packets, mut missed) = (0, BTreeMap::new());
    let end = loop {
        let left = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()).min(LOOK));
        if is_over() || left.is_zero() || wish.count.is_some_and(|count| packets >= count) {
            break End::Done;
        }
        match nodes.events.recv_timeout(left) {
            Ok((node, Event::Captured(captured))) => {
                packets += 1;
                each(&nodes.all[node].name, &captured)?;
            }
            Ok((node, Event::Missed { netns, packets })) => {
                missed.insert((node, netns), packets);
            }
            Ok((node, Event::Failed(why))) => {
                break End::Failed(format!("{}: {why}", nodes.all[node].name));
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break End::Failed("all agents have ended".to_owned()),
        }
    };
    Ok(Gathered { end, missed: missed.values().sum() })
}

/// Writes every packet to a file, each at once: a reader may be waiting at the other end.
pub fn write<W: Write>(
    wish: &Wish,
    nodes: &Nodes,
    is_over: &dyn Fn() -> bool,
    file: &mut CaptureFile<W>,
) -> anyhow::Result<Gathered> {
    file.flush()?;
    gather(wish, nodes, is_over, &mut |node, captured| {
        file.add(node, captured)?;
        Ok(file.flush()?)
    })
}

/// One line about a packet.
pub fn line(node: &str, captured: &Captured) -> String {
    let Captured { time_ns, netns, device, outgoing, .. } = captured;
    let way = if *outgoing { "tx" } else { "rx" };
    let (seconds, nanos) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    let clock = crate::drops::tally::clock(seconds);
    format!("{clock}.{:06} {node}/{netns}/{device} {way}  {}", nanos / 1000, decode(captured))
}

/// How often the user's wish to end is looked at.
const LOOK: Duration = Duration::from_millis(100);
