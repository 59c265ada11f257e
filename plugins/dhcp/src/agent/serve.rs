//! Answering the plugin. Knows which task keeps which lease, and nothing of DHCP.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use cni::{error::Code, names::Attachment};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::spawn_local,
    time::timeout,
};

use crate::{
    agent::{
        flags::Flags,
        keeper::{Keeper, Order},
    },
    config::Family,
    lease::Lease,
    protocol::{Allocate, Answer, Question},
    store::Store,
};

/// Each lease has a keeper.
type Key = (Attachment, Family);

/// All leases of this host. Cloning shares them.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    flags: Rc<Flags>,
    store: Rc<Store>,
    keepers: Rc<RefCell<BTreeMap<Key, mpsc::Sender<Order>>>>,
}

impl Agent {
    pub(super) fn new(flags: Flags, store: Store) -> Self {
        Self { flags: Rc::new(flags), store: Rc::new(store), keepers: Rc::default() }
    }

    /// Goes on with the leases of an agent that ended.
    pub(super) fn resume(&self) {
        for kept in self.store.all() {
            log::info!("{}: going on with {}", kept.attachment, kept.lease);
            let key = (kept.attachment.clone(), kept.lease.family());
            self.start(&key, Keeper::resume(&self.flags, &self.store, kept));
        }
    }

    /// Serves each connection by itself.
    pub(super) async fn accept(&self, listener: &UnixListener) -> anyhow::Result<()> {
        loop {
            let (stream, _) = listener.accept().await?;
            let agent = self.clone();
            spawn_local(async move {
                if let Err(err) = agent.serve(stream).await {
                    log::warn!("serve a plugin: {err:#}");
                }
            });
        }
    }

    async fn serve(&self, mut stream: UnixStream) -> anyhow::Result<()> {
        let (reader, mut writer) = stream.split();
        let mut line = String::new();
        let mut reader = BufReader::new(reader.take(LONGEST_QUESTION));
        timeout(PATIENCE, reader.read_line(&mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(question) => self.answer(question).await,
            Err(err) => failed(Code::Decode, format!("the question: {err}")),
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        timeout(PATIENCE, writer.write_all(&line)).await??;
        Ok(())
    }

    async fn answer(&self, question: Question) -> Answer {
        match question {
            Question::Status => Answer::Done,
            Question::Allocate(allocate) => self.allocate(allocate).await,
            Question::Check { attachment, families } => self.check(&attachment, &families).await,
            Question::Release(attachment) => self.release(&attachment).await,
            Question::Collect { network, valid } => self.collect(&network, &valid).await,
        }
    }

    /// A second call for one attachment waits for the same leases. One without the other is given back.
    async fn allocate(&self, allocate: Allocate) -> Answer {
        let attachment = allocate.attachment.clone();
        let mut leases = Vec::new();
        match self.allocate_each(allocate, &mut leases).await {
            Answer::Failed { code, why } => {
                self.release(&attachment).await;
                Answer::Failed { code, why }
            }
            _ => Answer::Leases(leases),
        }
    }

    async fn allocate_each(&self, allocate: Allocate, leases: &mut Vec<Lease>) -> Answer {
        let keys: Vec<_> =
            allocate.families.iter().map(|family| (allocate.attachment.clone(), *family)).collect();
        // All begin before one is waited for.
        for key in &keys {
            if self.keepers.borrow().contains_key(key) {
                continue;
            }
            match Keeper::new(&self.flags, &self.store, allocate.clone(), key.1) {
                Ok(keeper) => self.start(key, keeper),
                Err(err) => return failed(Code::Internal, format!("{}: {err}", key.0)),
            }
        }
        for key in &keys {
            match self.order(key, Order::Allocate).await {
                Some(Answer::Leases(mut granted)) => leases.append(&mut granted),
                Some(other) => return other,
                None => return failed(Code::TryAgainLater, format!("{}: released meanwhile", key.0)),
            }
        }
        Answer::Done
    }

    async fn check(&self, attachment: &Attachment, families: &[Family]) -> Answer {
        for family in families {
            match self.order(&(attachment.clone(), *family), Order::Check).await {
                Some(Answer::Done) => {}
                Some(other) => return other,
                None => return failed(Code::Internal, format!("{attachment} has no {family} lease")),
            }
        }
        Answer::Done
    }

    async fn release(&self, attachment: &Attachment) -> Answer {
        let mut answer = Answer::Done;
        for family in Family::ALL {
            let released = match self.order(&(attachment.clone(), family), Order::Release).await {
                Some(released) => released,
                // Perhaps left by an agent that ended before this one began, and not readable then.
                None => match self.store.forget(attachment, family) {
                    Ok(()) => Answer::Done,
                    Err(err) => failed(Code::Io, format!("{attachment}: forget its lease: {err}")),
                },
            };
            if answer == Answer::Done {
                answer = released;
            }
        }
        answer
    }

    async fn collect(&self, network: &str, valid: &[(String, String)]) -> Answer {
        let is_stale = |attachment: &Attachment| {
            attachment.network.as_str() == network
                && !valid.iter().any(|(container, ifname)| {
                    attachment.container.as_str() == container && attachment.ifname.as_str() == ifname
                })
        };
        let keepers = self.keepers.borrow().keys().map(|(attachment, _)| attachment.clone()).collect();
        let stale = BTreeSet::into_iter(keepers).filter(is_stale);
        let mut failures = Vec::new();
        for attachment in stale {
            if let Answer::Failed { why, .. } = self.release(&attachment).await {
                failures.push(why);
            }
        }
        if failures.is_empty() { Answer::Done } else { failed(Code::Internal, failures.join("; ")) }
    }

    /// None when nobody keeps a lease of the family for the attachment.
    async fn order(&self, key: &Key, order: fn(oneshot::Sender<Answer>) -> Order) -> Option<Answer> {
        let keeper = self.keepers.borrow().get(key).cloned()?;
        let (reply, answer) = oneshot::channel();
        keeper.send(order(reply)).await.ok()?;
        answer.await.ok()
    }

    fn start(&self, key: &Key, keeper: Keeper) {
        let (orders, inbox) = mpsc::channel(ORDERS);
        self.keepers.borrow_mut().insert(key.clone(), orders.clone());
        let (keepers, key) = (Rc::clone(&self.keepers), key.clone());
        spawn_local(async move {
            keeper.run(inbox).await;
            let mut keepers = keepers.borrow_mut();
            // Another may have begun for the attachment by now.
            if keepers.get(&key).is_some_and(|current| current.same_channel(&orders)) {
                keepers.remove(&key);
            }
        });
    }
}

pub(super) fn failed(code: Code, why: String) -> Answer {
    Answer::Failed { code: code.into(), why }
}

const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_QUESTION: u64 = 1 << 20;
const ORDERS: usize = 16;
