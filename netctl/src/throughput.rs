//! How much passes between two namespaces by TCP: one end serves, the other measures. Knows no node.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

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

/// The first byte says what is wanted: to be read, to be echoed, or nothing.
fn attend(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wanted = [0];
    stream.read_exact(&mut wanted)?;
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

/// From the calling thread's namespace.
pub fn measure(to: SocketAddr, time: Duration) -> io::Result<Measured> {
    let (p50, p99) = round_trips(to, time)?;
    Ok(Measured {
        tcp_1_bits_per_s: stream(to, time)?,
        tcp_8_bits_per_s: streams(to, time)?,
        rtt_p50_us: p50,
        rtt_p99_us: p99,
        connections_per_s: connections(to, time)?,
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

fn per_second(count: u64, time: Duration) -> u64 {
    let microseconds = time.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / microseconds).unwrap_or(u64::MAX)
}

const SINK: [u8; 1] = *b"s";
const ECHO: [u8; 1] = *b"e";
const BLOCK: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);
