//! The service manager: that we are ready, alive, stopping. Does nothing where there is none.

use sd_notify::NotifyState;

pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Says twice in each period of the watchdog that the loop still turns; that is what a watchdog can watch.
pub(super) async fn keep_alive() {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut every = tokio::time::interval(period / 2);
    loop {
        every.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(state) {
        log::warn!("notify the service manager: {err}");
    }
}
