//! The agent: keeps leases for containers, and serves the plugin over a socket.
//!
//! One thread. Each lease has a task, which alone speaks for it: two calls for one attachment meet there. `flags` is the
//! command line, `socket` where the agent listens, `serve` answers, `keeper` keeps one lease.

mod flags;
mod keeper;
mod serve;
mod socket;

use std::{fs, process::ExitCode};

use anyhow::{Context, ensure};
use tokio::signal::unix::{SignalKind, signal};

use crate::{agent::flags::Flags, store::Store};

/// Runs until it is told to end. Leases outlive it: the next agent goes on with them.
pub fn main(arguments: impl Iterator<Item = String>) -> ExitCode {
    match Flags::parse(arguments).and_then(|flags| run(&flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("dhcp daemon: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> anyhow::Result<()> {
    cni::log::start("dhcp daemon");
    if let Some(pidfile) = &flags.pidfile {
        ensure!(pidfile.is_absolute(), "-pidfile {}: is not absolute", pidfile.display());
        fs::write(pidfile, std::process::id().to_string())
            .with_context(|| format!("write {}", pidfile.display()))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let ended = runtime.block_on(local.run_until(serve(flags)));
    if let Some(pidfile) = &flags.pidfile {
        fs::remove_file(pidfile).ok();
    }
    ended
}

async fn serve(flags: &Flags) -> anyhow::Result<()> {
    let (mut terminated, mut interrupted) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = socket::listen(&flags.socket)?;
    let agent = serve::Agent::new(flags.clone(), Store::below(&flags.host_prefix));
    agent.resume();
    if let Err(err) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        log::warn!("notify the service manager: {err}");
    }
    tokio::select! {
        ended = agent.accept(&listener.listener) => ended,
        _ = terminated.recv() => Ok(()),
        _ = interrupted.recv() => Ok(()),
    }
}
