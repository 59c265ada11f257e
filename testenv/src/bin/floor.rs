//! The floor of the bench: one process that does to the kernel what an attachment needs and nothing else. Its netlink
//! messages were prepared beforehand; it knows no CNI, and none of our crates.
//!
//! `floor SCRIPT NETNS LEASE CONTENT`: NETNS `-` for none; an empty CONTENT removes the lease file.
//! A script is a row of parts: where (1 byte: 0 the host's rtnetlink, 1 the container's, 2 nftables; and 4 added for a
//! question, which may be answered by "there is none"), the length (4 bytes, little end first), and the messages. A part has
//! one answer, unless something in it fails; that to a dump goes on to its end. Where 3 is said, it is files under /proc/sys
//! that are set to 1 in the container, a line each.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::{env, io};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::sched::{CloneFlags, setns};

/// The descriptor that scripts name the container's namespace by: the first that is free in a new process.
const NETNS_FD: i32 = 3;
const SYSCTLS: u8 = 3;
const QUESTION: u8 = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP: u16 = 0x300;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("floor: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let [_, script, netns, lease, content] = arguments.as_slice() else {
        return Err(io::Error::other("expected SCRIPT NETNS LEASE CONTENT"));
    };
    let netns = if netns == "-" { None } else { Some(File::open(netns)?) };
    if netns.as_ref().is_some_and(|netns| netns.as_raw_fd() != NETNS_FD) {
        return Err(io::Error::other("started with descriptors open"));
    }
    if !content.is_empty() {
        fs::write(lease, content)?;
    }
    let mut sockets = [None, None, None];
    let script = fs::read(script)?;
    let mut rest = script.as_slice();
    while let [place, a, b, c, d, tail @ ..] = rest {
        let (messages, tail) = tail.split_at(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
        if *place == SYSCTLS {
            set_sysctls(netns.as_ref(), messages)?;
            rest = tail;
            continue;
        }
        let (place, is_question) = (place % QUESTION, place / QUESTION == 1);
        let socket = match &mut sockets[usize::from(place)] {
            Some(socket) => socket,
            unopened => unopened.insert(open(place, netns.as_ref())?),
        };
        let code = send(socket, messages)?;
        if code != 0 && !is_question {
            return Err(io::Error::from_raw_os_error(-code));
        }
        rest = tail;
    }
    if content.is_empty() { fs::remove_file(lease) } else { Ok(()) }
}

fn open(place: u8, netns: Option<&File>) -> io::Result<Socket> {
    match (place, netns) {
        (0, _) => connect(NETLINK_ROUTE),
        (1, Some(netns)) => inside(netns, || connect(NETLINK_ROUTE)),
        (2, _) => connect(NETLINK_NETFILTER),
        _ => Err(io::Error::other("no such place")),
    }
}

fn set_sysctls(netns: Option<&File>, files: &[u8]) -> io::Result<()> {
    let netns = netns.ok_or_else(|| io::Error::other("no namespace"))?;
    let files = std::str::from_utf8(files).map_err(io::Error::other)?;
    inside(netns, || files.lines().try_for_each(|file| fs::write(file, "1")))
}

/// Goes there and comes back.
fn inside<T>(netns: &File, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let own = File::open("/proc/self/ns/net")?;
    enter(netns)?;
    let done = work();
    enter(&own)?;
    done
}

fn connect(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

#[expect(clippy::disallowed_methods, reason = "a process of one thread, which comes back")]
fn enter(netns: &File) -> io::Result<()> {
    Ok(setns(netns, CloneFlags::CLONE_NEWNET)?)
}

/// The kernel has done its work when the call that sends returns, and put an error before the answer. Returns its code.
fn send(socket: &Socket, messages: &[u8]) -> io::Result<i32> {
    socket.send(messages, 0)?;
    let is_dump = u16::from_ne_bytes([messages[6], messages[7]]) & NLM_F_DUMP == NLM_F_DUMP;
    let mut buffer = [0_u8; 4096];
    loop {
        let length = socket.recv(&mut buffer.as_mut_slice(), 0)?;
        let kind = u16::from_ne_bytes([buffer[4], buffer[5]]);
        if length >= 20 && kind == NLMSG_ERROR {
            return Ok(i32::from_ne_bytes([buffer[16], buffer[17], buffer[18], buffer[19]]));
        }
        if !is_dump || kind == NLMSG_DONE {
            return Ok(0);
        }
    }
}
