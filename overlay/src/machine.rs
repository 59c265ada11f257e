//! One network on one host as a state machine: events and the time come in, actions come out. It opens no socket and
//! reads no clock; whoever runs it does the actions in order and reports how they went.
//!
//! ```text
//!  directory ──▶ candidates ──admit──▶ peers ──objects──▶ desired ─┐
//!  underlay ───▶ device ───────────────────────────────────────────┼─diff──▶ Write ──▶ Written
//!  kernel ─────▶ actual ◀── events, dumps, our own writes ─────────┘
//! ```
//!
//! Everything that changes marks the machine dirty; 50 ms later one reconciliation looks at the whole. While the directory
//! is away nothing changes but by the kernel's and the underlay's doing.

mod directory;
mod kernel;
pub mod offload;
pub mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnetwork::IpNetwork;
use log::Level;

use offload::{Checksums, Probed, Probing};

use crate::{
    definition::Definition,
    desired::{self, Objects},
    diff::{self, Actual, ActualRoute, Change},
    family::PerFamily,
    mac::{self, MacText},
    mtu,
    names::{Mtu, NodeName, Port, Vni},
    onlink::Neighbourhood,
    peer::{Candidate, Candidates, Peer, Record, Refusal, Us},
    plan::Brake,
    state::{LocalState, Mode, Saved, Standing, VERSION},
};

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The last known peers were read from the disk.
    Restored(Saved),
    /// The underlay is (now) so; `None` where there is no usable link.
    Underlay(Option<Underlay>),
    /// The answer to [`Action::Device`]: the index of the device.
    Device(Result<u32, String>),
    /// The device is gone, or is not as it was asked for.
    DeviceSpoiled,
    /// The answer to [`Action::Dump`].
    Dumped(Result<Actual, String>),
    /// The kernel's tables changed, by us or by anybody.
    Kernel(Notice),
    /// Events of the kernel were lost.
    Overrun,
    /// The answer to [`Action::Write`]: what failed and why; all else is done.
    Written(Vec<(Change, String)>),
    Directory(Update),
    /// What the directory says about our own subnets.
    Standing(Standing),
    /// Somebody says that the peers held back are really gone.
    Confirm,
    /// The answer to [`Action::Probe`].
    Probed(Probed),
    /// The deadline passed, or somebody wants to know.
    Wake,
}

/// One change in the kernel's tables, of our device or of our protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// `Some(mac)` as in [`Actual::neighbours`].
    Neighbour {
        ip: IpAddr,
        entry: Option<Option<::kernel::mac::MacAddr>>,
    },
    Fdb {
        mac: ::kernel::mac::MacAddr,
        dst: IpAddr,
        there: bool,
    },
    Route {
        prefix: IpNetwork,
        metric: u32,
        route: Option<ActualRoute>,
    },
}

/// News from the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// All there is.
    Snapshot(Candidates),
    /// Records that came or changed, and keys that went.
    Changes(Vec<(String, Option<Candidate>)>),
    /// The directory does not answer.
    Lost(String),
}

/// The link that carries the tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Underlay {
    pub name: String,
    pub index: u32,
    pub mtu: Mtu,
    /// Down means that the kernel has dropped the link's routes, silently.
    pub up: bool,
    /// Our end of the tunnels.
    pub address: IpAddr,
    pub around: Neighbourhood,
    /// All addresses of this host.
    pub addresses: BTreeSet<IpAddr>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Make the device so, or make it anew; answered by [`Event::Device`].
    Device(DeviceSpec),
    /// Read the kernel's tables; answered by [`Event::Dumped`].
    Dump,
    /// Make these changes, in order; answered by [`Event::Written`].
    Write(Vec<Change>),
    /// Only these may send to our port.
    Guard(BTreeSet<IpAddr>),
    SaveState(LocalState),
    SaveSnapshot(Saved),
    /// Read the whole directory now; answered by [`Event::Directory`].
    List,
    /// What the directory shall say of us.
    Publish(Record),
    /// Find out whether checksums arrive at these addresses of peers, behind the tunnel; answered by [`Event::Probed`].
    Probe(Vec<IpAddr>),
    Log(Level, String),
}

/// The overlay device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    pub name: String,
    pub vni: Vni,
    pub port: Port,
    pub local: IpAddr,
    /// The underlay's index.
    pub link: u32,
    pub mac: MacText,
    pub mtu: Mtu,
    pub checksums: Checksums,
    /// Host addresses, one for each subnet.
    pub addresses: Vec<IpNetwork>,
}

/// The state of one network on one host.
#[derive(Debug)]
pub struct Machine {
    definition: Definition,
    node: NodeName,
    standing: Standing,
    underlay: Option<Underlay>,
    device: Device,
    candidates: Candidates,
    /// What the directory says has been heard once, from the disk or from itself.
    informed: bool,
    directory: Directory,
    peers: BTreeMap<NodeName, Peer>,
    refused: BTreeMap<String, Refusal>,
    desired: Objects,
    actual: Option<Actual>,
    /// One question to the kernel at a time.
    asked: bool,
    brake: Brake,
    /// Peers or what they are judged by may have changed.
    doubtful: bool,
    /// The whole directory was read since the peers were last judged.
    fresh: bool,
    checksums: Checksums,
    probing: Probing,
    timers: Timers,
    told: Told,
    counters: Counters,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Device {
    Unknown,
    Made { spec: DeviceSpec },
}

/// How the directory is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Directory {
    Loading,
    Following,
    Lost { since: Instant, why: String },
}

#[derive(Debug, Default)]
struct Timers {
    reconcile: Option<Instant>,
    resync: Option<Instant>,
    snapshot: Option<Instant>,
    saved: Option<Instant>,
    /// The wait after the next failure.
    backoff: Duration,
    /// The directory was asked about the peers held back.
    asked_about: Option<Instant>,
}

/// What was said last, so that only news is said.
#[derive(Debug, Default)]
struct Told {
    state: Option<LocalState>,
    guard: Option<BTreeSet<IpAddr>>,
    record: Option<Record>,
    saved: Option<Saved>,
    device_error: Option<String>,
}

/// Since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    pub reconciliations: u64,
    pub changes: u64,
    pub failures: u64,
    pub dumps: u64,
    pub overruns: u64,
    pub repairs: u64,
    pub snapshots: u64,
}

impl Machine {
    pub fn new(definition: Definition, node: NodeName, now: Instant) -> Self {
        let waiting = Standing::Waiting { why: "the directory has not answered yet".into() };
        Self {
            definition,
            node,
            standing: waiting,
            underlay: None,
            device: Device::Unknown,
            candidates: Candidates::new(),
            informed: false,
            directory: Directory::Loading,
            peers: BTreeMap::new(),
            refused: BTreeMap::new(),
            desired: Objects::default(),
            actual: None,
            asked: false,
            brake: Brake::default(),
            doubtful: true,
            fresh: false,
            checksums: Checksums::default(),
            probing: Probing::default(),
            timers: Timers { resync: Some(now + RESYNC), backoff: FIRST_BACKOFF, ..Timers::default() },
            told: Told::default(),
            counters: Counters::default(),
        }
    }

    /// Takes in one event, and says what is to be done about it and about whatever else is due.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Restored(saved) => self.restored(saved, now, &mut actions),
            Event::Underlay(underlay) => self.underlay_is(underlay, now),
            Event::Device(answer) => self.device_is(answer, now, &mut actions),
            Event::DeviceSpoiled => self.device_spoiled(now, &mut actions),
            Event::Dumped(answer) => self.dumped(answer, now, &mut actions),
            Event::Kernel(notice) => self.noticed(&notice, now),
            Event::Overrun => self.overrun(now),
            Event::Written(failures) => self.written(&failures, now, &mut actions),
            Event::Directory(update) => self.informed_by(update, now, &mut actions),
            Event::Standing(standing) => self.standing_is(standing, now, &mut actions),
            Event::Confirm => self.confirmed(now),
            Event::Probed(found) => self.probed(found, now, &mut actions),
            Event::Wake => {}
        }
        self.due(now, &mut actions);
        actions
    }

    /// When to send [`Event::Wake`] at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let Timers { reconcile, resync, snapshot, asked_about, .. } = &self.timers;
        let brake = self.brake.deadline().filter(|until| asked_about.is_none_or(|asked| asked < *until));
        [*reconcile, *resync, *snapshot, brake, self.probing.at].into_iter().flatten().min()
    }

    fn dirty(&mut self, now: Instant) {
        self.dirty_at(now + COALESCE);
    }

    /// Who is known is to be written down.
    fn save_soon(&mut self, now: Instant) {
        let soon = now + SNAPSHOT_LAG;
        let at = self.timers.saved.map_or(soon, |saved| soon.max(saved + SNAPSHOT_EVERY));
        self.timers.snapshot.get_or_insert(at);
    }

    fn dirty_at(&mut self, at: Instant) {
        self.timers.reconcile = Some(self.timers.reconcile.map_or(at, |before| before.min(at)));
    }

    fn due(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.timers.resync.is_some_and(|at| at <= now) {
            self.timers.resync = Some(now + RESYNC);
            self.actual = None;
            self.dirty_at(now);
        }
        if self.brake.deadline().is_some_and(|until| until <= now && self.timers.asked_about.is_none()) {
            self.timers.asked_about = Some(now);
            actions.push(Action::List);
        }
        if self.timers.snapshot.is_some_and(|at| at <= now) {
            self.timers.snapshot = None;
            self.timers.saved = Some(now);
            self.save(actions);
        }
        self.probe_if_due(now, actions);
        if self.timers.reconcile.is_some_and(|at| at <= now) && !self.asked {
            self.timers.reconcile = None;
            self.reconcile(now, actions);
        }
    }

    /// Looks at everything, and asks or does the next thing that is needed.
    fn reconcile(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.counters.reconciliations += 1;
        if self.doubtful {
            self.judge_peers(now, actions);
        }
        self.tell(actions);
        let Some(spec) = self.spec(actions) else { return };
        if self.device != (Device::Made { spec: spec.clone() }) {
            self.device = Device::Unknown;
            self.asked = true;
            actions.push(Action::Device(spec));
            return;
        }
        if !self.informed {
            return;
        }
        let Some(actual) = &self.actual else {
            self.asked = true;
            self.counters.dumps += 1;
            actions.push(Action::Dump);
            return;
        };
        let Some(underlay) = &self.underlay else { return };
        self.desired = desired::objects(&self.definition, &underlay.around, &self.peers);
        let changes = diff::diff(&self.desired, actual);
        if !changes.is_empty() {
            self.asked = true;
            if changes.len() >= MANY {
                let soon = now + AFTER_MANY;
                self.timers.resync = Some(self.timers.resync.map_or(soon, |at| at.min(soon)));
            }
            if self.probing.at.is_none() {
                self.probe_soon(now);
            }
            self.assume(&changes);
            actions.push(Action::Write(changes));
        }
    }

    /// The device as it should be, as soon as there is an underlay that can carry it.
    fn spec(&mut self, actions: &mut Vec<Action>) -> Option<DeviceSpec> {
        let underlay = self.underlay.as_ref()?;
        let mtu = match mtu::of_device(underlay.mtu, self.definition.underlay, self.definition.mtu) {
            Ok(mtu) => mtu,
            Err(err) => {
                let why = format!("no tunnel fits through {} (MTU {}): {err}", underlay.name, underlay.mtu);
                if self.told.device_error.as_ref() != Some(&why) {
                    actions.push(Action::Log(Level::Error, why.clone()));
                    self.told.device_error = Some(why);
                }
                return None;
            }
        };
        Some(DeviceSpec {
            name: self.definition.device(),
            vni: self.definition.vni,
            port: self.definition.port,
            local: underlay.address,
            link: underlay.index,
            mac: self.mac(),
            mtu,
            checksums: self.checksums,
            addresses: desired::device_addresses(self.standing.subnets()).collect(),
        })
    }

    fn mac(&self) -> MacText {
        MacText(mac::derived(&self.definition.cluster, &self.node, self.definition.underlay))
    }

    fn us(&self) -> Us {
        Us {
            node: Some(self.node.clone()),
            addresses: self.underlay.as_ref().map(|underlay| underlay.addresses.clone()).unwrap_or_default(),
            mac: Some(self.mac()),
            subnets: self.standing.subnets().to_vec(),
        }
    }

    /// Says what plugins, the guard and the directory must know, where it is news.
    fn tell(&mut self, actions: &mut Vec<Action>) {
        let guard: BTreeSet<IpAddr> = self.peers.values().map(|peer| peer.underlay).collect();
        if self.informed && self.told.guard.as_ref() != Some(&guard) {
            self.told.guard = Some(guard.clone());
            actions.push(Action::Guard(guard));
        }
        let Some(underlay) = &self.underlay else { return };
        let (mut at, mut mac) = (PerFamily::default(), PerFamily::default());
        at.set(self.definition.underlay, underlay.address);
        mac.set(self.definition.underlay, self.mac());
        let subnets = match &self.standing {
            Standing::Owner { subnets } => subnets.clone(),
            Standing::Waiting { .. } | Standing::Lost { .. } => Vec::new(),
        };
        let record = Record { node: self.node.clone(), underlay: at, subnets, mac };
        if self.told.record.as_ref() != Some(&record) {
            self.told.record = Some(record.clone());
            actions.push(Action::Publish(record));
        }
        let Ok(mtu) = mtu::of_device(underlay.mtu, self.definition.underlay, self.definition.mtu) else {
            return;
        };
        let state = self.local_state(mtu);
        if self.told.state.as_ref() != Some(&state) {
            self.told.state = Some(state.clone());
            actions.push(Action::SaveState(state));
        }
    }

    fn local_state(&self, mtu: Mtu) -> LocalState {
        let Definition { name, vni, pools, direct, .. } = &self.definition;
        LocalState {
            version: VERSION,
            network: name.clone(),
            node: self.node.clone(),
            vni: *vni,
            device: self.definition.device(),
            mtu,
            mode: if *direct { Mode::Direct } else { Mode::Vxlan },
            pools: pools.iter().map(|pool| pool.network).collect(),
            standing: self.standing.clone(),
        }
    }
}

/// Long enough for a burst of changes, too short to notice.
pub const COALESCE: Duration = Duration::from_millis(50);
/// How often the kernel is read back though nothing seems to have happened.
pub const RESYNC: Duration = Duration::from_secs(300);
/// So many changes at once drown what others do to forwarding entries meanwhile.
pub const MANY: usize = 3000;
/// How soon everything is read back after that.
const AFTER_MANY: Duration = Duration::from_secs(10);
/// The file of last known peers lags behind by this, since the kernel comes first.
const SNAPSHOT_LAG: Duration = Duration::from_millis(250);
/// It is not written more often than this.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(2);
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
