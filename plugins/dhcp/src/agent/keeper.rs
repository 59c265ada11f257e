//! Keeping one lease: carries out what the client decides, at the times that it names, for as long as the container has the
//! interface.

use std::{rc::Rc, time::Duration};

use cni::error::Code;
use kernel::{mac::MacAddr, netns::NetnsId};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
};

use crate::{
    agent::{flags::Flags, serve::failed},
    client::{Action, Client, Heard, Outgoing, Wire},
    config::{Family, client_id, duid},
    lease::Lease,
    moment::{Moment, random},
    place::{Error, Place},
    protocol::{Allocate, Answer},
    store::{Kept, Store},
    v4, v6,
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
    family: Family,
    flags: Rc<Flags>,
    store: Rc<Store>,
    place: Place,
    netns: NetnsId,
    mac: MacAddr,
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
        match &self.0 {
            Wire::V4(wire) => wire.frames.as_raw_fd(),
            Wire::V6(wire) => wire.as_raw_fd(),
        }
    }
}

/// Why keeping ended.
enum End {
    /// Nothing more to do, and nothing to tell.
    Quiet,
    Failed(String),
}

impl Keeper {
    /// Asks for a lease of one family for a container whose interface is there.
    pub(super) fn new(
        flags: &Rc<Flags>,
        store: &Rc<Store>,
        allocate: Allocate,
        family: Family,
    ) -> Result<Self, Error> {
        let place = Place {
            netns: format!("{}{}", flags.host_prefix, allocate.netns),
            ifname: allocate.attachment.ifname.to_string(),
        };
        let netns = place.netns_id()?;
        let mac = place.ready(netns)?;
        if family == Family::V6 {
            place.ready_v6(netns, allocate.priority)?;
        }
        let now = Moment::now();
        Ok(Self {
            client: client(flags, &allocate, family, mac),
            allocate,
            family,
            flags: Rc::clone(flags),
            store: Rc::clone(store),
            place,
            netns,
            mac,
            wire: None,
            waiting: Vec::new(),
            give_up: now + flags.give_up,
            granted: false,
            lost: false,
        })
    }

    pub(super) fn resume(flags: &Rc<Flags>, store: &Rc<Store>, kept: Kept) -> Self {
        let client = Client::resume(&kept, flags.broadcast, flags.pace, random());
        let (netns, family) = (kept.netns_id(), kept.lease.family());
        let Kept { attachment, netns: path, wishes, priority, mac, .. } = kept;
        Self {
            place: Place {
                netns: format!("{}{path}", flags.host_prefix),
                ifname: attachment.ifname.to_string(),
            },
            allocate: Allocate { attachment, netns: path, families: vec![family], wishes, priority },
            family,
            flags: Rc::clone(flags),
            store: Rc::clone(store),
            netns,
            mac: MacAddr(mac),
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
                    Some(order) => self.obey(order),
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
            let answer = failed(Code::TryAgainLater, why);
            for reply in self.waiting.drain(..) {
                reply.send(answer.clone()).ok();
            }
        }
        if let Err(err) = self.store.forget(attachment, self.family) {
            log::error!("{attachment}: forget its lease: {err}");
        }
    }

    fn obey(&mut self, order: Order) -> Result<(), End> {
        match order {
            Order::Allocate(reply) => {
                self.waiting.push(reply);
                match self.client.lease() {
                    Some(lease) => {
                        // The container may be another by now, of the same name.
                        let there = self.place.require(self.netns);
                        self.tolerate(there)?;
                        self.answer(&Answer::Leases(vec![lease]));
                    }
                    None if self.granted => {
                        let why = "its lease was lost, and is asked for again".to_owned();
                        self.answer(&failed(Code::TryAgainLater, why));
                    }
                    None => {}
                }
            }
            Order::Check(reply) => drop(reply.send(self.check())),
            Order::Release(_) => {}
        }
        Ok(())
    }

    /// Whoever waits has it now.
    fn answer(&mut self, answer: &Answer) {
        for reply in self.waiting.drain(..) {
            reply.send(answer.clone()).ok();
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
            let nobody = match self.family {
                Family::V4 => "no DHCP server granted one",
                Family::V6 => "no router named a prefix for it, and no DHCPv6 server granted one",
            };
            return Err(End::Failed(format!("no {} lease within {seconds} s: {nobody}", self.family)));
        }
        let actions = self.client.tick(now);
        self.act(actions)
    }

    fn heard(&mut self, heard: std::io::Result<Vec<Heard>>) -> Result<(), End> {
        let heard = match heard {
            Ok(heard) => heard,
            Err(err) => {
                // The link went down or away; it is opened again when the next message is due.
                log::debug!("{}: {err}", self.allocate.attachment);
                self.wire = None;
                return Ok(());
            }
        };
        for heard in heard {
            let actions = self.client.receive(&heard, Moment::now());
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
                    log::error!("{}: the lease of {} is lost", self.allocate.attachment, lease.address());
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
    fn send(&mut self, outgoing: &Outgoing) -> Result<(), End> {
        if !self.wire.as_ref().is_some_and(|wire| wire.get_ref().0.carries(outgoing)) {
            self.wire = None;
            let opened = self.place.open(self.netns, outgoing).and_then(asynchronous);
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
        log::info!("{attachment}: {lease}");
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
            mac: self.mac.0,
            wishes: self.allocate.wishes.clone(),
            priority: self.allocate.priority,
            lease: lease.clone(),
        };
        if let Err(err) = self.store.keep(&kept) {
            if !self.granted {
                // Without it nobody could give the lease back when this agent ends.
                self.release_now();
                return Err(End::Failed(format!("write the lease down: {err}")));
            }
            log::error!("{}: write the lease down: {err}", kept.attachment);
        }
        self.granted = true;
        self.answer(&Answer::Leases(vec![lease]));
        Ok(())
    }

    fn release(&mut self) -> Answer {
        self.release_now();
        match self.store.forget(&self.allocate.attachment, self.family) {
            Ok(()) => Answer::Done,
            Err(err) => failed(Code::Io, format!("{}: forget its lease: {err}", self.allocate.attachment)),
        }
    }

    /// A server that is not told has the address back when the lease ends.
    fn release_now(&mut self) {
        let Some(outgoing) = self.client.release() else { return };
        // The client's port is free for another wire only then.
        self.wire = None;
        let attachment = &self.allocate.attachment;
        let opened = self.place.open(self.netns, &outgoing);
        match opened.and_then(|wire| Ok(wire.send(&outgoing)?)) {
            Ok(()) => log::info!("{attachment}: released its {} lease", self.family),
            Err(err) => log::info!("{attachment}: {} lease not released: {err}", self.family),
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
async fn hear(wire: Option<&AsyncFd<WireFd>>) -> std::io::Result<Vec<Heard>> {
    let Some(wire) = wire else { return std::future::pending().await };
    let mut ready = wire.readable().await?;
    let mut all = Vec::new();
    while let Some(heard) = ready.get_inner().0.receive().map_err(std::io::Error::other)? {
        all.push(heard);
        if all.len() == BURST {
            return Ok(all);
        }
    }
    ready.clear_ready();
    Ok(all)
}

fn client(flags: &Flags, allocate: &Allocate, family: Family, mac: MacAddr) -> Client {
    let Allocate { attachment, wishes, .. } = allocate;
    let (seed, now) = (random(), Moment::now());
    match family {
        Family::V4 => {
            let identity = v4::message::Identity {
                mac,
                client_id: client_id(attachment),
                wishes: wishes.clone(),
                broadcast: flags.broadcast,
            };
            Client::V4(v4::client::Client::new(identity, flags.pace, seed, now))
        }
        Family::V6 => {
            let identity =
                v6::message::Identity { mac, duid: duid(attachment), host_name: wishes.host_name() };
            Client::V6(v6::client::Client::new(identity, flags.pace, seed, now))
        }
    }
}

const LONGEST_SLEEP: Duration = Duration::from_secs(60);
const BURST: usize = 64;
