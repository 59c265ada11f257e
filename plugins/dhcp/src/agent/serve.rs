//! Answering the plugin. Knows which task keeps which lease, and nothing of DHCP.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

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
    protocol::{Allocate, Answer, Question},
    store::Store,
};

/// All leases of this host. Cloning shares them.
#[derive(Debug, Clone)]
pub(super) struct Agent {
    flags: Rc<Flags>,
    store: Rc<Store>,
    keepers: Rc<RefCell<BTreeMap<Attachment, mpsc::Sender<Order>>>>,
}

impl Agent {
    pub(super) fn new(flags: Flags, store: Store) -> Self {
        Self { flags: Rc::new(flags), store: Rc::new(store), keepers: Rc::default() }
    }

    /// Goes on with the leases of an agent that ended.
    pub(super) fn resume(&self) {
        for kept in self.store.all() {
            log::info!("{}: going on with {}", kept.attachment, kept.lease.address);
            let attachment = kept.attachment.clone();
            self.start(&attachment, Keeper::resume(&self.flags, &self.store, kept));
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
            Question::Check(attachment) => match self.order(&attachment, Order::Check).await {
                Some(answer) => answer,
                None => failed(Code::Internal, format!("{attachment} has no lease")),
            },
            Question::Release(attachment) => self.release(&attachment).await,
            Question::Collect { network, valid } => self.collect(&network, &valid).await,
        }
    }

    /// A second call for one attachment waits for the same lease.
    async fn allocate(&self, allocate: Allocate) -> Answer {
        let attachment = allocate.attachment.clone();
        if !self.keepers.borrow().contains_key(&attachment) {
            let keeper = match Keeper::new(&self.flags, &self.store, allocate) {
                Ok(keeper) => keeper,
                Err(err) => return failed(Code::Internal, format!("{attachment}: {err}")),
            };
            self.start(&attachment, keeper);
        }
        let answer = self.order(&attachment, Order::Allocate).await;
        answer.unwrap_or_else(|| failed(Code::TryAgainLater, format!("{attachment}: released meanwhile")))
    }

    async fn release(&self, attachment: &Attachment) -> Answer {
        if let Some(answer) = self.order(attachment, Order::Release).await {
            return answer;
        }
        // Left by an agent that ended before this one began, and not readable then.
        match self.store.forget(attachment) {
            Ok(()) => Answer::Done,
            Err(err) => failed(Code::Io, format!("{attachment}: forget its lease: {err}")),
        }
    }

    async fn collect(&self, network: &str, valid: &[(String, String)]) -> Answer {
        let is_stale = |attachment: &&Attachment| {
            attachment.network.as_str() == network
                && !valid.iter().any(|(container, ifname)| {
                    attachment.container.as_str() == container && attachment.ifname.as_str() == ifname
                })
        };
        let stale: Vec<_> = self.keepers.borrow().keys().filter(is_stale).cloned().collect();
        let mut failures = Vec::new();
        for attachment in stale {
            if let Answer::Failed { why, .. } = self.release(&attachment).await {
                failures.push(why);
            }
        }
        if failures.is_empty() { Answer::Done } else { failed(Code::Internal, failures.join("; ")) }
    }

    /// None when nobody keeps a lease for the attachment.
    async fn order(
        &self,
        attachment: &Attachment,
        order: fn(oneshot::Sender<Answer>) -> Order,
    ) -> Option<Answer> {
        let keeper = self.keepers.borrow().get(attachment).cloned()?;
        let (reply, answer) = oneshot::channel();
        keeper.send(order(reply)).await.ok()?;
        answer.await.ok()
    }

    fn start(&self, attachment: &Attachment, keeper: Keeper) {
        let (orders, inbox) = mpsc::channel(ORDERS);
        self.keepers.borrow_mut().insert(attachment.clone(), orders.clone());
        let (keepers, attachment) = (Rc::clone(&self.keepers), attachment.clone());
        spawn_local(async move {
            keeper.run(inbox).await;
            let mut keepers = keepers.borrow_mut();
            // Another may have begun for the attachment by now.
            if keepers.get(&attachment).is_some_and(|current| current.same_channel(&orders)) {
                keepers.remove(&attachment);
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
