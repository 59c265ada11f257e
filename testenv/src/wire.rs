//! A wire that carries frames as they are in memory. Between veths a checksum that was left to the hardware is never written
//! and never missed; on this wire it is missing, as behind a network card that promised to write those inside of tunnels and
//! looks at the outer packet alone.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nix::ifaddrs::getifaddrs;
use nix::libc::PACKET_OUTGOING;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, socket,
};

use crate::ns::Ns;

/// Two links that stand for one, until dropped.
pub struct Wire {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Joins links `a` and `b` of a namespace; both are up.
    pub fn lay(ns: &Ns, a: &str, b: &str) -> io::Result<Self> {
        let (a, b) = ns.run(|| Ok::<_, io::Error>((open(a)?, open(b)?)))?;
        let stop = Arc::<AtomicBool>::default();
        let told = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut frame = vec![0; LONGEST];
            while !told.load(Ordering::Relaxed) {
                let mut ends = [&a, &b].map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
                if poll(&mut ends, PollTimeout::from(BEAT)).is_err() {
                    continue;
                }
                carry(&a, &b, &mut frame);
                carry(&b, &a, &mut frame);
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn open(link: &str) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let opened = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    // What getifaddrs makes of a link is an address of this family already.
    let address = getifaddrs()?.find(|entry| entry.interface_name == link && is_link(entry.address.as_ref()));
    let address = address.and_then(|entry| entry.address?.as_link_addr().copied());
    bind(opened.as_raw_fd(), &address.ok_or_else(|| io::Error::other(format!("no link {link}")))?)?;
    Ok(opened)
}

fn is_link(address: Option<&nix::sys::socket::SockaddrStorage>) -> bool {
    address.is_some_and(|address| address.as_link_addr().is_some())
}

/// All that waits at `from`. What the wire itself sent there is shown to it too, as outgoing.
fn carry(from: &OwnedFd, to: &OwnedFd, frame: &mut [u8]) {
    while let Ok((length, sender)) = recvfrom::<LinkAddr>(from.as_raw_fd(), frame) {
        if sender.is_some_and(|sender| sender.pkttype() == PACKET_OUTGOING) {
            continue;
        }
        finish(&mut frame[..length]);
        // A frame that does not fit is lost, as on any wire.
        let _ = send(to.as_raw_fd(), &frame[..length], MsgFlags::empty());
    }
}

/// The outer packet is whole: over IPv4, UDP may do without a checksum (RFC 768).
fn finish(frame: &mut [u8]) {
    let at = SlicedPacket::from_ethernet(frame).ok().and_then(|packet| {
        let (NetSlice::Ipv4(ip), TransportSlice::Udp(_)) = (packet.net?, packet.transport?) else {
            return None;
        };
        Some(ETHERNET + ip.header().slice().len() + UDP_CHECKSUM)
    });
    if let Some(at) = at {
        frame[at..at + 2].fill(0);
    }
}

const ETHERNET: usize = 14;
/// Where it is in the UDP header.
const UDP_CHECKSUM: usize = 6;
const LONGEST: usize = 65_550;
/// How soon the wire sees that it shall end, in milliseconds.
const BEAT: u8 = 20;
