//! Whether ports of an address answer from a namespace, and how fast. Connects and sends datagrams; knows no node.

use std::{
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{agent::place::Place, facts::trials::QUERY, trace::probe::Protocol};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Knocked {
    pub to: IpAddr,
    pub port: Protocol,
    pub state: State,
    /// From the question to the answer.
    pub rtt_us: Option<u64>,
    /// Why it could not be tried, or what somebody on the way said.
    pub error: Option<String>,
}

/// What a port is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A connection came about, or a datagram came back.
    Open,
    /// The other end refused.
    Closed,
    /// Nothing came. A service by UDP owes no answer.
    Silent,
    Unreachable,
}

impl State {
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Unreachable => "unreachable",
        }
    }
}

impl Knocked {
    /// Nothing speaks against a service there.
    pub fn is_well(&self) -> bool {
        let owes_nothing = matches!(self.port, Protocol::Udp(_));
        self.state == State::Open || owes_nothing && self.state == State::Silent
    }
}

/// Tries all, many at once; in the order of addresses and ports.
pub fn all(from: &Place, to: &[IpAddr], ports: &[Protocol]) -> anyhow::Result<Vec<Knocked>> {
    let tries: Vec<_> = to.iter().flat_map(|to| ports.iter().map(move |port| (*to, *port))).collect();
    let found = Mutex::new(Vec::new());
    for some in tries.chunks(AT_ONCE) {
        // Threads are born in the namespace of who starts them.
        from.run(|| {
            thread::scope(|scope| {
                for (to, port) in some {
                    scope.spawn(|| {
                        let knocked = one(*to, *port);
                        found.lock().unwrap_or_else(PoisonError::into_inner).push(knocked);
                    });
                }
            });
        })?;
    }
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort_by_key(|knocked| (knocked.to, ports.iter().position(|port| *port == knocked.port)));
    Ok(found)
}

fn one(to: IpAddr, port: Protocol) -> Knocked {
    let begun = Instant::now();
    let tried = match port {
        Protocol::Tcp(number) => TcpStream::connect_timeout(&SocketAddr::new(to, number), PATIENCE).map(drop),
        Protocol::Udp(number) => datagram(SocketAddr::new(to, number)),
        Protocol::Icmp => Err(ErrorKind::Unsupported.into()),
    };
    let rtt = u64::try_from(begun.elapsed().as_micros()).ok();
    let state = |state, rtt_us| Knocked { to, port, state, rtt_us, error: None };
    match tried {
        Ok(()) => state(State::Open, rtt),
        Err(err) => match err.kind() {
            ErrorKind::ConnectionRefused => state(State::Closed, rtt),
            ErrorKind::TimedOut | ErrorKind::WouldBlock => state(State::Silent, None),
            _ => Knocked { error: Some(err.to_string()), ..state(State::Unreachable, None) },
        },
    }
}

/// A question that a name server answers, and an echo server too; a second one if nothing comes.
fn datagram(to: SocketAddr) -> io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE / 2))?;
    let ask = || socket.send(&QUERY).and_then(|_| socket.recv(&mut [0; 512])).map(drop);
    match ask() {
        Err(err) if err.kind() == ErrorKind::WouldBlock => ask(),
        done => done,
    }
}

const AT_ONCE: usize = 32;
const PATIENCE: Duration = Duration::from_secs(1);
