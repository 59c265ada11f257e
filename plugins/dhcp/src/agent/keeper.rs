//! Keeping one lease: carries out what the client decides, at the times that it names, for as long as the container has the
//! interface.

use std::{
    hash::{BuildHasher, RandomState},
    rc::Rc,
    time::Duration,
};

use cni::error::Code;
use kernel::netns::NetnsId;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
};

use crate::{
    agent::{flags::Flags, serve::failed},
    client::{Action, Client},
    lease::Lease,
    message::Identity,
    moment::Moment,
    protocol::{Allocate, Answer},
    store::{Kept, Store},
    wire::{Error, Place, Wire},
};

/// What the plugin wants of a lease.
#[derive(Debug)]
pub(super) enum Order {
    Allocate(oneshot::Sender<Answer>),
    Check(oneshot::Sender<Answer>),
    Release(oneshot::Sender<Answer>),
}

/// One lease, or one that is being asked for.
#[derive(Debug)]
pub(super) struct Keeper {
    allocate: Allocate,
    flags: Rc<Flags>,
    store: Rc<Store>,
    place: Place,
    netns: NetnsId,
    identity: Identity,
    client: Client,
    /// Open only while answers are waited for.
    wire: Option<AsyncFd<WireFd>>,
    /// Plugins that wait for the lease, and until when.
    waiting: Vec<oneshot::Sender<Answer>>,
    give_up: Moment,
    /// The lease was granted once: from then on the address is on the link, and nobody waits.
    granted: bool,
    /// It is not on the link any more.
    lost: bool,
}

#[derive(Debug)]
struct WireFd(Wire);

impl std::os::fd::AsRawFd for WireFd {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.frames.as_raw_fd()
    }
}

/// Why keeping ended.
enum End {
    /// Nothing more to do, and nothing to tell.
    Quiet,
    Failed(String),
}

impl Keeper {
    /// Asks for a lease for a container whose interface is there.
    pub(super) fn new(flags: &Rc<Flags>, store: &Rc<Store>, allocate: Allocate) -> Result<Self, Error> {
        let place = Place {
            netns: format!("{}{}", flags.host_prefix, allocate.netns),
            ifname: allocate.attachment.ifname.to_string(),
        };
        let netns = place.netns_id()?;
        let wire = place.open(netns)?;
        let identity = Identity {
            mac: wire.mac,
            client_id: crate::config::client_id(&allocate.attachment),
            wishes: allocate.wishes.clone(),
            broadcast: flags.broadcast,
        };
        let now = Moment::now();
        let client = Client::new(identity.clone(), flags.pace, random(), now);
        Ok(Self {
            allocate,
            flags: Rc::clone(flags),
            store: Rc::clone(store),
            place,
            netns,
            identity,
            client,
            wire: Some(asynchronous(wire)?),
            waiting: Vec::new(),
            give_up: now + flags.give_up,
            granted: false,
            lost: false,
        })
    }

    pub(super) fn resume(flags: &Rc<Flags>, store: &Rc<Store>, kept: Kept) -> Self {
        let (netns, identity) = (kept.netns_id(), kept.identity(flags.broadcast));
        let Kept { attachment, netns: path, wishes, priority, lease, .. } = kept;
        let client = Client::resume(identity.clone(), flags.pace, random(), lease);
        Self {
            place: Place {
                netns: format!("{}{path}", flags.host_prefix),
                ifname: attachment.ifname.to_string(),
            },
            allocate: Allocate { attachment, netns: path, wishes, priority },
            flags: Rc::clone(flags),
            store: Rc::clone(store),
            netns,
            identity,
            client,
            wire: None,
            waiting: Vec::new(),
            give_up: Moment(u64::MAX),
            granted: true,
            lost: false,
        }
    }

    /// Until the lease is released, can't be had, or the container's interface is gone.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let end = loop {
            let wake = self.wake_after(Moment::now());
            let outcome = tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Release(reply)) => {
                        // A failure is in the answer.
                        reply.send(self.release()).ok();
                        break End::Quiet;
                    }
                    Some(order) => {
                        self.obey(order);
                        Ok(())
                    }
                    None => break End::Quiet,
                },
                () = tokio::time::sleep(wake) => self.wake(),
                heard = hear(self.wire.as_ref()) => self.heard(heard),
            };
            if let Err(end) = outcome {
                break end;
            }
        };
        let attachment = &self.allocate.attachment;
        if let End::Failed(why) = end {
            log::warn!("{attachment}: {why}");
            for reply in self.waiting.drain(..) {
                reply.send(failed(Code::TryAgainLater, why.clone())).ok();
            }
        }
        if let Err(err) = self.store.forget(attachment) {
            log::error!("{attachment}: forget its lease: {err}");
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Allocate(reply) => match self.client.lease() {
                Some(lease) => drop(reply.send(Answer::Lease(Box::new(lease.clone())))),
                None if self.granted => {
                    let why = "its lease was lost, and is asked for again".to_owned();
                    drop(reply.send(failed(Code::TryAgainLater, why)));
                }
                None => self.waiting.push(reply),
            },
            Order::Check(reply) => drop(reply.send(self.check())),
            Order::Release(_) => {}
        }
    }

    fn check(&self) -> Answer {
        let attachment = &self.allocate.attachment;
        if self.client.lease().is_none() {
            return failed(Code::Internal, format!("{attachment} has no good lease"));
        }
        match self.place.require(self.netns) {
            Ok(()) => Answer::Done,
            Err(err) => failed(Code::Internal, format!("{attachment}: {err}")),
        }
    }

    fn wake_after(&self, now: Moment) -> Duration {
        let due = self.client.deadline().unwrap_or(Moment(u64::MAX));
        let due = if self.granted { due } else { due.min(self.give_up) };
        // tokio's clock does not run while the host is suspended, and has its own limit.
        due.since(now).min(LONGEST_SLEEP)
    }

    fn wake(&mut self) -> Result<(), End> {
        let now = Moment::now();
        if !self.granted && now >= self.give_up {
            let seconds = self.flags.give_up.as_secs();
            return Err(End::Failed(format!("no lease within {seconds} s: no DHCP server granted one")));
        }
        let actions = self.client.tick(now);
        self.act(actions)
    }

    fn heard(&mut self, heard: std::io::Result<Vec<kernel::frames::Packet>>) -> Result<(), End> {
        let packets = match heard {
            Ok(packets) => packets,
            Err(err) => {
                // The link went down or away; it is opened again when the next message is due.
                log::debug!("{}: {err}", self.allocate.attachment);
                self.wire = None;
                return Ok(());
            }
        };
        for packet in packets {
            let actions = self.client.receive(&packet.payload, packet.from.mac, Moment::now());
            self.act(actions)?;
        }
        Ok(())
    }

    fn act(&mut self, actions: Vec<Action>) -> Result<(), End> {
        for action in actions {
            match action {
                Action::Send(outgoing) => self.send(&outgoing)?,
                Action::Have(lease) => self.have(lease)?,
                Action::Lose(lease) => {
                    log::error!("{}: the lease of {} is lost", self.allocate.attachment, lease.address);
                    self.lost = true;
                    self.tolerate(self.place.take_off(self.netns, &lease))?;
                }
            }
        }
        if !self.client.is_listening() {
            self.wire = None;
        }
        Ok(())
    }

    /// What can't be sent now is sent again later, unless the interface is gone.
    fn send(&mut self, outgoing: &crate::client::Outgoing) -> Result<(), End> {
        if self.wire.is_none() {
            let opened = self.place.open(self.netns).and_then(asynchronous);
            self.wire = self.tolerate(opened)?;
        }
        let Some(wire) = &self.wire else { return Ok(()) };
        let sent = wire.get_ref().0.send(outgoing);
        if self.tolerate(sent.map_err(Error::from))?.is_none() {
            self.wire = None;
        }
        Ok(())
    }

    fn have(&mut self, lease: Lease) -> Result<(), End> {
        let attachment = self.allocate.attachment.clone();
        log::info!("{attachment}: {} from {}", lease.address, lease.server);
        self.tolerate(self.place.fit_mtu(self.netns, &lease))?;
        if self.lost {
            self.tolerate(self.place.put_on(self.netns, &lease, self.allocate.priority))?;
            self.lost = false;
        }
        let kept = Kept {
            attachment,
            netns: self.allocate.netns.clone(),
            netns_dev: self.netns.dev,
            netns_ino: self.netns.ino,
            mac: self.identity.mac.0,
            wishes: self.allocate.wishes.clone(),
            priority: self.allocate.priority,
            lease: lease.clone(),
        };
        if let Err(err) = self.store.keep(&kept) {
            if !self.granted {
                // Without it nobody could give the lease back when this agent ends.
                self.release_now(&lease);
                return Err(End::Failed(format!("write the lease down: {err}")));
            }
            log::error!("{}: write the lease down: {err}", kept.attachment);
        }
        self.granted = true;
        for reply in self.waiting.drain(..) {
            reply.send(Answer::Lease(Box::new(lease.clone()))).ok();
        }
        Ok(())
    }

    fn release(&mut self) -> Answer {
        if let Some(lease) = self.client.lease().cloned() {
            self.release_now(&lease);
        }
        match self.store.forget(&self.allocate.attachment) {
            Ok(()) => Answer::Done,
            Err(err) => failed(Code::Io, format!("{}: forget its lease: {err}", self.allocate.attachment)),
        }
    }

    /// A server that is not told has the address back when the lease ends.
    fn release_now(&self, lease: &Lease) {
        let outgoing = crate::client::release(&self.identity, lease, random());
        let sent = self.place.open(self.netns).and_then(|wire| Ok(wire.send(&outgoing)?));
        match sent {
            Ok(()) => log::info!("{}: released {}", self.allocate.attachment, lease.address),
            Err(err) => log::info!("{}: {} not released: {err}", self.allocate.attachment, lease.address),
        }
    }

    /// Goes on past what may pass; ends when the interface is gone.
    fn tolerate<T>(&self, result: Result<T, Error>) -> Result<Option<T>, End> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(err) if err.is_gone() => Err(End::Failed(err.to_string())),
            Err(err) => {
                log::warn!("{}: {err}", self.allocate.attachment);
                Ok(None)
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; the wire owns one descriptor, from its beginning to its end"
)]
fn asynchronous(wire: Wire) -> Result<AsyncFd<WireFd>, Error> {
    AsyncFd::with_interest(WireFd(wire), Interest::READABLE)
        .map_err(|err| Error::Kernel(kernel::error::Error::new("wait for a link", err)))
}

/// What came in; never without a wire.
async fn hear(wire: Option<&AsyncFd<WireFd>>) -> std::io::Result<Vec<kernel::frames::Packet>> {
    let Some(wire) = wire else { return std::future::pending().await };
    let mut ready = wire.readable().await?;
    let mut packets = Vec::new();
    while let Some(packet) = ready.get_inner().0.frames.receive().map_err(std::io::Error::other)? {
        packets.push(packet);
        if packets.len() == BURST {
            return Ok(packets);
        }
    }
    ready.clear_ready();
    Ok(packets)
}

/// Hard to guess, which is all that a transaction's number has for protection.
fn random() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(Moment::now().0).to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

const LONGEST_SLEEP: Duration = Duration::from_secs(60);
const BURST: usize = 64;
