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
        place::Place,
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

impl Scene {
    /// Each with the position of its node.
    pub fn places(&self) -> impl Iterator<Item = (usize, &Place)> {
        self.places.iter().flat_map(|(node, places)| places.iter().map(|it| (*node, &it.place)))
    }
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

/// Where packets go.
pub trait Sink {
    /// Takes one.
    fn packet(&mut self, node: &str, captured: &Captured) -> anyhow::Result<()>;

    /// No more is there at the moment: a reader may be waiting at the other end.
    fn pause(&mut self) -> anyhow::Result<()>;
}

impl<W: Write> Sink for CaptureFile<W> {
    fn packet(&mut self, node: &str, captured: &Captured) -> anyhow::Result<()> {
        Ok(self.add(node, captured)?)
    }

    fn pause(&mut self) -> anyhow::Result<()> {
        Ok(self.flush()?)
    }
}

/// Hands every packet to the sink until the wish is fulfilled, `is_over` says so, or a node fails; then what is still
/// on its way.
pub fn gather(
    wish: &Wish,
    nodes: &mut Nodes,
    is_over: &dyn Fn() -> bool,
    sink: &mut dyn Sink,
) -> anyhow::Result<Gathered> {
    let until = wish.duration.map(|duration| Instant::now() + duration);
    let mut gathering = Gathering { packets: 0, missed: BTreeMap::new(), failed: None };
    loop {
        let left = until.map_or(LOOK, |until| until.saturating_duration_since(Instant::now()).min(LOOK));
        let is_enough = wish.count.is_some_and(|count| gathering.packets >= count);
        if is_over() || left.is_zero() || is_enough || gathering.failed.is_some() {
            break;
        }
        match gathering.next(nodes, left, sink)? {
            Next::Event(node, event) => gathering.take(&nodes.all[node].name, event, sink)?,
            Next::Nothing => {}
            Next::End => break,
        }
    }
    nodes.finish();
    let most = wish.count.unwrap_or(u64::MAX);
    while gathering.packets < most
        && let Next::Event(node, event) = gathering.next(nodes, LAST_WORDS, sink)?
    {
        gathering.take(&nodes.all[node].name, event, sink)?;
    }
    sink.pause()?;
    let end = gathering.failed.map_or(End::Done, End::Failed);
    Ok(Gathered { end, missed: gathering.missed.values().sum() })
}

/// What came until now.
struct Gathering {
    packets: u64,
    /// By node and namespace.
    missed: BTreeMap<(String, String), u64>,
    failed: Option<String>,
}

enum Next {
    Event(usize, Event),
    Nothing,
    /// All agents have ended.
    End,
}

impl Gathering {
    fn next(&self, nodes: &Nodes, patience: Duration, sink: &mut dyn Sink) -> anyhow::Result<Next> {
        if let Ok((node, event)) = nodes.events.try_recv() {
            return Ok(Next::Event(node, event));
        }
        sink.pause()?;
        Ok(match nodes.events.recv_timeout(patience) {
            Ok((node, event)) => Next::Event(node, event),
            Err(RecvTimeoutError::Timeout) => Next::Nothing,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        })
    }

    fn take(&mut self, node: &str, event: Event, sink: &mut dyn Sink) -> anyhow::Result<()> {
        match event {
            Event::Captured(captured) => {
                self.packets += 1;
                sink.packet(node, &captured)?;
            }
            Event::Missed { netns, packets } => {
                self.missed.insert((node.to_owned(), netns), packets);
            }
            Event::Failed(why) => self.failed = Some(format!("{node}: {why}")),
            _ => {}
        }
        Ok(())
    }
}

/// One line about a packet.
pub fn line(node: &str, captured: &Captured) -> String {
    let Captured { time_ns, netns, device, outgoing, .. } = captured;
    let way = if *outgoing { "tx" } else { "rx" };
    let (seconds, nanos) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    let clock = crate::drops::tally::clock(seconds);
    format!("{clock}.{:06} {node}/{netns}/{device} {way}  {}", nanos / 1000, decode(captured))
}

/// A peer that does not end in this time is not waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often the user's wish to end is looked at.
const LOOK: Duration = Duration::from_millis(100);
