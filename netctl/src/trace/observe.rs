//! Watches the namespaces of one node for the packets of one probe: tracepoints where BPF is to be had, packet sockets
//! where not, and nftables' decisions. Knows nothing of other nodes.

use std::{
    collections::BTreeMap,
    io::{self, PipeReader},
    os::fd::AsFd,
    process::Command,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    time::{ClockId, clock_gettime},
};

use super::{
    nftrace::{Decision, RuleTracer, Verdict},
    probe::Mark,
};
use crate::{
    agent::{
        place::{HOST, Place},
        protocol::{At, Decided, Event, Seen},
    },
    bpf::{
        btf::Btf,
        explain::Explainer,
        skb::{Sighting, Tracepoint},
        tap::{self, Filter, Tap},
    },
    capture::sniffer::{DeviceNames, Frame, Sniffer},
    packet::Packet,
};

/// What is open, and what it can tell.
pub struct Observer {
    mark: Mark,
    places: BTreeMap<u32, String>,
    tap: Option<Tap>,
    rules: Vec<Rules>,
    wires: Vec<Wire>,
    explainer: Explainer,
    /// As many sightings as one CPU has lost.
    lost: u32,
}

struct Rules {
    place: Place,
    tracer: RuleTracer,
    texts: BTreeMap<(String, u64), String>,
}

struct Wire {
    place: Place,
    sniffer: Sniffer,
    names: DeviceNames,
}

/// How a limit begins that says so.
pub const NO_BPF: &str = "no BPF";

/// CLOCK_MONOTONIC in nanoseconds, the clock of the tracepoints.
pub fn now_ns() -> u64 {
    clock(ClockId::CLOCK_MONOTONIC)
}

fn clock(id: ClockId) -> u64 {
    let time = clock_gettime(id).map_or((0, 0), |time| (time.tv_sec(), time.tv_nsec()));
    u64::try_from(time.0).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.1).unwrap_or(0)
}

impl Observer {
    /// Opens all that can be opened; says what could not be, and what that hides. Rules are told in `places` only:
    /// a table in each of a thousand `others` would cost more than it tells.
    pub fn open(mark: Mark, places: &[Place], others: &[Place], without_bpf: bool) -> (Self, Vec<String>) {
        let mut limits = Vec::new();
        let mut names: BTreeMap<u32, String> = BTreeMap::new();
        for place in places.iter().chain(others) {
            names.entry(place.inode).or_insert_with(|| place.name.clone());
        }
        let filter = Filter { namespaces: Some(names.keys().copied().collect()), mark: Some(mark.key) };
        let bpf = match without_bpf {
            true => Err("switched off".to_owned()),
            false => open_tap(&filter).map_err(|err| format!("{:#}", anyhow::Error::new(err))),
        };
        let bpf = bpf.map_err(|why| {
            limits
                .push(format!("{NO_BPF} ({why}): packet sockets and counters instead, drops show no reason"));
        });
        let (tap, explainer) = bpf.ok().unzip();
        let mut observer = Self {
            mark,
            places: names,
            tap,
            rules: Vec::new(),
            wires: Vec::new(),
            explainer: explainer.unwrap_or_default(),
            lost: 0,
        };
        for place in places {
            observer.open_in(place, &mut limits);
        }
        (observer, limits)
    }

    fn open_in(&mut self, place: &Place, limits: &mut Vec<String>) {
        match inside(place, || RuleTracer::open(&self.mark)) {
            Ok(tracer) => self.rules.push(Rules { place: place.clone(), tracer, texts: BTreeMap::new() }),
            Err(err) => limits.push(format!("no nftrace in {} ({err:#}): rules are not named", place.name)),
        }
        if self.tap.is_some() {
            return;
        }
        match inside(place, || Sniffer::open(None, 256)) {
            Ok(sniffer) => {
                let names = DeviceNames::default();
                self.wires.push(Wire { place: place.clone(), sniffer, names });
            }
            Err(err) => {
                limits.push(format!("no packet socket in {} ({err:#}): nothing is seen there", place.name))
            }
        }
    }

    /// Reports until `stop` is closed.
    pub fn run(mut self, stop: &PipeReader, emit: &dyn Fn(Event)) -> io::Result<()> {
        loop {
            let stopped = {
                let mut fds = vec![PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
                fds.extend(self.tap.iter().map(|tap| PollFd::new(tap.as_fd(), PollFlags::POLLIN)));
                fds.extend(self.rules.iter().map(|it| PollFd::new(it.tracer.as_fd(), PollFlags::POLLIN)));
                fds.extend(self.wires.iter().map(|it| PollFd::new(it.sniffer.as_fd(), PollFlags::POLLIN)));
                match poll(&mut fds, PollTimeout::NONE) {
                    Err(nix::errno::Errno::EINTR) => continue,
                    polled => polled?,
                };
                fds[0].any().unwrap_or(true)
            };
            self.report(emit)?;
            if stopped {
                return Ok(());
            }
        }
    }

    fn report(&mut self, emit: &dyn Fn(Event)) -> io::Result<()> {
        let Self { mark, places, tap, rules, wires, explainer, lost } = self;
        if let Some(tap) = tap {
            tap.drain(|sighting| {
                if sighting.lost > *lost {
                    *lost = sighting.lost;
                    emit(missed(*lost));
                }
                let is_ours = |packet: &Packet| mark.recognise(packet).is_some();
                if let Some(name) = places.get(&sighting.netns)
                    && let Some(seen) = seen(&sighting, name, explainer)
                    && is_ours(&Packet::network(seen.protocol, &seen.bytes))
                {
                    emit(Event::Seen(seen));
                }
            });
        }
        for rules in rules {
            rules.report(mark, emit);
        }
        for Wire { place, sniffer, names } in wires {
            let offset = clock(ClockId::CLOCK_REALTIME).saturating_sub(now_ns());
            sniffer.drain(|frame| {
                // A copy that a switch flooded; only a bridge takes what is for others.
                let devices = || place.devices().unwrap_or_default();
                if frame.is_for_others && !names.device(frame.ifindex, devices).is_port {
                    return;
                }
                let seen = seen_on_wire(&frame, offset, place, names);
                if mark.recognise(&Packet::network(seen.protocol, &seen.bytes)).is_some() {
                    emit(Event::Seen(seen));
                }
            })?;
        }
        Ok(())
    }
}

fn open_tap(filter: &Filter) -> Result<(Tap, Explainer), tap::Error> {
    let btf = Btf::vmlinux()?;
    Ok((Tap::open(&btf, &Tracepoint::ALL, filter)?, Explainer::new(&btf)))
}

fn inside<T: Send>(place: &Place, open: impl FnOnce() -> io::Result<T> + Send) -> anyhow::Result<T> {
    Ok(place.run(open)??)
}

/// The ring buffer is the node's, not a namespace's.
pub fn missed(lost: u32) -> Event {
    Event::Missed { netns: HOST.to_owned(), packets: u64::from(lost) }
}

/// A sighting in words; none if there is no network header to begin with.
pub fn seen(sighting: &Sighting, netns: &str, explainer: &Explainer) -> Option<Seen> {
    let at = match sighting.tracepoint {
        Tracepoint::Receive => At::Rx,
        Tracepoint::Transmit => At::Tx,
        Tracepoint::Drop => At::Drop,
        Tracepoint::Consume => At::End,
    };
    let bytes = sighting.bytes.get(sighting.layer3..)?.to_vec();
    let function = (sighting.location != 0).then(|| explainer.function(sighting.location));
    Some(Seen {
        at,
        time_ns: sighting.time_ns,
        netns: netns.to_owned(),
        device: sighting.device.clone(),
        buffer: sighting.skb,
        reason: (at == At::Drop).then(|| explainer.reason(sighting.reason)),
        function,
        protocol: sighting.protocol,
        bytes,
        len: sighting.len,
    })
}

fn seen_on_wire(frame: &Frame, offset: u64, place: &Place, names: &mut DeviceNames) -> Seen {
    let link = if frame.ethernet { 14 } else { 0 };
    Seen {
        at: if frame.outgoing { At::Tx } else { At::Rx },
        time_ns: frame.time_ns.saturating_sub(offset),
        netns: place.name.clone(),
        device: names.device(frame.ifindex, || place.devices().unwrap_or_default()).name,
        buffer: 0,
        reason: None,
        function: None,
        protocol: frame.protocol,
        bytes: frame.bytes.get(link..).unwrap_or_default().to_vec(),
        len: u32::try_from(frame.len.saturating_sub(link)).unwrap_or(u32::MAX),
    }
}

impl Rules {
    fn report(&mut self, mark: &Mark, emit: &dyn Fn(Event)) {
        let Self { place, tracer, texts } = self;
        tracer.drain(|decision| {
            // A tunnel's payload lies behind what nftables shows of the packet.
            let packet = Packet::network(0, &decision.bytes);
            let is_tunnel = packet.inner().is_some_and(|ip| ip.transport.ports().is_some());
            if mark.recognise_cut(&packet).is_none() && !is_tunnel {
                return;
            }
            let dropped = decision.verdict == Verdict::Drop;
            let rule = if dropped { describe(&decision, place, texts) } else { name(&decision) };
            let netns = place.name.clone();
            emit(Event::Decided(Decided { time_ns: now_ns(), netns, dropped, rule, bytes: decision.bytes }));
        });
    }
}

/// `ip filter FORWARD handle 7`
fn name(decision: &Decision) -> String {
    let Decision { family, table, chain, handle, .. } = decision;
    match handle {
        Some(handle) => format!("{family} {table} {chain} handle {handle}"),
        None => format!("{family} {table} {chain} policy"),
    }
}

/// The name and the text of a rule that drops, as `nft` writes it.
fn describe(decision: &Decision, place: &Place, texts: &mut BTreeMap<(String, u64), String>) -> String {
    let name = name(decision);
    let Decision { family, table, chain, handle: Some(handle), .. } = decision else {
        return format!("{name} drop");
    };
    let key = (format!("{family} {table} {chain}"), *handle);
    let text = texts.entry(key).or_insert_with(|| {
        let list = || Command::new("nft").args(["-a", "-s", "list", "chain", family, table, chain]).output();
        let listing = place.run(list).ok().and_then(Result::ok).map(|output| output.stdout);
        rule_text(&String::from_utf8_lossy(&listing.unwrap_or_default()), *handle).unwrap_or_default()
    });
    if text.is_empty() { name } else { format!("{name}: {text}") }
}

/// The rule with this handle in what `nft -a list chain` says.
fn rule_text(listing: &str, handle: u64) -> Option<String> {
    let suffix = format!("# handle {handle}");
    let line = listing.lines().find(|line| line.ends_with(&suffix))?;
    Some(line.strip_suffix(&suffix)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_found_by_its_handle() {
        let listing = "table ip f {\n\tchain c { # handle 1\n\t\tip daddr 10.0.0.1 drop # handle 2\n\t\tcounter packets 0 bytes 0 drop # handle 12\n";
        assert_eq!(rule_text(listing, 2).as_deref(), Some("ip daddr 10.0.0.1 drop"));
        assert_eq!(rule_text(listing, 3), None);
    }
}
