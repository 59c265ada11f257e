//! A report as a capture file: a packet for every hop, on an interface named after its place, with what happened there
//! as its comment.

use std::{
    io::{self, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{observe::now_ns, path::Hop, run::Report, verdict::Verdict};
use crate::{
    agent::protocol::At,
    capture::file::{self, CaptureFile},
};

/// Writes all hops in their order.
pub fn save<W: Write>(report: &Report, out: W) -> io::Result<()> {
    const SNAPLEN: u32 = 256;
    let mut file = CaptureFile::new(out, SNAPLEN, &[])?;
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let offset = i64::try_from(since_1970).unwrap_or(0) - i64::try_from(now_ns()).unwrap_or(0);
    let last = report.outcome.hops.len().saturating_sub(1);
    for (index, hop) in report.outcome.hops.iter().enumerate() {
        let seen = &hop.sighting.seen;
        let node = &report.evidence.nodes[hop.sighting.node];
        let name = format!("{node}/{}/{}", seen.netns, seen.device);
        let comment = comment(report, hop, index == last);
        let len = seen.len.max(u32::try_from(seen.bytes.len()).unwrap_or(u32::MAX));
        file.add_commented(
            &name,
            file::Hop {
                time_ns: u64::try_from(hop.sighting.time_ns + offset).unwrap_or(0),
                len,
                bytes: &seen.bytes[..seen.bytes.len().min(usize::try_from(len).unwrap_or(usize::MAX))],
                outgoing: Some(seen.at == At::Tx),
                comment: &comment,
            },
        )?;
    }
    file.flush()
}

fn comment(report: &Report, hop: &Hop, is_last: bool) -> String {
    let seen = &hop.sighting.seen;
    let what = match seen.at {
        At::Rx => "received",
        At::Tx => "sent",
        At::Drop => "dropped",
        At::End => "taken",
    };
    let mut parts = vec![what.to_owned(), hop.note.clone()];
    parts.extend(seen.reason.clone().filter(|_| seen.at == At::Drop));
    let outcome = &report.outcome;
    if is_last || (seen.at == At::Drop && outcome.verdict == Verdict::Dropped) {
        parts.push(format!("{}: {}", outcome.verdict.word(), outcome.detail));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}
