//! `netctl top`: what each container receives and sends now.

use std::{
    collections::BTreeMap,
    fs,
    io::{IsTerminal, Write, stdout},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use self::{
    screen::{Pressed, Screen, Sort},
    terminal::Terminal,
};
use crate::{
    commands,
    exit::{Exit, Failure},
    facts::Facts,
    output::{Format, Reply, Table},
    verb::Context,
};

mod screen;
mod terminal;

/// Shows rates, drops and errors by container, the busiest first, until it is interrupted.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Top {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = interval)]
    interval: f64,
    /// One look, and no screen
    #[arg(long)]
    once: bool,
    /// What to sort by; all but names with the largest first
    #[arg(long, value_name = "COLUMN", value_enum, default_value_t = Sort::Busy)]
    sort: Sort,
    /// Only containers and networks with this in their name
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|err| format!("{err}"))?;
    if (0.05..=3600.0).contains(&seconds) { Ok(seconds) } else { Err("not within 0.05 and 3600".to_owned()) }
}

pub fn run(top: &Top, context: &Context) -> Result<Exit, Failure> {
    let pause = Duration::from_secs_f64(top.interval);
    let mut facts = context.facts()?;
    context.show_commands(|| commands::facts::counters(&facts));
    let mut screen = Screen { sort: top.sort, filter: top.filter.clone(), ..Screen::default() };
    let is_screen = stdout().is_terminal() && matches!(context.layout.format, Format::Table | Format::Wide);
    let terminal = (is_screen && !top.once).then(Terminal::open).flatten();
    let mut before = look(&facts);
    let mut rows: Vec<Row> = Vec::new();
    loop {
        if let Some(end) = wait(pause, terminal.as_ref(), &mut screen, |screen| draw(&rows, screen, context))?
        {
            return Ok(end);
        }
        if screen.frozen {
            continue;
        }
        let after = look(&facts);
        rows = rates(&facts, &before, &after);
        if top.once {
            context.write(&reply(&screen.pick(&rows)))?;
            return Ok(Exit::Fine);
        }
        let is_read = match terminal {
            Some(_) => draw(&rows, &screen, context)?,
            None => print(&reply(&screen.pick(&rows)).text(&context.layout).map_err(Failure::Usage)?),
        };
        if !is_read {
            return Ok(Exit::Fine);
        }
        // Containers come and go.
        facts = Facts::gather(context.node.as_deref(), &context.paths)?;
        before = after;
    }
}

/// Until the next look; what keys ask for is done at once. How it ends, if that was asked for.
fn wait(
    pause: Duration,
    terminal: Option<&Terminal>,
    screen: &mut Screen,
    mut redraw: impl FnMut(&Screen) -> Result<bool, Failure>,
) -> Result<Option<Exit>, Failure> {
    let Some(terminal) = terminal else {
        thread::sleep(pause);
        return Ok(None);
    };
    let until = Instant::now() + pause;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let keys = terminal.keys(left).context("read keys")?;
        for key in &keys {
            match screen.press(*key) {
                Pressed::Go => {}
                Pressed::Quit => return Ok(Some(Exit::Fine)),
                Pressed::Interrupt => return Ok(Some(Exit::Interrupted)),
            }
        }
        if keys.is_empty() {
            return Ok(None);
        }
        if !redraw(screen)? {
            return Ok(Some(Exit::Fine));
        }
    }
}

/// Counters of a device at a time.
#[derive(Debug, Clone, Copy)]
struct Counted {
    at: Instant,
    /// As the container sees them.
    received: [u64; 4],
    sent: [u64; 4],
}

/// By attachment. The host's end of a veth counts the other way around.
fn look(facts: &Facts) -> BTreeMap<String, Counted> {
    let host = counters(&fs::read_to_string(DEVICES).unwrap_or_default());
    let all = facts.attachments.iter().filter_map(|it| {
        let at = Instant::now();
        let counted = match facts.host_link(it) {
            Some(link) => host.get(&link.name).map(|(received, sent)| (*sent, *received)),
            None => {
                let text = facts.space(it)?.place.run(|| fs::read_to_string(DEVICES)).ok()?.ok()?;
                counters(&text).get(it.key.ifname.as_str()).copied()
            }
        };
        let (received, sent) = counted?;
        Some((it.key.to_string(), Counted { at, received, sent }))
    });
    all.collect()
}

/// Bytes, packets, errors and drops of each device, received and sent (/proc/net/dev, net/core/net-procfs.c).
fn counters(text: &str) -> BTreeMap<String, ([u64; 4], [u64; 4])> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let devices = lines.filter_map(|(name, numbers)| {
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let received = numbers.get(0..4)?.try_into().ok()?;
        Some((name.trim().to_owned(), (received, numbers.get(8..12)?.try_into().ok()?)))
    });
    devices.collect()
}

/// What an attachment receives and sends in a second: bytes, packets, errors, drops.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    container: String,
    network: String,
    received: [u64; 4],
    sent: [u64; 4],
}

/// A second's worth of each, in the order of the facts.
fn rates(facts: &Facts, before: &BTreeMap<String, Counted>, after: &BTreeMap<String, Counted>) -> Vec<Row> {
    let rows = facts.attachments.iter().filter_map(|it| {
        let key = it.key.to_string();
        let (old, new) = (before.get(&key)?, after.get(&key)?);
        let milliseconds = u64::try_from(new.at.duration_since(old.at).as_millis()).ok()?.max(1);
        let rate = |old: [u64; 4], new: [u64; 4]| {
            std::array::from_fn(|nth| new[nth].saturating_sub(old[nth]) * 1000 / milliseconds)
        };
        Some(Row {
            container: it.label().to_owned(),
            network: it.key.network.to_string(),
            received: rate(old.received, new.received),
            sent: rate(old.sent, new.sent),
        })
    });
    rows.collect()
}

fn reply(rows: &[&Row]) -> Reply {
    let item = |row: &&Row| {
        let Row { container, network, received, sent } = row;
        let [rx_bytes, rx_packets, rx_errors, rx_drops] = received;
        let [tx_bytes, tx_packets, tx_errors, tx_drops] = sent;
        json!({"container": container, "network": network, "rx_bytes_per_s": rx_bytes, "tx_bytes_per_s": tx_bytes,
            "rx_packets_per_s": rx_packets, "tx_packets_per_s": tx_packets,
            "drops_per_s": rx_drops + tx_drops, "errors_per_s": rx_errors + tx_errors})
    };
    let cells = |row: &&Row| {
        let Row { container, network, received, sent } = row;
        let numbers =
            [received[1], sent[1], received[3] + sent[3], received[2] + sent[2]].map(|it| it.to_string());
        let rates = [bits(received[0]), bits(sent[0])];
        [container.clone(), network.clone()].into_iter().chain(rates).chain(numbers).collect()
    };
    Reply {
        kind: "Rates",
        items: rows.iter().map(item).collect(),
        names: rows.iter().map(|row| row.container.clone()).collect(),
        table: Table {
            columns: &["CONTAINER", "NETWORK", "RX", "TX", "RX-PPS", "TX-PPS", "DROPS", "ERRORS"],
            wide: &[],
            rows: rows.iter().map(cells).collect(),
        },
    }
}

/// In a unit that keeps numbers short.
fn bits(bytes: u64) -> String {
    let bits = bytes.saturating_mul(8);
    match bits {
        0..10_000 => format!("{bits} b/s"),
        10_000..10_000_000 => format!("{} kb/s", bits / 1000),
        10_000_000..10_000_000_000 => format!("{} Mb/s", bits / 1_000_000),
        _ => format!("{} Gb/s", bits / 1_000_000_000),
    }
}

/// A screen anew, no longer than it is; false when nobody is there any more.
fn draw(rows: &[Row], screen: &Screen, context: &Context) -> Result<bool, Failure> {
    let picked = screen.pick(rows);
    let table = reply(&picked).text(&context.layout).map_err(Failure::Usage)?;
    let height = Terminal::height().saturating_sub(3).max(1);
    let table: String = table.lines().take(height).map(|line| format!("{line}\n")).collect();
    let head = format!("{} of {} attachments  {}", picked.len(), rows.len(), screen.line());
    Ok(print(&format!("\x1b[H\x1b[2J{head}\n\n{table}")))
}

fn print(text: &str) -> bool {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

const AFTER_HELP: &str = "\
Examples:
  netctl top --once
  netctl top --once --interval 0.5 --sort drops --filter mynet -o json

Keys: s the next column to sort by, / a filter (Enter ends it, Escape drops it), space to hold the screen, q to end";

/// Of the calling thread's namespace.
const DEVICES: &str = "/proc/thread-self/net/dev";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_column() {
        let text = "Inter-| Receive | Transmit\n face |bytes packets\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n lo: 1\n";
        let found = counters(text);
        assert_eq!(found.get("eth0"), Some(&([1, 2, 3, 4], [9, 10, 11, 12])));
        assert_eq!(found.len(), 1);
        let shown = [1, 10_000, 20_000_000].map(bits);
        assert_eq!(shown, ["8 b/s", "80 kb/s", "160 Mb/s"]);
    }
}
