//! Whether an address answers from a namespace, how fast, and up to which size. Sends echo requests; knows no node.

use std::{
    net::IpAddr,
    sync::{Mutex, PoisonError},
    thread,
};

use serde::{Deserialize, Serialize};

use crate::{
    agent::{
        place::Place,
        protocol::{Answer, Event, SendProbes},
    },
    trace::{
        probe::{Mark, Protocol},
        send::Sender,
    },
};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reached {
    pub to: IpAddr,
    /// There and back; none if nothing came.
    pub rtt_us: Option<u64>,
    /// The largest packet that comes through without being taken apart, in bytes with its IP header.
    pub path_mtu: Option<u32>,
    /// Why it could not be tried, or what somebody answered instead.
    pub error: Option<String>,
}

/// Tries all at once.
pub fn all(from: &Place, to: &[IpAddr]) -> Vec<Reached> {
    let found = Mutex::new(Vec::new());
    for some in to.chunks(AT_ONCE) {
        thread::scope(|scope| {
            for to in some {
                scope.spawn(|| {
                    let reached = one(from, *to);
                    found.lock().unwrap_or_else(PoisonError::into_inner).push(reached);
                });
            }
        });
    }
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|reached| reached.to);
    found
}

fn one(from: &Place, to: IpAddr) -> Reached {
    let nothing = Reached { to, rtt_us: None, path_mtu: None, error: None };
    let tried = || (0..ATTEMPTS).map(|_| echo(from, to, SMALL)).find(|it| !matches!(it, Ok(Echo::Silent)));
    match tried() {
        Some(Ok(Echo::Answered(rtt))) => {
            Reached { rtt_us: Some(rtt / 1000), path_mtu: path_mtu(from, to), ..nothing }
        }
        Some(Ok(Echo::Refused(what))) => Reached { error: Some(what), ..nothing },
        Some(Err(err)) => Reached { error: Some(format!("{err:#}")), ..nothing },
        Some(Ok(Echo::Silent)) | None => nothing,
    }
}

/// By halving, unless the largest that the first device takes comes through, as it mostly does.
fn path_mtu(from: &Place, to: IpAddr) -> Option<u32> {
    let passes = |size: u32| {
        let payload = usize::try_from(size - headers(to)).unwrap_or(SMALL);
        matches!(echo(from, to, payload), Ok(Echo::Answered(_)))
    };
    let largest = from.devices_mtu().unwrap_or(1500).clamp(LEAST, MOST);
    if passes(largest) {
        return Some(largest);
    }
    let (mut good, mut bad) = (LEAST, largest);
    if !passes(good) {
        return None;
    }
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if passes(middle) { good = middle } else { bad = middle }
    }
    Some(good)
}

/// Of IP and ICMP.
fn headers(to: IpAddr) -> u32 {
    if to.is_ipv4() { 28 } else { 48 }
}

enum Echo {
    /// After so many nanoseconds.
    Answered(u64),
    Refused(String),
    Silent,
}

fn echo(from: &Place, to: IpAddr, payload: usize) -> anyhow::Result<Echo> {
    let mark = Mark::random()?;
    let order = SendProbes {
        mark: mark.to_string(),
        from: from.clone(),
        source: None,
        destination: to,
        protocol: Protocol::Icmp,
        count: 1,
        payload,
        interval_ms: 0,
        patience_ms: 500,
    };
    let sender = from.run(|| Sender::open(mark, order))??;
    let met = Mutex::new((0, Echo::Silent));
    sender.run(None, &|event| {
        let mut met = met.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Sent { error: Some(error), .. } => met.1 = Echo::Refused(error),
            Event::Sent { time_ns, .. } => met.0 = time_ns,
            Event::Answered(answer) if answer.kind == Answer::Reply => {
                met.1 = Echo::Answered(answer.time_ns.saturating_sub(met.0));
            }
            Event::Answered(answer) => met.1 = Echo::Refused(format!("{}: {}", answer.from, answer.packet)),
            _ => {}
        }
    })?;
    Ok(met.into_inner().unwrap_or_else(PoisonError::into_inner).1)
}

const AT_ONCE: usize = 32;
/// The first packet may wait for a neighbour's address too long.
const ATTEMPTS: u32 = 2;
const SMALL: usize = 56;
/// What every host must take (RFC 791), and what fits in a length of 16 bits with room to spare.
const LEAST: u32 = 576;
const MOST: u32 = 65_000;
