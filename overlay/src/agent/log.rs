//! Structured logs on standard error, one `key=value` line each, with the level as the journal reads it.

use std::io::Write;

use log::{Level, LevelFilter, Log, Metadata, Record};

/// Starts logging.
pub fn start(level: LevelFilter) {
    if log::set_boxed_logger(Box::new(Stderr)).is_ok() {
        log::set_max_level(level);
    }
}

struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What libraries tell at these levels is for their authors.
        let ours = metadata.target().starts_with("overlay") || metadata.target().starts_with("network=");
        metadata.level() <= log::max_level() && (ours || metadata.level() <= Level::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let network = record.target().strip_prefix("network=").map(|name| format!(" network={name}"));
        // Nobody is left to tell when standard error is closed.
        let _ = std::io::stderr()
            .write_all(line(record.level(), &network.unwrap_or_default(), record.args()).as_bytes());
    }

    fn flush(&self) {}
}

/// `<4>` is what sd-daemon(3) takes for a warning. The text is quoted, so that a peer's name can't forge a line.
fn line(level: Level, network: &str, text: &std::fmt::Arguments<'_>) -> String {
    let (number, name) = match level {
        Level::Error => (3, "error"),
        Level::Warn => (4, "warn"),
        Level::Info => (6, "info"),
        Level::Debug => (7, "debug"),
        Level::Trace => (7, "trace"),
    };
    format!("<{number}>level={name}{network} msg={:?}\n", text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_forges_no_line() {
        let text =
            line(Level::Warn, " network=lab", &format_args!("peer {} refused", "a\nlevel=error\u{1b}[31m"));
        assert_eq!(text, "<4>level=warn network=lab msg=\"peer a\\nlevel=error\\u{1b}[31m refused\"\n");
    }
}
