//! The task of one network: the keeper, and all that it hears from. Decides nothing.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use ipnetwork::IpNetwork;
use serde_json::{Value, json};
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    follow::{Command, Follower, News},
    guards::Guards,
    probe::probe,
    request::{Answer, Request},
};
use crate::{
    config::{Config, NetworkConfig, Source},
    definition::Definition,
    directory::{Directory, Listing, etcd::Etcd, r#static::Static},
    host::underlay::Wanted,
    keeper::{Dirs, Errand, Keeper},
    machine::{Event, Update, offload::Probed},
    names::NodeName,
    readiness,
    state::{self, Saved},
};

/// A question from the socket, and where the answer goes. `None` is none of ours.
pub(super) struct Ask {
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Option<Answer>>,
}

pub(super) struct Task {
    node: NodeName,
    dirs: Dirs,
    network: NetworkConfig,
    guards: Rc<RefCell<Guards>>,
    asked: mpsc::Receiver<Ask>,
    probed: (mpsc::Sender<Probed>, mpsc::Receiver<Probed>),
}

/// What the directory's task and this one say to each other.
struct Line {
    commands: mpsc::Sender<Command>,
    news: mpsc::Receiver<News>,
}

/// A network that is being kept.
struct Kept {
    keeper: Keeper,
    readiness: AsyncFd<std::os::fd::OwnedFd>,
    target: String,
}

impl Task {
    pub(super) fn new(
        config: &Config,
        network: NetworkConfig,
        guards: Rc<RefCell<Guards>>,
        asked: mpsc::Receiver<Ask>,
    ) -> Self {
        let dirs = Dirs { run: config.run.clone(), lib: config.lib.clone() };
        Self { node: config.node.clone(), dirs, network, guards, asked, probed: mpsc::channel(QUEUE) }
    }

    /// Never ends; starts anew after what can't be helped.
    pub(super) async fn run(mut self) {
        loop {
            match self.try_run().await {
                Ok(never) => match never {},
                Err(err) => log::error!("{err:#}; trying again in {} s", AGAIN.as_secs()),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn try_run(&mut self) -> anyhow::Result<std::convert::Infallible> {
        match self.network.source.clone() {
            Source::Static { file } => {
                let directory = Static::open(&file, self.node.clone())?;
                let mut line = self.follow(directory, Vec::new());
                self.keep(None, &mut line).await
            }
            Source::Etcd { definition, etcd } => {
                let file = state::file(&self.dirs.lib, &definition.name);
                let saved = state::read::<Saved>(&file).ok().flatten();
                let owned = saved.map(|saved| saved.subnets).unwrap_or_default();
                let directory = Etcd::open(&definition, &etcd, self.node.clone())?;
                let mut line = self.follow(directory, owned);
                let kept = self.open(*definition, self.node.clone(), None)?;
                self.keep(Some(kept), &mut line).await
            }
        }
    }

    fn follow<D: Directory + 'static>(&self, directory: D, owned: Vec<IpNetwork>) -> Line {
        let (commands, commanded) = mpsc::channel(QUEUE);
        let (tell, news) = mpsc::channel(QUEUE);
        let follower = Follower::new(directory, self.node.clone(), owned, commanded, tell);
        // Ends by itself when the line is dropped.
        tokio::task::spawn_local(follower.run());
        Line { commands, news }
    }

    fn open(
        &self,
        definition: Definition,
        node: NodeName,
        address: Option<std::net::IpAddr>,
    ) -> anyhow::Result<Kept> {
        let NetworkConfig { device, address: configured, .. } = &self.network;
        let wanted = Wanted {
            device: device.clone(),
            address: configured.or(address.filter(|_| device.is_none())),
            last: None,
        };
        let now = std::time::Instant::now();
        let target = format!("network={}", definition.name);
        let mut keeper = Keeper::open(definition, node, wanted, self.dirs.clone(), now)?;
        let readiness = readiness::of(std::os::fd::AsFd::as_fd(keeper.events()))?;
        keeper.start(now);
        Ok(Kept { keeper, readiness, target })
    }

    /// Hears and hands on, until the directory's task is gone.
    async fn keep(
        &mut self,
        mut kept: Option<Kept>,
        line: &mut Line,
    ) -> anyhow::Result<std::convert::Infallible> {
        loop {
            if let Some(kept) = &mut kept {
                self.errands(kept, &line.commands).await;
            }
            let deadline =
                kept.as_ref().and_then(|kept| kept.keeper.machine().deadline()).map(Instant::from_std);
            tokio::select! {
                news = line.news.recv() => match news {
                    None => anyhow::bail!("the directory's task ended"),
                    Some(News::Listed(listing)) => kept = self.listed(kept, *listing)?,
                    Some(News::Update(update)) => match &mut kept {
                        Some(kept) => kept.handle(Event::Directory(update)),
                        None => log::error!("{}", lost(&update)),
                    },
                    Some(News::Standing(standing)) => {
                        if let Some(kept) = &mut kept {
                            kept.handle(Event::Standing(standing));
                        }
                    }
                },
                Some(ask) = self.asked.recv() => {
                    let answer = kept.as_mut().and_then(|kept| answer(kept, &ask.request));
                    // Whoever asked may be gone.
                    let _ = ask.reply.send(answer);
                }
                Some(found) = self.probed.1.recv() => {
                    if let Some(kept) = &mut kept {
                        kept.handle(Event::Probed(found));
                    }
                }
                ready = readable(&kept) => {
                    ready?;
                    if let Some(kept) = &mut kept {
                        kept.keeper.take_news(std::time::Instant::now());
                    }
                }
                () = due(deadline) => {
                    if let Some(kept) = &mut kept {
                        kept.handle(Event::Wake);
                    }
                }
            }
        }
    }

    /// The whole directory was read. Where it defines the network, that may have become another one.
    fn listed(&self, kept: Option<Kept>, listing: Listing) -> anyhow::Result<Option<Kept>> {
        let Listing { candidates, definition, own } = listing;
        let address =
            |definition: &Definition| own.as_ref().and_then(|own| own.underlay.of(definition.underlay));
        let node = own.as_ref().map_or_else(|| self.node.clone(), |own| own.node.clone());
        let mut kept = match (kept, definition) {
            (Some(kept), Some(new)) if *kept.keeper.machine().definition() != new => {
                log::warn!(target: &kept.target, "the network is defined anew: building it anew");
                kept.keeper.remove()?;
                let address = address(&new);
                self.open(new, node, address)?
            }
            (Some(mut kept), definition) => {
                if let (None, Some(definition)) = (&self.network.address, definition) {
                    let wanted = Wanted {
                        device: self.network.device.clone(),
                        address: address(&definition).filter(|_| self.network.device.is_none()),
                        last: None,
                    };
                    kept.keeper.set_wanted(wanted, std::time::Instant::now());
                }
                kept
            }
            (None, Some(definition)) => {
                let address = address(&definition);
                self.open(definition, node, address)?
            }
            (None, None) => return Ok(None),
        };
        kept.handle(Event::Directory(Update::Snapshot(candidates)));
        Ok(Some(kept))
    }

    async fn errands(&self, kept: &mut Kept, commands: &mpsc::Sender<Command>) {
        for errand in kept.keeper.errands() {
            match errand {
                Errand::Log(level, text) => log::log!(target: &kept.target, level, "{text}"),
                Errand::Guard(peers) => {
                    self.guards.borrow_mut().set(kept.keeper.machine().definition(), &peers)
                }
                // The directory's task reads its line even while it waits for the directory.
                Errand::Probe(peers) => {
                    let tell = self.probed.0.clone();
                    // The network may be gone by the time of the answer.
                    tokio::task::spawn_local(async move { tell.send(probe(peers).await).await.ok() });
                }
                Errand::List => drop(commands.send(Command::List).await),
                Errand::Publish(record) => drop(commands.send(Command::Publish(record)).await),
            }
        }
    }
}

impl Kept {
    fn handle(&mut self, event: Event) {
        self.keeper.handle(event, std::time::Instant::now());
    }
}

fn lost(update: &Update) -> String {
    match update {
        Update::Lost(why) => why.clone(),
        Update::Snapshot(_) | Update::Changes(_) => "news of a network that is not defined".into(),
    }
}

/// What the question is about, if it is this network.
fn answer(kept: &mut Kept, request: &Request) -> Option<Answer> {
    if request.network().is_some_and(|network| network != kept.keeper.machine().network()) {
        return None;
    }
    let value = match request {
        Request::Status { .. } => {
            serde_json::to_value(kept.keeper.machine().status(std::time::Instant::now()))
        }
        Request::Peers { .. } => serde_json::to_value(kept.keeper.machine().peers()),
        Request::Desired { .. } => serde_json::to_value(kept.keeper.machine().desired()),
        Request::Difference { .. } => return Some(difference(kept)),
        Request::Confirm { .. } => {
            kept.handle(Event::Confirm);
            Ok(Value::Null)
        }
    };
    Some(value.map_or_else(|err| Answer::Error(err.to_string()), Answer::Ok))
}

fn difference(kept: &mut Kept) -> Answer {
    match kept.keeper.dump() {
        Err(err) => Answer::Error(err.to_string()),
        Ok(None) => Answer::Error("there is no device yet".into()),
        Ok(Some(actual)) => {
            let changes = kept.keeper.machine().difference(&actual);
            let counts: BTreeMap<_, _> = crate::host::tables::count(&actual);
            Answer::Ok(
                json!({"kernel": counts, "changes": changes.iter().map(ToString::to_string).collect::<Vec<_>>()}),
            )
        }
    }
}

async fn readable(kept: &Option<Kept>) -> std::io::Result<()> {
    match kept {
        // What was announced is read to the end, so the next announcement is a new one.
        Some(kept) => kept.readiness.readable().await.map(|mut ready| ready.clear_ready()),
        None => std::future::pending().await,
    }
}

async fn due(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

const QUEUE: usize = 64;
const AGAIN: Duration = Duration::from_secs(2);
