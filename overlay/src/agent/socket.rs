//! The unix socket that `netctl` asks on: a line of JSON in, a line of JSON out. Only root may.

use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    network::Ask,
    request::{self, Answer, MAX_LINE, Request},
};

/// Makes the socket; one that an agent killed before left behind goes.
pub(super) fn listen(path: &Path) -> Result<UnixListener> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        anyhow::bail!("listen on {}: another agent does", path.display());
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("restrict {}", path.display()))?;
    Ok(listener)
}

pub(super) async fn serve(listener: UnixListener, networks: Vec<mpsc::Sender<Ask>>) {
    let places = std::rc::Rc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others must close first.
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let (networks, places) = (networks.clone(), std::rc::Rc::clone(&places));
        tokio::task::spawn_local(async move {
            let Ok(_place) = places.try_acquire() else { return };
            if let Err(err) = converse(stream, &networks).await {
                log::debug!("a client of the socket: {err}");
            }
        });
    }
}

/// One request after another, until the client goes or falls silent.
async fn converse(mut stream: UnixStream, networks: &[mpsc::Sender<Ask>]) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let limit = u64::try_from(MAX_LINE + 1).unwrap_or(u64::MAX);
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(limit);
        let read = timeout(SILENCE, limited.read_until(b'\n', &mut line)).await??;
        if read == 0 {
            return Ok(());
        }
        let (answer, last) = match request::parse(&line) {
            Ok(request) => (answer(&request, networks).await, false),
            // Where the next line begins is unknown after one that is too long.
            Err(err) => (Answer::Error(err.to_string()), true),
        };
        let mut text = serde_json::to_vec(&answer)?;
        text.push(b'\n');
        timeout(SILENCE, writer.write_all(&text)).await??;
        if last {
            return Ok(());
        }
    }
}

async fn answer(request: &Request, networks: &[mpsc::Sender<Ask>]) -> Answer {
    let mut answers = Vec::new();
    for network in networks {
        let (reply, replied) = oneshot::channel();
        if network.send(Ask { request: request.clone(), reply }).await.is_ok() {
            answers.extend(replied.await.ok().flatten());
        }
    }
    match request.network() {
        None => Answer::Ok(Value::Array(answers.into_iter().filter_map(ok).collect())),
        Some(name) => answers
            .into_iter()
            .next()
            .unwrap_or_else(|| Answer::Error(format!("no network {name} on this host"))),
    }
}

fn ok(answer: Answer) -> Option<Value> {
    match answer {
        Answer::Ok(value) => Some(value),
        Answer::Error(_) => None,
    }
}

const CONNECTIONS: usize = 16;
const SILENCE: Duration = Duration::from_secs(30);
/// After a failed accept, which would fail again at once.
const BREATH: Duration = Duration::from_millis(100);
