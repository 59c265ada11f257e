//! One blocking NETLINK_ROUTE socket: requests out, acknowledgements and answers in. Knows no link, address or route.
//!
//! The kernel works through all messages of one `sendmsg(2)` before that call returns, an error in one does not stop
//! the next (`netlink_rcv_skb`, net/netlink/af_netlink.c), and it acknowledges only what asks for it. So a batch asks
//! for one acknowledgement, of its last message, unless that has an answer anyway: whatever comes before is an error or
//! an answer.

mod wire;

use std::{
    io::{self, ErrorKind},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};
use socket2::{SockFilter, SockRef};
use wire::{Incoming, messages, push};

use crate::{
    error::{Error, Result},
    netns::Netns,
};

/// One message for the kernel, with the name of the act for its error.
#[derive(Clone, Debug)]
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
    act: String,
    tolerance: Tolerance,
    /// Descriptors that the message names by number: open until the request is gone.
    _keep: Vec<Netns>,
}

/// What a request takes for success; each may be allowed beside the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tolerance {
    exists: bool,
    missing: bool,
    unsupported: bool,
}

impl Request {
    /// `flags` are the `NLM_F_*` beyond request and acknowledgement (create, exclusive, replace, append).
    pub fn new(message: RouteNetlinkMessage, flags: u16, act: impl Into<String>) -> Self {
        Self { message, flags, act: act.into(), tolerance: Tolerance::default(), _keep: Vec::new() }
    }

    /// Takes "it exists already" for success.
    #[must_use]
    pub fn ok_if_exists(self) -> Self {
        Self { tolerance: Tolerance { exists: true, ..self.tolerance }, ..self }
    }

    /// Takes "there is none" for success ([`Error::is_missing`]).
    #[must_use]
    pub fn ok_if_missing(self) -> Self {
        Self { tolerance: Tolerance { missing: true, ..self.tolerance }, ..self }
    }

    /// Takes "the kernel does not have that here" for success ([`Error::is_unsupported`]).
    #[must_use]
    pub fn ok_if_unsupported(self) -> Self {
        Self { tolerance: Tolerance { unsupported: true, ..self.tolerance }, ..self }
    }

    /// What will be sent.
    pub fn message(&self) -> &RouteNetlinkMessage {
        &self.message
    }

    /// The act as its error will name it.
    pub fn act(&self) -> &str {
        &self.act
    }

    pub(crate) fn keeping(mut self, netns: Option<Netns>) -> Self {
        self._keep.extend(netns);
        self
    }

    /// One object comes back, or an error.
    fn is_question(&self) -> bool {
        matches!(self.message, RouteNetlinkMessage::GetLink(_) | RouteNetlinkMessage::GetRoute(_))
    }

    fn accepts(&self, error: &Error) -> bool {
        (self.tolerance.exists && error.is_exists())
            || (self.tolerance.missing && error.is_missing())
            || (self.tolerance.unsupported && error.is_unsupported())
    }
}

/// What the kernel answered to several requests. The number is the index of the request.
#[derive(Debug, Default)]
pub struct Answers {
    /// Objects that were asked for.
    pub replies: Vec<(usize, RouteNetlinkMessage)>,
    /// Requests that failed, tolerated failures left out, in the order of the requests.
    pub failures: Vec<(usize, Error)>,
}

/// Whether [`Netlink::event`] tells of new forwarding entries, whoever made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    Heard,
    Unheard,
}

/// A blocking NETLINK_ROUTE socket. It works in the namespace it was opened in, whichever thread uses it.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    port: u32,
    sequence: u32,
    outgoing: Vec<u8>,
    /// Of a fixed capacity, never zeroed: most answers touch one page of it.
    incoming: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> Result<Self> {
        let act = |err| Error::new("open netlink socket", err);
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(act)?;
        let port = socket.bind_auto().map_err(act)?.port_number();
        // Not before Linux 4.12, 4.2 and 4.20; nothing here depends on them.
        for set in [Socket::set_ext_ack, Socket::set_cap_ack, Socket::set_netlink_get_strict_chk] {
            known(set(&socket, true)).map_err(act)?;
        }
        // The forced size needs CAP_NET_ADMIN, as everything but reading does.
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_QUEUE).is_err() {
            socket.set_rx_buf_sz(RECEIVE_QUEUE).map_err(act)?;
        }
        Ok(Self { socket, port, sequence: 0, outgoing: Vec::new(), incoming: Vec::with_capacity(BUFFER) })
    }

    /// Opens a socket in `netns`; the calling thread stays where it is.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.visit(Self::open)?
    }

    /// Sends one request and waits until it is done.
    pub fn execute(&mut self, request: Request) -> Result<()> {
        self.batch(&[request])
    }

    /// Sends all requests at once and waits until the last is done. The kernel goes on past a request that fails;
    /// the error is that of the first one that did.
    pub fn batch(&mut self, requests: &[Request]) -> Result<()> {
        self.ask(requests)?.failures.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// As [`Netlink::batch`], and hands back every answer and every failure.
    pub fn ask(&mut self, requests: &[Request]) -> Result<Answers> {
        let mut answers = Answers::default();
        let mut done = 0;
        while done < requests.len() {
            let rest = &requests[done..];
            let (taken, first) = self.send(rest)?;
            self.collect(&rest[..taken], first, done, &mut answers)?;
            done += taken;
        }
        Ok(answers)
    }

    /// Asks for every object that matches `message`. Starts again when the kernel says that the objects changed under
    /// way (`NLM_F_DUMP_INTR`), so that the answer is of one moment.
    pub fn dump(&mut self, message: &RouteNetlinkMessage, act: &str) -> Result<Vec<RouteNetlinkMessage>> {
        for _ in 0..DUMP_ATTEMPTS {
            if let Some(objects) = self.dump_once(message, act)? {
                return Ok(objects);
            }
        }
        // What the kernel shows keeps changing; the netlink documentation leaves the choice of an error to us.
        Err(Error::new(act, Errno::EAGAIN))
    }

    fn dump_once(
        &mut self,
        message: &RouteNetlinkMessage,
        act: &str,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>> {
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.outgoing.clear();
        push(&mut self.outgoing, message, NLM_F_REQUEST | NLM_F_DUMP, sequence);
        self.transmit(act)?;
        let mut objects = Vec::new();
        let (mut consistent, mut decoded) = (true, Ok(()));
        loop {
            let length = self.receive(act, 0)?;
            for incoming in messages(&self.incoming[..length]) {
                let incoming = incoming.map_err(|err| Error::malformed(act, err))?;
                if incoming.port != self.port || incoming.sequence != sequence {
                    continue;
                }
                consistent &= incoming.flags & NLM_F_DUMP_INTR == 0;
                if matches!(incoming.kind, NLMSG_DONE | NLMSG_ERROR) {
                    incoming.outcome(act)?;
                    decoded?;
                    return Ok(consistent.then_some(objects));
                }
                match incoming.decode(act) {
                    Ok(object) => objects.push(object),
                    Err(err) => decoded = Err(err),
                }
            }
        }
    }

    /// Puts as many of `requests` as fit into one send; says how many, and the sequence number of the first.
    fn send(&mut self, requests: &[Request]) -> Result<(usize, u32)> {
        let taken = fitting(requests);
        let first = self.sequence.wrapping_add(1);
        self.outgoing.clear();
        for (index, request) in requests[..taken].iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let acknowledge = if index + 1 == taken && !request.is_question() { NLM_F_ACK } else { 0 };
            push(
                &mut self.outgoing,
                &request.message,
                NLM_F_REQUEST | acknowledge | request.flags,
                self.sequence,
            );
        }
        self.transmit(&requests[0].act)?;
        Ok((taken, first))
    }

    /// Reads until the last of `requests` is acknowledged or answered. `offset` is the index of the first of them.
    fn collect(
        &mut self,
        requests: &[Request],
        first: u32,
        offset: usize,
        answers: &mut Answers,
    ) -> Result<()> {
        let act = &requests[0].act;
        loop {
            let length = self.receive(act, 0)?;
            for incoming in messages(&self.incoming[..length]) {
                let incoming = incoming.map_err(|err| Error::malformed(act, err))?;
                let index = usize::try_from(incoming.sequence.wrapping_sub(first)).unwrap_or(usize::MAX);
                let Some(request) = requests.get(index).filter(|_| incoming.port == self.port) else {
                    continue;
                };
                let ends = incoming.kind == NLMSG_ERROR || request.is_question();
                let last = index + 1 == requests.len() && ends;
                answers.note(index + offset, request, &incoming);
                if last {
                    return Ok(());
                }
            }
        }
    }

    fn transmit(&self, act: &str) -> Result<()> {
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.socket.send_to(&self.outgoing, &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => return Err(Error::new(act, err)),
            }
        }
    }

    /// Reads one datagram of the kernel into `incoming` and returns its length.
    fn receive(&mut self, act: &str, flags: i32) -> Result<usize> {
        loop {
            self.incoming.clear();
            match self.socket.recv_from(&mut self.incoming, libc::MSG_TRUNC | flags) {
                Ok((_, sender)) if sender.port_number() != 0 => {}
                Ok((length, _)) if length > self.incoming.len() => {
                    return Err(Error::malformed(act, format_args!("a reply of {length} bytes was cut off")));
                }
                Ok((length, _)) => return Ok(length),
                Err(err) if err.kind() == ErrorKind::Interrupted => {}
                Err(err) => {
                    let error = Error::new(act, err);
                    if error.is_overrun() {
                        self.drain();
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Empties the queue, so that the answer to the next request finds room.
    fn drain(&mut self) {
        while self.socket.recv_from(&mut self.incoming, libc::MSG_DONTWAIT).is_ok() {
            self.incoming.clear();
        }
    }

    /// Starts to receive what the kernel tells `group` (`RTNLGRP_*`, include/uapi/linux/rtnetlink.h). Events that
    /// arrive while a request waits for its answer are dropped: subscribe, list, then only [`Netlink::event`].
    pub fn subscribe(&mut self, group: u32) -> Result<()> {
        self.socket.add_membership(group).map_err(|err| Error::new("subscribe to netlink events", err))
    }

    /// The socket's own address, which the kernel puts into the events that its requests cause.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Keeps out of the queue what the socket of that port caused, where the kernel says so: it does for routes and
    /// neighbours, and does not for the forwarding entries of tunnels. Takes the place of what was said before.
    pub fn ignore(&self, port: u32, entries: Entries) -> Result<()> {
        let op = SockFilter::new;
        // Halves and words are loaded as network order, which netlink is not in.
        let own = [
            op(LOAD_WORD, 0, 0, NLMSG_PID),
            op(JUMP_EQUAL, 0, 1, u32::from_be_bytes(port.to_ne_bytes())),
            op(RETURN, 0, 0, 0),
        ];
        let new_entry = [
            op(LOAD_HALF, 0, 0, NLMSG_TYPE),
            op(JUMP_EQUAL, 0, 3, u32::from(u16::from_be_bytes(RTM_NEWNEIGH.to_ne_bytes()))),
            op(LOAD_BYTE, 0, 0, NDM_FAMILY),
            op(JUMP_EQUAL, 0, 1, AF_BRIDGE),
            op(RETURN, 0, 0, 0),
        ];
        let all = [op(RETURN, 0, 0, u32::MAX)];
        let mut filter = Vec::from(own);
        if entries == Entries::Unheard {
            filter.extend(new_entry);
        }
        filter.extend(all);
        let attached = SockRef::from(&self.socket).attach_filter(&filter);
        attached.map_err(|err| Error::new("filter netlink events", err))
    }

    /// Ends [`Netlink::subscribe`]. Events already queued stay, and are dropped by the next request.
    pub fn unsubscribe(&mut self, group: u32) -> Result<()> {
        self.socket.drop_membership(group).map_err(|err| Error::new("unsubscribe from netlink events", err))
    }

    /// The events of the next datagram, or none when `deadline` passes first. When some were lost for want of room the
    /// error says so ([`Error::is_overrun`]), and the state has to be listed again.
    pub fn event(&mut self, deadline: Instant) -> Result<Vec<RouteNetlinkMessage>> {
        let act = "read netlink events";
        if !self.wait_readable(deadline)? {
            return Ok(Vec::new());
        }
        let length = self.receive(act, 0)?;
        self.events_of(length, act)
    }

    /// As [`Netlink::event`], for whom time is dear: `None` at once when nothing is there.
    pub fn event_now(&mut self) -> Result<Option<Vec<RouteNetlinkMessage>>> {
        let act = "read netlink events";
        match self.receive(act, libc::MSG_DONTWAIT) {
            Err(err) if err.kind() == ErrorKind::WouldBlock => Ok(None),
            length => self.events_of(length?, act).map(Some),
        }
    }

    fn events_of(&self, length: usize, act: &str) -> Result<Vec<RouteNetlinkMessage>> {
        messages(&self.incoming[..length])
            .map(|incoming| incoming.map_err(|err| Error::malformed(act, err)))
            .filter(|incoming| incoming.as_ref().map_or(true, |i| i.port != self.port || i.sequence == 0))
            .map(|incoming| incoming?.decode(act))
            .collect()
    }

    /// Waits until an event is there, and leaves it there; false when `deadline` passes first. The next request drops
    /// what is queued, so "ask, then wait, then ask again" misses nothing.
    pub fn wait_readable(&self, deadline: Instant) -> Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the last fraction of a millisecond is waited for and not spun away.
            let timeout =
                PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) if Instant::now() >= deadline => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(err) => return Err(Error::new("wait for netlink events", err)),
            }
        }
    }
}

impl Answers {
    fn note(&mut self, index: usize, request: &Request, incoming: &Incoming<'_>) {
        let result = match incoming.kind {
            NLMSG_ERROR | NLMSG_DONE => incoming.outcome(&request.act),
            _ => incoming.decode(&request.act).map(|object| self.replies.push((index, object))),
        };
        if let Err(error) = result.or_else(|error| if request.accepts(&error) { Ok(()) } else { Err(error) })
        {
            self.failures.push((index, error));
        }
    }
}

/// Takes an option that this kernel does not have for set.
fn known(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|err| if err.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(()) } else { Err(err) })
}

/// How many of `requests` go into one send: at least one, and no more than the buffers on both sides hold.
fn fitting(requests: &[Request]) -> usize {
    let mut length = 0;
    let fits = |request: &&Request| {
        length += request.message.buffer_len() + HEADER;
        length <= BUFFER
    };
    requests.iter().take(BATCH).take_while(fits).count().max(1)
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A dump fills at most 32 KiB a datagram (`netlink_dump`); one link with many virtual functions can be larger.
const BUFFER: usize = 64 * 1024;
/// Messages a send. Each may fail, and 256 errors of about 1 KiB with their bookkeeping fit the receive queue.
const BATCH: usize = 256;
const RECEIVE_QUEUE: usize = 1024 * 1024;
const HEADER: usize = 16 + 4;
const DUMP_ATTEMPTS: u32 = 8;
/// Where the fields are: struct nlmsghdr, and struct ndmsg behind it.
const NLMSG_TYPE: u32 = 4;
const NLMSG_PID: u32 = 12;
const NDM_FAMILY: u32 = 16;
const RTM_NEWNEIGH: u16 = 28;
const AF_BRIDGE: u32 = 7;
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
