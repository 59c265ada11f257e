//! Following a directory: list, claim, watch, and again after whatever goes wrong. Knows no kernel.

use std::time::Duration;

use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};
use tokio::{
    sync::mpsc,
    time::{Instant, interval, sleep_until},
};

use crate::{
    directory::{Directory, DirectoryError, Listing, Watched},
    machine,
    names::NodeName,
    peer::Record,
    state::Standing,
};

/// What the network's task wants of the directory.
#[derive(Debug)]
pub(super) enum Command {
    List,
    Publish(Record),
}

/// What the directory has to say.
#[derive(Debug)]
pub(super) enum News {
    Listed(Box<Listing>),
    Update(machine::Update),
    Standing(Standing),
}

/// One network's directory, followed.
pub(super) struct Follower<D> {
    pub(super) directory: D,
    pub(super) node: NodeName,
    /// What we owned in an earlier life, and own now.
    pub(super) owned: Vec<IpNetwork>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) news: mpsc::Sender<News>,
    record: Option<Record>,
}

/// Why a session with the directory is over.
enum End {
    /// It must be read anew.
    Stale,
    /// Nobody listens any more.
    Closed,
}

impl<D: Directory> Follower<D> {
    pub(super) fn new(
        directory: D,
        node: NodeName,
        owned: Vec<IpNetwork>,
        commands: mpsc::Receiver<Command>,
        news: mpsc::Sender<News>,
    ) -> Self {
        Self { directory, node, owned, commands, news, record: None }
    }

    /// Goes on until nobody listens.
    pub(super) async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        let mut attempt = 0_u32;
        loop {
            let started = Instant::now();
            match self.session().await {
                Ok(End::Closed) => return,
                Ok(End::Stale) => continue,
                Err(err) => {
                    let lost = News::Update(machine::Update::Lost(err.to_string()));
                    if self.news.send(lost).await.is_err() {
                        return;
                    }
                }
            }
            // A session that held for a while was a good one.
            wait = if started.elapsed() > LAST_WAIT { FIRST_WAIT } else { (wait * 2).min(LAST_WAIT) };
            attempt = attempt.wrapping_add(1);
            if !self.pause(wait.mul_f64(jitter(&self.node, attempt))).await {
                return;
            }
        }
    }

    async fn session(&mut self) -> Result<End, DirectoryError> {
        let listing = self.directory.list().await?;
        if self.news.send(News::Listed(Box::new(listing))).await.is_err() {
            return Ok(End::Closed);
        }
        let mut again = self.claim().await?;
        let mut beat = self.directory.heartbeat_every().map(interval);
        loop {
            let Self { directory, commands, .. } = self;
            tokio::select! {
                watched = directory.watch() => match watched? {
                    Watched::Everything => return Ok(End::Stale),
                    Watched::Changes(changes) => {
                        let update = News::Update(machine::Update::Changes(changes));
                        if self.news.send(update).await.is_err() {
                            return Ok(End::Closed);
                        }
                        again = self.claim().await?;
                    }
                },
                command = commands.recv() => match command {
                    None => return Ok(End::Closed),
                    Some(Command::List) => return Ok(End::Stale),
                    Some(Command::Publish(record)) => {
                        self.record = Some(record);
                        again = self.claim().await?;
                    }
                },
                () = tick(&mut beat) => self.directory.heartbeat().await?,
                () = due(again) => again = self.claim().await?,
            }
        }
    }

    /// Claims what is ours; says when to try again if that did not make us an owner.
    async fn claim(&mut self) -> Result<Option<Instant>, DirectoryError> {
        let standing = self.directory.claim(self.record.as_ref(), &self.owned).await?;
        let again = !matches!(standing, Standing::Owner { .. });
        if let Standing::Owner { subnets } = &standing {
            self.owned.clone_from(subnets);
        }
        // The receiver's end is noticed by the next wait.
        let _ = self.news.send(News::Standing(standing)).await;
        Ok(again.then(|| Instant::now() + CLAIM_AGAIN))
    }

    /// Waits, and remembers what it is told meanwhile. False when nobody is left to tell.
    async fn pause(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            tokio::select! {
                () = sleep_until(end) => return true,
                command = self.commands.recv() => match command {
                    None => return false,
                    Some(Command::List) => return true,
                    Some(Command::Publish(record)) => self.record = Some(record),
                },
            }
        }
    }
}

async fn tick(beat: &mut Option<tokio::time::Interval>) {
    match beat {
        Some(beat) => drop(beat.tick().await),
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Between 0.5 and 1.5, another for each host and attempt: hosts that lost a directory together do not come back together.
fn jitter(node: &NodeName, attempt: u32) -> f64 {
    let mut hash = Sha256::new();
    hash.update(node.as_str());
    hash.update(attempt.to_be_bytes());
    let [first, ..] = <[u8; 32]>::from(hash.finalize());
    0.5 + f64::from(first) / 256.0
}

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LAST_WAIT: Duration = Duration::from_secs(5);
/// How long a host that owns nothing waits before it looks again.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);
