//! Asking the agent on its socket. Blocks; for tools, not for plugins, which need no agent.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::agent::request::{Answer, Request};

/// An agent that did not answer, or not as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("ask the agent on {socket}: {source}")]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("the agent's answer: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("{0}")]
    Refused(String),
}

/// One question, one answer.
pub fn ask(socket: &Path, request: &Request) -> Result<Value, ClientError> {
    let question = serde_json::to_string(request)?;
    let line = exchange(socket, &question)
        .map_err(|source| ClientError::Unreachable { socket: socket.to_owned(), source })?;
    match serde_json::from_str(&line)? {
        Answer::Ok(value) => Ok(value),
        Answer::Error(why) => Err(ClientError::Refused(why)),
    }
}

fn exchange(socket: &Path, question: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{question}")?;
    let mut line = String::new();
    if BufReader::new(stream).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

/// Where the agent listens unless it was told otherwise.
pub const SOCKET: &str = "/run/tenon/overlayd.sock";
/// The kernel's tables of 60,000 peers take a second or two to read.
const PATIENCE: Duration = Duration::from_secs(30);
