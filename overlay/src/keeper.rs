//! One network of this host, kept: runs a [`Machine`] against the kernel and the state files. Knows no directory: what the
//! machine asks of one is handed on. Does not wait: who calls brings the events and the time.

use std::{
    collections::{BTreeSet, VecDeque},
    net::IpAddr,
    path::PathBuf,
    time::Instant,
};

use kernel::{
    address,
    error::Result,
    features, link,
    netlink::{Entries, Netlink},
};
use log::Level;

use crate::{
    definition::Definition,
    diff::{Actual, Change},
    host::{
        Links, device,
        events::{self, Events, News},
        tables,
        underlay::{self, Wanted},
    },
    machine::{Action, DeviceSpec, Event, MANY, Machine, offload::Checksums},
    names::NodeName,
    peer::Record,
    state::{self, Durability, LocalState, Saved},
};

/// Where the files of all networks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// Of [`LocalState`], for plugins.
    pub run: PathBuf,
    /// Of [`Saved`].
    pub lib: PathBuf,
}

/// What others have to do for the network.
#[derive(Debug, Clone, PartialEq)]
pub enum Errand {
    /// Read the directory and bring the answer.
    List,
    /// Tell the directory who we are.
    Publish(Record),
    /// Let only these send to our port.
    Guard(BTreeSet<IpAddr>),
    /// Find out whether checksums arrive there, and bring the answer.
    Probe(Vec<IpAddr>),
    Log(Level, String),
}

/// A network, its sockets and its files.
#[derive(Debug)]
pub struct Keeper {
    machine: Machine,
    nl: Netlink,
    events: Events,
    wanted: Wanted,
    dirs: Dirs,
    spec: Option<DeviceSpec>,
    links: Option<Links>,
    /// The last underlay that was told.
    underlay: Option<u32>,
    /// Events read while something was being written.
    backlog: Vec<News>,
    errands: Vec<Errand>,
}

impl Keeper {
    /// Opens the sockets in the calling thread's namespace, where it must go on being called.
    pub fn open(
        definition: Definition,
        node: NodeName,
        wanted: Wanted,
        dirs: Dirs,
        now: Instant,
    ) -> Result<Self> {
        let nl = Netlink::open()?;
        Ok(Self {
            machine: Machine::new(definition, node, now),
            events: Events::open(&nl)?,
            nl,
            wanted,
            dirs,
            spec: None,
            links: None,
            underlay: None,
            backlog: Vec::new(),
            errands: Vec::new(),
        })
    }

    /// Reads what was known before, and looks at the underlay.
    pub fn start(&mut self, now: Instant) {
        match state::read::<Saved>(&self.saved_file()) {
            Ok(Some(saved)) => self.handle(Event::Restored(saved), now),
            Ok(None) => {}
            Err(err) => self.log(Level::Warn, format!("the last known peers can't be read: {err}")),
        }
        self.look_at_underlay(now);
    }

    /// Hands one event to the machine and does what it says, until there is nothing more to do at once.
    pub fn handle(&mut self, event: Event, now: Instant) {
        let mut queue = VecDeque::from([event]);
        while let Some(event) = queue.pop_front() {
            for action in self.machine.handle(event, now) {
                queue.extend(self.act(action));
            }
        }
    }

    /// Takes in all that the kernel has told.
    pub fn take_news(&mut self, now: Instant) {
        self.drain();
        let news = std::mem::take(&mut self.backlog);
        let (mut underlay, mut device, mut overrun) = (false, false, false);
        for news in news {
            match news {
                News::Tables(message) => {
                    let Some(links) = self.links else { continue };
                    if let Some(notice) = events::notice(&message, self.machine.definition(), links) {
                        self.handle(Event::Kernel(notice), now);
                    } else if events::is_foreign_route(&message, links.underlay) {
                        underlay = true;
                    }
                }
                News::Link { name, index, .. } => {
                    device |= self.spec.as_ref().is_some_and(|spec| spec.name == name);
                    underlay |= self.underlay.is_none_or(|ours| ours == index);
                }
                News::Address { index } => {
                    let ours = self.links.is_some_and(|links| u32::from(links.device) == index);
                    device |= ours;
                    underlay |= !ours;
                }
                News::Overrun => overrun = true,
            }
        }
        if overrun {
            self.handle(Event::Overrun, now);
        }
        if underlay || overrun {
            self.look_at_underlay(now);
        }
        if (device || overrun) && !self.device_is_right() {
            self.handle(Event::DeviceSpoiled, now);
        }
    }

    /// What has to be done elsewhere, in order.
    pub fn errands(&mut self) -> Vec<Errand> {
        std::mem::take(&mut self.errands)
    }

    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The socket that becomes readable when there are news.
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// The kernel's tables now; `None` while there is no device.
    pub fn dump(&mut self) -> Result<Option<Actual>> {
        let Some(links) = self.links else { return Ok(None) };
        tables::dump(&mut self.nl, self.machine.definition(), links).map(Some)
    }

    /// The address or the link of the underlay, as far as they are known beforehand, changed.
    pub fn set_wanted(&mut self, wanted: Wanted, now: Instant) {
        let wanted = Wanted { last: self.wanted.last, ..wanted };
        if wanted != self.wanted {
            self.wanted = wanted;
            self.look_at_underlay(now);
        }
    }

    /// Takes the network off this host: device, routes, files.
    pub fn remove(mut self) -> std::result::Result<(), device::DeviceError> {
        if let Some(actual) = self.dump()? {
            let links = self.links;
            let gone: Vec<Change> = crate::diff::diff(&crate::desired::Objects::default(), &actual);
            if let Some(links) = links {
                tables::write(&mut self.nl, links, &gone, || ())?;
            }
        }
        device::remove(&mut self.nl, &self.machine.definition().device())?;
        for file in [self.state_file(), self.saved_file()] {
            // What is not there need not go.
            let _ = std::fs::remove_file(file);
        }
        Ok(())
    }

    fn drain(&mut self) {
        loop {
            match self.events.read() {
                Ok(None) => return,
                Ok(Some(news)) => self.backlog.extend(news),
                Err(err) => {
                    self.backlog.push(News::Overrun);
                    return self.log(Level::Error, err.to_string());
                }
            }
        }
    }

    fn look_at_underlay(&mut self, now: Instant) {
        match underlay::find(&mut self.nl, self.machine.definition(), &self.wanted) {
            Ok(underlay) => {
                self.underlay = underlay.as_ref().map(|underlay| underlay.index);
                self.wanted.last = self.underlay.or(self.wanted.last);
                self.handle(Event::Underlay(underlay), now);
            }
            Err(err) => self.log(Level::Error, format!("look at the underlay: {err}")),
        }
    }

    fn device_is_right(&mut self) -> bool {
        let Some(spec) = &self.spec else { return true };
        let Ok(Some(link)) = link::find(&mut self.nl, &spec.name) else { return false };
        let Ok(addresses) = address::list(&mut self.nl, &link.dev()) else { return false };
        let there: BTreeSet<_> = addresses.iter().map(|address| address.network).collect();
        let same = self.links.is_some_and(|links| links.device == link.index);
        same && device::is_right(&link, spec) && there == spec.addresses.iter().copied().collect()
    }

    /// Does one action; the answer, if it has one, is the machine's next event.
    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Device(spec) => Some(Event::Device(self.make_device(spec))),
            Action::Dump => Some(Event::Dumped(match self.dump() {
                Ok(actual) => Ok(actual.unwrap_or_default()),
                Err(err) => Err(err.to_string()),
            })),
            Action::Write(changes) => Some(Event::Written(self.write(&changes))),
            Action::SaveState(state) => {
                self.save(self.state_file(), |file| state::write(file, &state, Durability::Boot))
            }
            Action::SaveSnapshot(saved) => {
                self.save(self.saved_file(), |file| state::write(file, &saved, Durability::Disk))
            }
            Action::Guard(peers) => self.errand(Errand::Guard(peers)),
            Action::List => self.errand(Errand::List),
            Action::Publish(record) => self.errand(Errand::Publish(record)),
            Action::Probe(peers) => self.errand(Errand::Probe(peers)),
            Action::Log(level, text) => self.errand(Errand::Log(level, text)),
        }
    }

    fn make_device(&mut self, spec: DeviceSpec) -> std::result::Result<u32, String> {
        self.spec = None;
        self.links = None;
        let index = device::ensure(&mut self.nl, &spec).map_err(|err| err.to_string())?;
        self.links = Some(tables::links(index.into(), spec.link));
        if spec.checksums == Checksums::Software {
            let dev = link::Dev { index, name: spec.name.clone() };
            // What can't be helped is said; the network is worth more than its checksums.
            if let Err(err) = features::switch_off(&dev, features::TX_CHECKSUM) {
                self.log(Level::Error, err.to_string());
            }
        }
        self.spec = Some(spec);
        Ok(index.into())
    }

    fn write(&mut self, changes: &[Change]) -> Vec<(Change, String)> {
        let all_failed = |why: &str| changes.iter().map(|change| (*change, why.to_owned())).collect();
        let Some(links) = self.links else { return all_failed("there is no device") };
        let Self { nl, events, backlog, .. } = self;
        // The echo of many would cost a third of the writing. What others add meanwhile is seen at the next look at
        // everything, which the machine brings forward.
        let many = changes.len() >= MANY;
        if many && let Err(err) = events.hear_entries(Entries::Unheard) {
            return all_failed(&err.to_string());
        }
        let between = || {
            while let Ok(Some(news)) = events.read() {
                backlog.extend(news);
            }
        };
        let failed =
            tables::write(nl, links, changes, between).unwrap_or_else(|err| all_failed(&err.to_string()));
        if many && events.hear_entries(Entries::Heard).is_err() {
            backlog.push(News::Overrun);
        }
        failed
    }

    fn save(
        &mut self,
        file: PathBuf,
        write: impl FnOnce(&std::path::Path) -> std::result::Result<(), state::StateError>,
    ) -> Option<Event> {
        if let Err(err) = write(&file) {
            self.log(Level::Error, err.to_string());
        }
        None
    }

    fn errand(&mut self, errand: Errand) -> Option<Event> {
        self.errands.push(errand);
        None
    }

    fn log(&mut self, level: Level, text: String) {
        self.errands.push(Errand::Log(level, text));
    }

    fn state_file(&self) -> PathBuf {
        state::file(&self.dirs.run, self.machine.network())
    }

    fn saved_file(&self) -> PathBuf {
        state::file(&self.dirs.lib, self.machine.network())
    }
}

/// The local state of `network`, as the agent left it in `run`.
pub fn local_state(
    run: &std::path::Path,
    network: &cni::names::NetworkName,
) -> std::result::Result<Option<LocalState>, state::StateError> {
    state::read(&state::file(run, network))
}
