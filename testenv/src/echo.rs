//! TCP and UDP echo inside a namespace: a server that remembers who came, and clients; and a client for what serves HTTP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::ns::Ns;

pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How soon a server sees that it shall stop, in milliseconds.
pub(crate) const BEAT: u8 = 20;

/// Sends back what it gets, until dropped.
pub struct EchoServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Where it listens; the port is the kernel's choice when 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The source addresses of those who spoke to it, in order.
    pub fn seen(&self) -> Vec<SocketAddr> {
        self.seen.lock().expect("no panic while held").clone()
    }

    pub(crate) fn start(
        address: SocketAddr,
        serve: impl FnOnce(&Mutex<Vec<SocketAddr>>, &AtomicBool) + Send + 'static,
    ) -> Self {
        let (seen, stop) = (Arc::<Mutex<Vec<SocketAddr>>>::default(), Arc::<AtomicBool>::default());
        let (own_seen, own_stop) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || serve(&own_seen, &own_stop));
        Self { address, seen, stop, thread: Some(thread) }
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Ns {
    /// Starts a TCP echo server at `address` inside. A socket stays in the namespace that it was made in.
    #[track_caller]
    pub fn tcp_echo(&self, address: SocketAddr) -> EchoServer {
        let listener = self.run(|| TcpListener::bind(address));
        let listener =
            listener.unwrap_or_else(|cause| panic!("{}: listen on {address}: {cause}", self.name()));
        let address = listener.local_addr().unwrap_or(address);
        EchoServer::start(address, move |seen, stop| {
            while !stop.load(Ordering::Relaxed) {
                if !readable(&listener) {
                    continue;
                }
                if let Ok((stream, from)) = listener.accept() {
                    seen.lock().expect("no panic while held").push(from);
                    thread::spawn(move || send_back(stream));
                }
            }
        })
    }

    /// Starts a UDP echo server at `address` inside.
    #[track_caller]
    pub fn udp_echo(&self, address: SocketAddr) -> EchoServer {
        let socket = self.run(|| UdpSocket::bind(address));
        let socket = socket.unwrap_or_else(|cause| panic!("{}: bind {address}: {cause}", self.name()));
        let address = socket.local_addr().unwrap_or(address);
        EchoServer::start(address, move |seen, stop| {
            let mut bytes = [0; 65536];
            while !stop.load(Ordering::Relaxed) {
                if !readable(&socket) {
                    continue;
                }
                if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                    seen.lock().expect("no panic while held").push(from);
                    socket.send_to(&bytes[..length], from).ok();
                }
            }
        })
    }

    /// Sends `text` to a TCP echo server from inside and reads it back; returns the address it came from.
    pub fn tcp_talk(&self, to: SocketAddr, text: &str) -> io::Result<SocketAddr> {
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(text.as_bytes())?;
            let mut back = vec![0; text.len()];
            stream.read_exact(&mut back)?;
            same(text, &back)?;
            stream.local_addr()
        })
    }

    /// Sends `text` to a UDP echo server from inside and reads it back; returns the address it came from.
    pub fn udp_talk(&self, to: SocketAddr, text: &str) -> io::Result<SocketAddr> {
        self.run(|| {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            socket.send(text.as_bytes())?;
            let mut back = [0; 65536];
            let length = socket.recv(&mut back)?;
            same(text, &back[..length])?;
            socket.local_addr()
        })
    }

    /// What an HTTP server answers to a request for `/index.html` from inside, head and all; `None` when nobody answers.
    pub fn http_page(&self, server: SocketAddr) -> Option<String> {
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&server, PATIENCE).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").ok()?;
            let mut page = String::new();
            stream.read_to_string(&mut page).ok()?;
            Some(page)
        })
    }
}

pub(crate) fn readable(socket: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PollTimeout::from(BEAT))
        .is_ok_and(|ready| ready > 0)
}

pub(crate) fn send_back(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).ok();
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..length]).is_err() {
            return;
        }
    }
}

fn same(sent: &str, back: &[u8]) -> io::Result<()> {
    if sent.as_bytes() == back {
        return Ok(());
    }
    let back = String::from_utf8_lossy(back);
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("sent {sent:?}, got back {back:?}")))
}
