//! What plugin and agent say to each other: one line of JSON each way, on a connection of its own.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use cni::names::Attachment;
use serde::{Deserialize, Serialize};

use crate::{
    config::{Family, Wishes},
    lease::Lease,
};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// A lease of each family for the attachment: those that it has, or new ones.
    Allocate(Allocate),
    Release(Attachment),
    /// Are its leases good? Never asks a server.
    Check {
        attachment: Attachment,
        families: Vec<Family>,
    },
    /// Release what the network's other attachments have: those but (container, interface).
    Collect {
        network: String,
        valid: Vec<(String, String)>,
    },
    Status,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocate {
    pub attachment: Attachment,
    /// `CNI_NETNS`, absolute.
    pub netns: String,
    pub families: Vec<Family>,
    pub wishes: Wishes,
    pub priority: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// One a family, in the order of the question.
    Leases(Vec<Lease>),
    Done,
    /// Why not, with the error code of CNI.
    Failed {
        code: u32,
        why: String,
    },
}

/// Asks the agent. An error is one of the connection: there is no agent, or it ended meanwhile.
pub fn ask(socket: &Path, question: &Question, patience: Duration) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer"));
    }
    Ok(serde_json::from_str(&answer)?)
}
