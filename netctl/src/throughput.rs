//! How much passes between two namespaces by TCP and UDP: one end serves, the other measures; and on what. Knows no node.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    num::NonZero,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use kernel::{address, features, link, netlink::Netlink};
use nix::sys::utsname::uname;
use serde::{Deserialize, Serialize};

/// What was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measured {
    /// Of one connection, and of eight at once, in bits a second.
    pub tcp_1_bits_per_s: u64,
    pub tcp_8_bits_per_s: u64,
    /// Of a byte there and a byte back.
    pub rtt_p50_us: u64,
    pub rtt_p99_us: u64,
    pub connections_per_s: u64,
    /// Small datagrams that arrived, sent as fast as they go.
    pub udp_packets_per_s: u64,
    /// Of a hundred that were sent, those that did not arrive.
    pub udp_loss_percent: f64,
    /// On what it was measured from.
    pub end: End,
}

/// What else than the network decides what is measured, at one end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub kernel: String,
    pub cpus: usize,
    /// Of the device that has the end's address.
    pub mtu: u32,
    /// What that device leaves to hardware or to later, by ethtool's names.
    pub offloads: Vec<String>,
}

impl End {
    /// Of the calling thread's namespace, where the address is.
    pub fn at(address: IpAddr) -> anyhow::Result<Self> {
        let mut netlink = Netlink::open()?;
        let addresses = address::list_all(&mut netlink)?;
        let has = |index| addresses.iter().any(|it| it.link == index && it.network.ip() == address);
        let link = link::list(&mut netlink)?.into_iter().find(|link| has(link.index));
        let link = link.with_context(|| format!("no device has {address}"))?;
        let name = uname()?;
        Ok(Self {
            kernel: name.release().to_string_lossy().into_owned(),
            cpus: thread::available_parallelism().map_or(1, NonZero::get),
            mtu: link.mtu,
            offloads: features::active(&link.dev())?,
        })
    }
}

/// Serves on a free port of the calling thread's namespace until the process ends; the port.
pub fn serve(address: IpAddr) -> io::Result<u16> {
    let listener = TcpListener::bind((address, 0))?;
    let port = listener.local_addr()?.port();
    let serve = move || {
        for stream in listener.incoming().flatten() {
            // A connection that breaks is the other side's to notice.
            thread::spawn(move || attend(stream));
        }
    };
    thread::Builder::new().name("bench".to_owned()).spawn(serve)?;
    Ok(port)
}

/// The first byte says what is wanted: to be read, to be echoed, to have datagrams counted, or nothing.
fn attend(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wanted = [0];
    stream.read_exact(&mut wanted)?;
    if wanted == COUNT {
        return count(stream);
    }
    let mut bytes = vec![0; BLOCK];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return stream.write_all(b".");
        }
        if wanted == ECHO {
            stream.write_all(&bytes[..count])?;
        }
    }
}

/// Says on which port, and, once the other side has ended and nothing comes any more, how many came.
fn count(mut stream: TcpStream) -> io::Result<()> {
    let socket = UdpSocket::bind((stream.local_addr()?.ip(), 0))?;
    socket.set_read_timeout(Some(QUIET))?;
    stream.write_all(&socket.local_addr()?.port().to_be_bytes())?;
    stream.set_nonblocking(true)?;
    let (mut received, mut bytes) = (0_u64, [0; DATAGRAM]);
    loop {
        match socket.recv(&mut bytes) {
            Ok(_) => received += 1,
            // The other side sends nothing more by TCP; anything but silence is its end.
            Err(_) => match stream.read(&mut [0]) {
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
                _ => break,
            },
        }
    }
    stream.set_nonblocking(false)?;
    stream.write_all(&received.to_be_bytes())
}

/// From the calling thread's namespace.
pub fn measure(to: SocketAddr, time: Duration) -> anyhow::Result<Measured> {
    let (p50, p99) = round_trips(to, time)?;
    let (sent, received) = datagrams(to, time)?;
    let own = connect(to, SINK)?.local_addr()?.ip();
    Ok(Measured {
        tcp_1_bits_per_s: stream(to, time)?,
        tcp_8_bits_per_s: streams(to, time)?,
        rtt_p50_us: p50,
        rtt_p99_us: p99,
        connections_per_s: connections(to, time)?,
        udp_packets_per_s: per_second(received, time),
        udp_loss_percent: percent(sent.saturating_sub(received), sent),
        end: End::at(own)?,
    })
}

fn connect(to: SocketAddr, wanted: [u8; 1]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&wanted)?;
    Ok(stream)
}

/// Until the other side has read all.
fn stream(to: SocketAddr, time: Duration) -> io::Result<u64> {
    let (mut stream, block) = (connect(to, SINK)?, vec![0; BLOCK]);
    let (begun, mut sent) = (Instant::now(), 0_u64);
    while begun.elapsed() < time {
        sent += u64::try_from(stream.write(&block)?).unwrap_or_default();
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    Ok(per_second(sent.saturating_mul(8), begun.elapsed()))
}

fn streams(to: SocketAddr, time: Duration) -> io::Result<u64> {
    let all: Vec<_> = (0..8).map(|_| thread::Builder::new()).collect();
    thread::scope(|scope| {
        let started = all.into_iter().map(|builder| builder.spawn_scoped(scope, || stream(to, time)));
        let started: Vec<_> = started.collect::<io::Result<_>>()?;
        started.into_iter().map(|it| it.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))).sum()
    })
}

/// The middle one, and the one that a hundredth take longer than, in microseconds.
fn round_trips(to: SocketAddr, time: Duration) -> io::Result<(u64, u64)> {
    let mut stream = connect(to, ECHO)?;
    let (begun, mut all) = (Instant::now(), Vec::new());
    while begun.elapsed() < time || all.is_empty() {
        let sent = Instant::now();
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        all.push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() - 1) * percent / 100];
    Ok((at(50), at(99)))
}

fn connections(to: SocketAddr, time: Duration) -> io::Result<u64> {
    let (begun, mut made) = (Instant::now(), 0);
    while begun.elapsed() < time {
        connect(to, SINK)?;
        made += 1;
    }
    Ok(per_second(made, begun.elapsed()))
}

/// How many were sent, and how many arrived.
fn datagrams(to: SocketAddr, time: Duration) -> io::Result<(u64, u64)> {
    let mut stream = connect(to, COUNT)?;
    let mut port = [0; 2];
    stream.read_exact(&mut port)?;
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((to.ip(), u16::from_be_bytes(port)))?;
    let (begun, mut sent) = (Instant::now(), 0_u64);
    while begun.elapsed() < time {
        // What finds no room in a queue here was not sent.
        sent += u64::from(socket.send(&[0; DATAGRAM]).is_ok());
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut received = [0; 8];
    stream.read_exact(&mut received)?;
    Ok((sent, u64::from_be_bytes(received)))
}

/// With two places.
fn percent(part: u64, of: u64) -> f64 {
    let hundredths = u128::from(part) * 10_000 / u128::from(of.max(1));
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}

fn per_second(count: u64, time: Duration) -> u64 {
    let microseconds = time.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / microseconds).unwrap_or(u64::MAX)
}

const SINK: [u8; 1] = *b"s";
const ECHO: [u8; 1] = *b"e";
const COUNT: [u8; 1] = *b"c";
/// As large as a question to a name server or a voice's sample: it is the packets that cost.
const DATAGRAM: usize = 64;
/// After which nothing is on its way any more.
const QUIET: Duration = Duration::from_millis(100);
const BLOCK: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
