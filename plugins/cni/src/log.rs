//! Logs on standard error, for the runtime's log: one line each, `level plugin: message`, with the runtime's trace context.

use std::{env, io::Write};

use log::{LevelFilter, Log, Metadata, Record};

/// Starts logging at the level that `TENON_LOG` names (`off`, `error`, `warn`, `info`, `debug`, `trace`; `warn` when it
/// doesn't).
pub fn start(plugin: &'static str) {
    let level = env::var("TENON_LOG").ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Warn);
    // libcni passes the W3C trace context of the caller on in the environment.
    let trace = env::var("TRACEPARENT").map(|parent| format!(" traceparent={parent}")).unwrap_or_default();
    if log::set_boxed_logger(Box::new(Stderr { plugin, trace })).is_ok() {
        log::set_max_level(level);
    }
}

struct Stderr {
    plugin: &'static str,
    trace: String,
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            let Self { plugin, trace } = self;
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{level} {plugin}{trace}: {}", record.args());
        }
    }

    fn flush(&self) {}
}
