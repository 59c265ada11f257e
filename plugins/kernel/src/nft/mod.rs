//! nf_tables over netlink: tables, chains, sets, maps, elements and rules, changed by atomic batches. Knows no table
//! of ours, and runs no `nft`.
//!
//! Closing the socket of a batch that removed something, or that added a chain which was there, waits for the end of
//! an RCU grace period (9-16 ms, measured on Linux 6.18); the batch itself takes microseconds. So what only adds
//! should only add, and who removes should keep its [`Nft`] until its other work is done.
//!
//! The wait is `nft_rcv_nl_event`'s (net/netfilter/nf_tables_api.c), which holds the lock that every batch, and the end of every
//! link of the namespace (`nf_tables_netdev_event`), must have. So nothing is won by leaving the socket to somebody else
//! to close, as one can by sending it into a UNIX socket that is sent along: the link's removal then waits instead.

mod attribute;
pub mod batch;
pub mod comment;
pub mod element;
mod field;
pub mod list;
pub mod rule;
mod statement;
pub mod table;
pub mod value;

use std::collections::BTreeSet;

use netlink_packet_core::NLM_F_ACK;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{GenAttribute, GenMessage, NfTablesMessage},
};
use nix::errno::Errno;

use self::batch::Batch;
use crate::{
    error::{Error, Result},
    netfilter::{Netfilter, Refusal},
    netns::Netns,
};

/// The ruleset of one network namespace: the one in which it was opened.
#[derive(Debug)]
pub struct Nft {
    socket: Netfilter,
}

impl Nft {
    /// Opens the ruleset of the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let socket = Netfilter::open().map_err(|e| Error::new("open netfilter socket", e))?;
        Ok(Self { socket })
    }

    /// Opens the ruleset of `netns`; the calling thread stays where it is.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.visit(Self::open)?
    }

    /// Applies all of the batch, or none of it and tells what failed first. Removals of what is not there do not count.
    ///
    /// A batch may be larger than the socket's buffer where we may enlarge that (CAP_NET_ADMIN in the first user
    /// namespace); else, beyond net.core.wmem_max, it fails with EMSGSIZE, and only the caller knows where to split.
    pub fn commit(&mut self, mut batch: Batch) -> Result<()> {
        while !batch.is_empty() {
            let first = self.socket.next_sequence();
            let bytes = batch.serialize(first);
            self.socket.skip(batch.changes.len() + 1);
            let act = || format!("commit {} nftables changes", batch.changes.len());
            self.socket.send(&bytes).map_err(|e| Error::new(act(), e))?;
            let refusals = self.socket.refusals().map_err(|e| Error::new(act(), e))?;
            if refusals.is_empty() {
                return Ok(());
            }
            let absent = judge(&batch, first, refusals)?;
            let mut index = 0..;
            batch.changes.retain(|_| index.next().is_none_or(|index| !absent.contains(&index)));
        }
        Ok(())
    }

    /// The number of the ruleset's present state; every committed batch of anybody changes it.
    pub fn generation(&mut self) -> Result<u32> {
        let act = "read the nftables generation";
        let message = NfTablesMessage::GetGen(GenMessage { attributes: vec![] });
        let question = request(NetfilterProtoFamily::Unspec, message);
        let answers = self.socket.request::<NetfilterMessage>(&question, NLM_F_ACK);
        let mut attributes =
            answers.map_err(|e| unsupported(e).into_error(act))?.into_iter().flat_map(|answer| match answer
                .inner
            {
                NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(message)) => message.attributes,
                _ => vec![],
            });
        let id = attributes.find_map(|attribute| match attribute {
            GenAttribute::Id(id) => Some(id),
            _ => None,
        });
        id.ok_or_else(|| Error::malformed(act, "no generation in the answer"))
    }
}

/// Whether a batch was refused because somebody changed the ruleset after the generation that it was meant for.
pub fn is_overtaken(error: &Error) -> bool {
    error.raw_os_error() == Some(Errno::ERESTART as i32)
}

/// A kernel without nf_tables refuses a batch with EOPNOTSUPP, but a question with EINVAL (nfnetlink_rcv_msg).
fn unsupported(refusal: Refusal) -> Refusal {
    match refusal.source.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EINVAL) => Refusal { source: Errno::EOPNOTSUPP.into(), ..refusal },
        _ => refusal,
    }
}

fn request(family: NetfilterProtoFamily, message: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message)
}

/// Which changes to leave out at the next attempt: removals of what is absent. The kernel goes on past a refused
/// message and reports each (nfnetlink_rcv_batch). Any other refusal is the error of the whole.
fn judge(batch: &Batch, first: u32, refusals: Vec<Refusal>) -> Result<BTreeSet<usize>> {
    let mut absent = BTreeSet::new();
    for refusal in refusals {
        let index =
            usize::try_from(refusal.sequence.wrapping_sub(first)).unwrap_or(usize::MAX).checked_sub(1);
        let Some((index, change)) = index.and_then(|i| batch.changes.get(i).map(|change| (i, change))) else {
            // Refused as a whole: no permission, another generation, or a rule that is invalid where it is reached.
            return Err(refusal.into_error(format!("commit {} nftables changes", batch.changes.len())));
        };
        if !change.removal || refusal.source.raw_os_error() != Some(Errno::ENOENT as i32) {
            return Err(refusal.into_error(change.act.clone()));
        }
        absent.insert(index);
    }
    Ok(absent)
}
