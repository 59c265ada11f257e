//! Where the agent listens: a socket that the service manager hands over, or one of its own.

use std::{
    fs, io,
    os::unix::{fs::DirBuilderExt, net::UnixStream},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use tokio::net::UnixListener;

/// The socket; its file goes with it, if the agent made that.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) listener: UnixListener,
    file: Option<PathBuf>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            fs::remove_file(file).ok();
        }
    }
}

/// Takes the socket of systemd's socket activation (sd_listen_fds(3)), or listens at `path`. A socket there that nobody
/// listens on is one that a killed agent left.
pub(super) fn listen(path: &Path) -> anyhow::Result<Listening> {
    let mut handed = listenfd::ListenFd::from_env();
    if handed.len() > 1 {
        bail!("the service manager hands over {} sockets, not one", handed.len());
    }
    if let Some(listener) = handed.take_unix_listener(0).context("take the service manager's socket")? {
        return Ok(Listening { listener: asynchronous(listener)?, file: None });
    }
    let listening = || format!("listen at {}", path.display());
    if let Some(dir) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).with_context(listening)?;
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!("{}: another agent is there", listening()),
        Err(err) if err.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(listening)?
        }
        Err(_) => {}
    }
    let listener = std::os::unix::net::UnixListener::bind(path).with_context(listening)?;
    Ok(Listening { listener: asynchronous(listener)?, file: Some(path.to_owned()) })
}

fn asynchronous(listener: std::os::unix::net::UnixListener) -> anyhow::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    Ok(UnixListener::from_std(listener)?)
}
