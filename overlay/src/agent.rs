//! `overlayd`: one process a host for all its networks. A thin shell: one thread, one task a network; what to do is decided
//! in [`crate::machine`], what it costs is in [`crate::keeper`].
//!
//! A network has two tasks: one follows the directory ([`follow`]), one owns the keeper ([`network`]) and hears from the
//! kernel, the directory and whoever asks. Either may be dropped at any await: what the kernel holds stays, and a new start
//! reconciles.

mod follow;
mod guards;
pub mod log;
mod metrics;
mod network;
mod probe;
pub mod request;
mod socket;
mod systemd;

use std::{cell::RefCell, rc::Rc};

use anyhow::{Context, Result};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::LocalSet,
};

use crate::config::Config;

/// Serves until it is told to stop. What it has built stays: containers go on.
pub fn run(config: Config) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("start tokio")?;
    LocalSet::new().block_on(&runtime, serve(config))
}

async fn serve(config: Config) -> Result<()> {
    let guards = Rc::new(RefCell::new(guards::Guards::open().context("open nftables")?));
    let mut networks = Vec::new();
    let mut tasks = tokio::task::JoinSet::new();
    for network in &config.networks {
        let (ask, asked) = mpsc::channel(QUEUE);
        networks.push(ask);
        let task = network::Task::new(&config, network.clone(), Rc::clone(&guards), asked);
        tasks.spawn_local(task.run());
    }
    if networks.is_empty() {
        ::log::warn!(
            "no network: write a peers file to /etc/tenon/overlay, or name one in the configuration"
        );
    }
    let listener = socket::listen(&config.socket)?;
    tasks.spawn_local(socket::serve(listener, networks.clone()));
    if let Some(address) = config.metrics {
        let listener = metrics::listen(address).await?;
        tasks.spawn_local(metrics::serve(listener, networks));
    }
    tasks.spawn_local(guards::watch(guards));
    tasks.spawn_local(systemd::keep_alive());
    systemd::ready();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
        // No task ends by itself but by a panic; the service manager starts us anew.
        Some(ended) = tasks.join_next() => ended.context("a task of the agent")?,
    }
    systemd::stopping();
    // A socket file without a listener would only say "connection refused".
    let _ = std::fs::remove_file(&config.socket);
    Ok(())
}

/// Questions that may wait for one network.
const QUEUE: usize = 16;
