//! What only shows when it is tried: echo requests through tunnels and of full size, and questions to name servers. Sends a few
//! packets from the host and from containers; judges nothing.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    path::Path,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    Facts,
    attachment::Attached,
    tunnel::{Trial, Tunnel},
};
use crate::{
    agent::{
        place::Place,
        protocol::{Answer, Event, SendProbes},
    },
    trace::{
        counters,
        probe::{Mark, Protocol},
        send::Sender,
    },
};

/// What came of the trials of one node.
#[derive(Debug, Default)]
pub struct Trials {
    pub questions: Vec<Question>,
    pub large: Vec<Large>,
    /// What could not be tried, and why.
    pub blind: Vec<String>,
}

/// A container asked a name server.
#[derive(Debug)]
pub struct Question {
    /// Among [`Facts::attachments`].
    pub attachment: usize,
    pub server: IpAddr,
    pub outcome: Outcome,
}

/// A container sent a packet as large as its MTU into something narrower, and heard nothing; small ones pass.
#[derive(Debug)]
pub struct Large {
    /// Among [`Facts::attachments`].
    pub attachment: usize,
    pub to: IpAddr,
    /// The host's device that is too narrow.
    pub device: String,
    pub mtu: u32,
}

/// What became of something that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// Somebody sent an error.
    Refused,
    Silent,
}

impl Trials {
    /// Of this node's containers.
    pub fn new(facts: &Facts) -> Self {
        let mut trials = Self::default();
        trials.questions = questions(facts, &mut trials.blind);
        trials.large = large(facts, &mut trials.blind);
        trials
    }
}

/// Sends through each tunnel to each node behind it. Also, how many packets with a wrong checksum came in meanwhile.
pub fn tunnels(host: &Place, tunnels: &[Tunnel]) -> (Vec<Trial>, u64) {
    let mut targets: Vec<(&Tunnel, IpAddr, IpAddr)> = Vec::new();
    for tunnel in tunnels.iter().filter(|tunnel| tunnel.is_up) {
        for (address, mac) in &tunnel.neighbours {
            let Some((_, remote)) = tunnel.remotes.iter().find(|(of, _)| of == mac) else { continue };
            if !targets.iter().any(|(of, _, to)| of.device == tunnel.device && to == remote) {
                targets.push((tunnel, *address, *remote));
            }
        }
    }
    if targets.is_empty() {
        return (Vec::new(), 0);
    }
    let before = counters::read(host);
    let trials = Mutex::new(Vec::new());
    for targets in targets.chunks(AT_ONCE) {
        thread::scope(|scope| {
            for (tunnel, address, remote) in targets {
                scope.spawn(|| {
                    let tried = echo(host, *address, SMALL);
                    let answered = tried.is_ok_and(|outcome| outcome == Outcome::Answered);
                    let underlay = || echo(host, *remote, SMALL).is_ok_and(|it| it == Outcome::Answered);
                    let underlay_answered = (!answered).then(underlay);
                    let (device, address, remote) = (tunnel.device.clone(), *address, *remote);
                    let trial = Trial { device, address, remote, answered, underlay_answered };
                    trials.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(trial);
                });
            }
        });
    }
    let grown = counters::grown(&before, &counters::read(host));
    let mut trials = trials.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    trials.sort_by(|a, b| (&a.device, a.address).cmp(&(&b.device, b.address)));
    (trials, grown.get("Udp.InCsumErrors").copied().unwrap_or_default())
}

/// One echo request with so many bytes of payload, and another if nothing comes.
fn echo(from: &Place, to: IpAddr, payload: usize) -> anyhow::Result<Outcome> {
    for _ in 0..2 {
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
            patience_ms: 600,
        };
        let sender = from.run(|| Sender::open(mark, order))??;
        let outcome = Mutex::new(Outcome::Silent);
        sender.run(None, &|event| {
            let met = match event {
                Event::Answered(answer) if answer.kind == Answer::Reply => Outcome::Answered,
                Event::Answered(_) | Event::Sent { error: Some(_), .. } => Outcome::Refused,
                _ => return,
            };
            *outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = met;
        })?;
        let outcome = outcome.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if outcome != Outcome::Silent {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Silent)
}

/// From one container of each network, over each way out of the host that is narrower than the container.
fn large(facts: &Facts, blind: &mut Vec<String>) -> Vec<Large> {
    let mut found = Vec::new();
    for network in &facts.networks {
        let live = |it: &(usize, &Attached)| {
            it.1.key.network == network.list.name && facts.host_link(it.1).is_some()
        };
        let Some((attachment, attached)) = facts.attachments.iter().enumerate().find(live) else { continue };
        let (Some(inside), Some(space)) = (facts.interface(attached), facts.space(attached)) else {
            continue;
        };
        for (device, mtu, to) in ways_out(facts, inside.mtu) {
            let full = usize::try_from(inside.mtu).unwrap_or(SMALL).saturating_sub(HEADERS);
            let tried = echo(&space.place, to, SMALL).and_then(|small| match small {
                Outcome::Answered => echo(&space.place, to, full),
                _ => Ok(small),
            });
            match tried {
                Ok(Outcome::Silent)
                    if echo(&space.place, to, SMALL).is_ok_and(|it| it == Outcome::Answered) =>
                {
                    found.push(Large { attachment, to, device, mtu });
                }
                Ok(_) => {}
                Err(err) => blind.push(format!("packets of full size from {}: {err:#}", attached.key)),
            }
        }
    }
    found
}

/// The host's devices that are narrower than `mtu`, with an IPv4 address behind each: a gateway, or the far end of a tunnel.
fn ways_out(facts: &Facts, mtu: u32) -> Vec<(String, u32, IpAddr)> {
    let host = facts.host();
    let gateways = host.routes.iter().filter_map(|route| {
        let link = route.dev.and_then(|dev| host.link_at(dev))?;
        Some((link.name.clone(), link.mtu, route.gateway?))
    });
    let mut ways: Vec<_> = gateways.filter(|(_, narrow, to)| *narrow < mtu && to.is_ipv4()).collect();
    ways.sort();
    ways.dedup_by(|a, b| a.0 == b.0);
    ways
}

/// Each container's name servers, all asked at once.
fn questions(facts: &Facts, blind: &mut Vec<String>) -> Vec<Question> {
    let mut open = Vec::new();
    for (attachment, attached) in facts.attachments.iter().enumerate() {
        let Some(space) = facts.space(attached).filter(|_| facts.interface(attached).is_some()) else {
            continue;
        };
        let servers = name_servers(attached, &space.place);
        if servers.is_empty() {
            continue;
        }
        let asked = space.place.run(|| servers.into_iter().map(ask).collect::<Vec<_>>());
        match asked {
            Ok(asked) => open.extend(asked.into_iter().map(|(server, asked)| (attachment, server, asked))),
            Err(err) => blind.push(format!("name servers of {}: {err:#}", attached.key)),
        }
    }
    let mut outcomes: Vec<_> = open.iter().map(|(.., asked)| asked.as_ref().err().map(outcome_of)).collect();
    for pause in [Duration::from_millis(400), Duration::from_millis(600)] {
        let until = Instant::now() + pause;
        while Instant::now() < until && outcomes.iter().any(Option::is_none) {
            listen(&open, &mut outcomes, until);
        }
        // A datagram may get lost.
        for ((.., asked), outcome) in open.iter().zip(&mut outcomes).filter(|(_, outcome)| outcome.is_none())
        {
            *outcome =
                asked.as_ref().ok().and_then(|socket| socket.send(&QUERY).err().as_ref().map(outcome_of));
        }
    }
    let all = open.into_iter().zip(outcomes);
    let question = |((attachment, server, _), outcome): (Open, Option<Outcome>)| Question {
        attachment,
        server,
        outcome: outcome.unwrap_or(Outcome::Silent),
    };
    all.map(question).collect()
}

/// Those that the plugins named, else those of the file that `ip netns exec` shows to what it starts there (ip-netns(8)).
fn name_servers(attached: &Attached, place: &Place) -> Vec<IpAddr> {
    let given = attached.result.iter().flat_map(|result| &result.dns.nameservers);
    let given: Vec<IpAddr> = given.filter_map(|server| server.parse().ok()).collect();
    if !given.is_empty() {
        return given;
    }
    let file = Path::new("/etc/netns").join(&place.name).join("resolv.conf");
    let text = fs::read_to_string(file).unwrap_or_default();
    let named = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    named.filter_map(|server| server.trim().parse().ok()).collect()
}

type Open = (usize, IpAddr, io::Result<UdpSocket>);

/// In the calling thread's namespace.
fn ask(server: IpAddr) -> (IpAddr, io::Result<UdpSocket>) {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let asked = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(SocketAddr::new(server, DNS))?;
        socket.set_nonblocking(true)?;
        socket.send(&QUERY)?;
        Ok(socket)
    });
    (server, asked)
}

/// Notes what has come of the open questions.
fn listen(open: &[Open], outcomes: &mut [Option<Outcome>], until: Instant) {
    let waiting = open.iter().zip(outcomes.iter_mut());
    let mut waiting: Vec<_> = waiting
        .filter_map(|((.., asked), outcome)| Some((asked.as_ref().ok()?, outcome)))
        .filter(|(_, outcome)| outcome.is_none())
        .collect();
    let mut fds: Vec<_> =
        waiting.iter().map(|(socket, _)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    // An interrupted wait is taken up again.
    let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
    for (socket, outcome) in &mut waiting {
        let mut reply = [0; 512];
        **outcome = match socket.recv(&mut reply) {
            // Any answer to our question shows that somebody serves there.
            Ok(_) if reply.starts_with(&QUERY[..2]) => Some(Outcome::Answered),
            Ok(_) => None,
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => None,
            Err(err) => Some(outcome_of(&err)),
        };
    }
}

fn outcome_of(err: &io::Error) -> Outcome {
    // A closed port; anything else (no route, a filter's error) is on the way there.
    if err.kind() == io::ErrorKind::ConnectionRefused { Outcome::Refused } else { Outcome::Silent }
}

/// Who serves the root (RFC 1035 section 4.1): number, recursion desired, one question; name ".", type NS, class IN.
pub const QUERY: [u8; 17] = [0x7e, 0x0d, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
const DNS: u16 = 53;
const SMALL: usize = 56;
/// Of IPv4 and ICMP.
const HEADERS: usize = 28;
const AT_ONCE: usize = 64;
