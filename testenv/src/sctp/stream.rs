//! SCTP by the kernel's own sockets, one association a socket (RFC 6458, section 4), which are used as those of TCP are. Only
//! where the kernel has the protocol.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::echo::{EchoServer, readable, send_back};
use crate::ns::Ns;

/// A lost INIT is sent again after three seconds (RFC 9260, RTO.Initial), and guests are slow.
const PATIENCE: Duration = Duration::from_secs(8);

impl Ns {
    /// Why the kernel opens no SCTP socket, if so. Asking makes it load what it has.
    pub fn lacks_sctp(&self) -> Option<io::Error> {
        self.run(|| open(Ipv4Addr::UNSPECIFIED.into())).err()
    }

    /// Starts an SCTP echo server for `port` inside, by IPv4 and IPv6.
    #[track_caller]
    pub fn sctp_echo(&self, port: u16) -> EchoServer {
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = self.run(|| -> io::Result<TcpListener> {
            let socket = open(address.ip())?;
            socket.bind(&SockAddr::from(address))?;
            socket.listen(8)?;
            Ok(socket.into())
        });
        let listener =
            listener.unwrap_or_else(|cause| panic!("{}: listen on {address} by SCTP: {cause}", self.name()));
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

    /// Sends `text` to an SCTP echo server from inside, from this port or, where it is 0, from any, and reads it back.
    pub fn sctp_say(&self, from: u16, to: SocketAddr, text: &str) -> io::Result<()> {
        self.run(|| {
            let socket = open(to.ip())?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            let any: IpAddr =
                if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            socket.bind(&SocketAddr::new(any, from).into())?;
            socket.connect(&to.into())?;
            let mut stream = TcpStream::from(socket);
            stream.write_all(text.as_bytes())?;
            let mut back = vec![0; text.len()];
            stream.read_exact(&mut back)?;
            // Only once both ends have let go is the port free again.
            stream.shutdown(Shutdown::Write)?;
            stream.read_to_end(&mut Vec::new()).ok();
            let same = back == text.as_bytes();
            same.then_some(())
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "other bytes came back"))
        })
    }
}

fn open(family: IpAddr) -> io::Result<Socket> {
    let domain = if family.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    Socket::new(domain, Type::STREAM, Some(Protocol::SCTP))
}
