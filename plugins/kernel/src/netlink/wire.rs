//! The netlink message format: writing requests, reading what comes back. Knows no socket.

use netlink_packet_core::{
    DecodeError, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkSerializable, NlasIterator,
    ParseableParametrized,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;

use crate::error::{Error, Result};

/// Appends `message` with its header, padded as the next one needs it.
pub(super) fn push(buffer: &mut Vec<u8>, message: &RouteNetlinkMessage, flags: u16, sequence: u32) {
    let start = buffer.len();
    let length = HEADER + message.buffer_len();
    buffer.resize(start + length.next_multiple_of(ALIGN), 0);
    let mut header = NetlinkBuffer::new(&mut buffer[start..start + length]);
    header.set_length(u32::try_from(length).expect("a message is a few hundred bytes"));
    header.set_message_type(message.message_type());
    header.set_flags(flags);
    header.set_sequence_number(sequence);
    message.serialize(&mut buffer[start + HEADER..start + length]);
}

/// One message that the kernel sent.
#[derive(Debug)]
pub(super) struct Incoming<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) port: u32,
    payload: &'a [u8],
}

/// The messages of one datagram. Ends after the first that is malformed.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Result<Incoming<'_>, DecodeError>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let current = datagram;
        Some(NetlinkBuffer::new_checked(current).inspect_err(|_| datagram = &[]).map(|buffer| {
            let length = usize::try_from(buffer.length()).map_or(current.len(), |l| l.min(current.len()));
            datagram = current.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
            Incoming {
                kind: buffer.message_type(),
                flags: buffer.flags(),
                sequence: buffer.sequence_number(),
                port: buffer.port_number(),
                payload: &current[HEADER..length],
            }
        }))
    })
}

impl Incoming<'_> {
    /// The object this message describes.
    pub(super) fn decode(&self, act: &str) -> Result<RouteNetlinkMessage> {
        RouteNetlinkMessage::parse_with_param(self.payload, self.kind)
            .map_err(|err| Error::malformed(act, err))
    }

    /// What an acknowledgement (`NLMSG_ERROR`) or the end of a dump (`NLMSG_DONE`) says.
    pub(super) fn outcome(&self, act: &str) -> Result<()> {
        let code = self.payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
        if code == 0 {
            return Ok(());
        }
        Err(Error::with_extack(act, Errno::from_raw(code.wrapping_neg()), self.explanation()))
    }

    /// `NLMSGERR_ATTR_MSG`: behind the code and, in an acknowledgement, behind the header of the request, or the whole
    /// request where the kernel did not leave it out (include/uapi/linux/netlink.h, struct nlmsgerr).
    fn explanation(&self) -> Option<String> {
        let skip = match self.kind {
            NLMSG_DONE => CODE,
            NLMSG_ERROR if self.flags & NLM_F_CAPPED != 0 => CODE + HEADER,
            NLMSG_ERROR => {
                let request = u32::from_ne_bytes(*self.payload.get(CODE..)?.first_chunk()?);
                CODE + usize::try_from(request).ok()?.next_multiple_of(ALIGN)
            }
            _ => return None,
        };
        NlasIterator::new(self.payload.get(skip..)?).map_while(Result::ok).find_map(|attribute| {
            let text = (attribute.kind() == NLMSGERR_ATTR_MSG).then(|| attribute.value())?;
            let text = text.strip_suffix(&[0]).unwrap_or(text);
            Some(String::from_utf8_lossy(text).into_owned()).filter(|text| !text.is_empty())
        })
    }
}

const HEADER: usize = 16;
const ALIGN: usize = 4;
const CODE: usize = 4;
const NLM_F_CAPPED: u16 = 0x100;
const NLMSGERR_ATTR_MSG: u16 = 1;
