//! One blocking NETLINK_NETFILTER socket: what nf_tables and conntrack have in common. Knows no message of either.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};

use crate::error::Error;

/// Not safe to share: answers are told apart by sequence numbers that only one user hands out.
#[derive(Debug)]
pub(crate) struct Netfilter {
    socket: Socket,
    sequence: u32,
}

/// What the kernel said about one message: `sequence` is the message's own.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) sequence: u32,
    pub(crate) source: io::Error,
    pub(crate) extack: Option<String>,
}

impl Refusal {
    pub(crate) fn into_error(self, act: impl Into<String>) -> Error {
        Error::with_extack(act, self.source, self.extack)
    }
}

impl Netfilter {
    /// In the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Leaves out the numbers that the rest of a batch has taken.
    pub(crate) fn skip(&mut self, count: usize) {
        self.sequence = self.sequence.wrapping_add(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// One send. The kernel works through all of `bytes` before send returns, so that [`Self::refusals`] needs no wait.
    ///
    /// A request larger than the socket's send buffer (net.core.wmem_default, 208 KiB) has the buffer grown; beyond
    /// net.core.wmem_max that takes CAP_NET_ADMIN in the first user namespace, and EMSGSIZE is returned without it.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self.socket.send(bytes, 0) {
            Err(e) if e.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                // The kernel keeps 32 bytes for itself (netlink_sendmsg) and doubles what it is told (sock_setsockopt).
                let size = bytes.len();
                setsockopt(&self.socket, sockopt::SndBufForce, &size)
                    .or_else(|_| setsockopt(&self.socket, sockopt::SndBuf, &size))?;
                self.socket.send(bytes, 0).map(drop)
            }
            sent => sent.map(drop),
        }
    }

    /// The errors that a request which asked for no acknowledgement has left; empty when all of it was accepted.
    pub(crate) fn refusals(&self) -> io::Result<Vec<Refusal>> {
        let mut refusals = Vec::new();
        let mut buffer = Vec::with_capacity(RECEIVE);
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, MsgFlags::MSG_DONTWAIT.bits()) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(refusals),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(_) => {
                    for message in messages::<NetfilterMessage>(&buffer) {
                        refusals.extend(refusal(&message?));
                    }
                }
            }
        }
    }

    /// All answers to a dump request; begun again when the kernel says that a change got in between.
    pub(crate) fn dump<A: NetlinkDeserializable>(
        &mut self,
        request: &NetfilterMessage,
    ) -> Result<Vec<A>, Refusal> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.request(request, NLM_F_DUMP) {
                Err(e) if e.source.raw_os_error() == Some(Errno::EINTR as i32) => {}
                answers => return answers,
            }
        }
        // The objects never held still: the caller may try again.
        Err(Refusal { sequence: self.sequence, source: Errno::EAGAIN.into(), extack: None })
    }

    /// Sends one request that has no answer but its acknowledgement.
    pub(crate) fn execute(&mut self, request: &NetfilterMessage) -> Result<(), Refusal> {
        self.request::<NetfilterMessage>(request, NLM_F_ACK).map(drop)
    }

    /// Sends one request and reads until its acknowledgement, its error or the end of its dump.
    pub(crate) fn request<A: NetlinkDeserializable>(
        &mut self,
        request: &NetfilterMessage,
        flags: u16,
    ) -> Result<Vec<A>, Refusal> {
        let sequence = self.next_sequence();
        let failed = |source| Refusal { sequence, source, extack: None };
        self.send(&serialize(request.clone(), flags, sequence)).map_err(failed)?;
        let mut answers = Vec::new();
        let mut buffer = Vec::with_capacity(RECEIVE);
        let mut interrupted = false;
        loop {
            buffer.clear();
            match self.socket.recv(&mut buffer, 0) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                received => received.map_err(failed)?,
            };
            for message in messages::<A>(&buffer) {
                let message = message.map_err(failed)?;
                if message.header.sequence_number != sequence {
                    continue;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Done(_) if interrupted => {
                        return Err(failed(io::Error::from(Errno::EINTR)));
                    }
                    NetlinkPayload::Done(done) if done.code == 0 => return Ok(answers),
                    NetlinkPayload::Done(done) => {
                        return Err(failed(io::Error::from_raw_os_error(done.code.abs())));
                    }
                    NetlinkPayload::Error(ref error) if error.code.is_none() => return Ok(answers),
                    NetlinkPayload::Error(_) => {
                        return Err(refusal(&message).unwrap_or_else(|| failed(io::Error::from(Errno::EIO))));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The bytes of a message with its netlink header; REQUEST is added to `flags`.
pub(crate) fn serialize(message: NetfilterMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = flags | NLM_F_REQUEST;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Several messages share one datagram, each aligned to 4 bytes.
fn messages<A: NetlinkDeserializable>(
    mut datagram: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<A>>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<A>::deserialize(datagram)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()));
        let length = message.as_ref().map_or(usize::MAX, |m| m.header.length as usize);
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

fn refusal<A>(message: &NetlinkMessage<A>) -> Option<Refusal> {
    let NetlinkPayload::Error(error) = &message.payload else { return None };
    error.code?;
    let extack = (message.header.flags & NLM_F_ACK_TLVS != 0)
        .then(|| extack(error.header.get(NLMSGHDR_LEN..).unwrap_or_default()))
        .flatten();
    Some(Refusal { sequence: message.header.sequence_number, source: error.to_io(), extack })
}

/// The kernel's own words; NETLINK_CAP_ACK is set, so that they follow the bare header of the refused message.
fn extack(attributes: &[u8]) -> Option<String> {
    NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned())
}

const DUMP_ATTEMPTS: usize = 16;
const NLMSGHDR_LEN: usize = 16;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Dumps fill the largest buffer the reader has shown, up to 32 KiB (netlink_recvmsg, netlink_dump).
const RECEIVE: usize = 32 * 1024;
