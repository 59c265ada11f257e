//! Waiting for a condition, so that no test sleeps.

use std::thread;
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Polls until `holds` says true; panics with `what` when `deadline` has passed.
#[track_caller]
pub fn wait_for(what: &str, deadline: Duration, mut holds: impl FnMut() -> bool) {
    wait_value(what, deadline, || holds().then_some(()));
}

/// Polls until `probe` gives a value; panics with `what` when `deadline` has passed. Probes at least once.
#[track_caller]
pub fn wait_value<T>(what: &str, deadline: Duration, probe: impl FnMut() -> Option<T>) -> T {
    match poll(deadline, probe) {
        Some(value) => value,
        None => panic!("waited {deadline:?} in vain for: {what}"),
    }
}

/// Polls until `probe` gives a value, or None when `deadline` has passed. Probes at least once.
pub fn poll<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        let now = Instant::now();
        if now >= end {
            return None;
        }
        thread::sleep(pause.min(end - now));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
