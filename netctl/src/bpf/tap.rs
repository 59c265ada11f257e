//! A tap on the kernel's packet tracepoints: loads the program, attaches it, reads what it saw. Ends with its value;
//! the kernel removes everything when the process dies, however it dies.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use super::{
    btf::{self, Btf},
    skb::{Arguments, Maps, Mark, Offsets, RECORD, Sighting, Tracepoint, program},
    sys::{self, LoadError, MapKind, Ring},
};

/// Why the tap could not be set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's types are not to be had.
    #[error(transparent)]
    Types(#[from] btf::Error),
    /// A map could not be made.
    #[error("make BPF {map}")]
    Map {
        /// Which one.
        map: &'static str,
        /// EPERM without CAP_BPF; ENOSYS or EINVAL where the kernel lacks it.
        source: io::Error,
    },
    /// The program was refused.
    #[error("tracepoint {tracepoint}")]
    Load {
        /// For which tracepoint.
        tracepoint: &'static str,
        /// With the verifier's account.
        source: LoadError,
    },
    /// The program could not be attached.
    #[error("attach to raw tracepoint {tracepoint}")]
    Attach {
        /// To which.
        tracepoint: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What to report.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Inode numbers of the namespaces; none means every one of this kernel.
    pub namespaces: Option<Vec<u32>>,
    /// Only packets that carry this.
    pub mark: Option<Mark>,
}

/// Attached programs and their ring buffer. Readable for poll(2) when sightings wait.
pub struct Tap {
    ring: Ring,
    namespaces: Option<OwnedFd>,
    _links: Vec<OwnedFd>,
    _scratch: OwnedFd,
}

/// Room for about 14,000 sightings.
const RING_SIZE: u32 = 4 << 20;

impl Tap {
    /// Starts to watch. Needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN), and BTF.
    pub fn open(btf: &Btf, tracepoints: &[Tracepoint], filter: &Filter) -> Result<Self, Error> {
        // Kernels before 5.11 count BPF memory against this limit; later ones do not care whether it fails.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        let offsets = Offsets::find(btf)?;
        let record = u32::try_from(RECORD).expect("a record is a few hundred bytes");
        let scratch = made("scratch space", sys::create_map(MapKind::PerCpuArray, 4, record, 1))?;
        let ring = made("ring buffer", Ring::create(RING_SIZE))?;
        let namespaces = filter.namespaces.as_deref().map(namespace_set).transpose()?;
        let maps = Maps {
            namespaces: namespaces.as_ref().map(AsRawFd::as_raw_fd),
            scratch: scratch.as_raw_fd(),
            ring: ring.as_fd().as_raw_fd(),
        };
        let mut links = Vec::new();
        for &tracepoint in tracepoints {
            let arguments = Arguments::find(btf, tracepoint)?;
            let insns = program(tracepoint, arguments, &offsets, maps, filter.mark);
            let tracepoint = tracepoint.name();
            let loaded = sys::load(&insns).map_err(|source| Error::Load { tracepoint, source })?;
            let link = sys::attach(loaded.as_fd(), tracepoint)
                .map_err(|source| Error::Attach { tracepoint, source })?;
            links.push(link);
        }
        Ok(Self { ring, namespaces, _links: links, _scratch: scratch })
    }

    /// Watches these namespaces too; nothing to do where all are watched.
    pub fn add_namespaces(&self, inodes: &[u32]) -> Result<(), Error> {
        let Some(set) = &self.namespaces else { return Ok(()) };
        inodes.iter().try_for_each(|&inode| made(NAMESPACES, sys::insert(set.as_fd(), inode, 1)))
    }

    /// Hands over what waits.
    pub fn drain(&mut self, mut each: impl FnMut(Sighting)) {
        self.ring.drain(|record| {
            if let Some(sighting) = Sighting::decode(record) {
                each(sighting);
            }
        });
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

fn namespace_set(inodes: &[u32]) -> Result<OwnedFd, Error> {
    let set = made(NAMESPACES, sys::create_set(MOST_NAMESPACES))?;
    for &inode in inodes {
        made(NAMESPACES, sys::insert(set.as_fd(), inode, 1))?;
    }
    Ok(set)
}

const NAMESPACES: &str = "set of namespaces";
/// Memory is taken as they come, but for 16 bytes each.
const MOST_NAMESPACES: u32 = 32768;

fn made<T>(map: &'static str, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Map { map, source })
}

#[cfg(test)]
mod tests {
    use std::{
        net::UdpSocket,
        os::unix::fs::MetadataExt,
        time::{Duration, Instant},
    };

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use testenv::lab;

    use super::*;

    /// The verifier accepts all programs, and a marked packet over loopback is seen going out, coming in, and, since
    /// nobody listens, dropped for want of a socket.
    #[test]
    fn a_marked_packet_is_seen_and_its_drop_explained() {
        lab::run("tap", |lab| {
            lab.needs_machine_root("raw tracepoints need CAP_BPF");
            lab.host().run(sees_and_explains);
        });
    }

    fn sees_and_explains() {
        let inode = std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        let filter =
            Filter { namespaces: Some(vec![u32::try_from(inode).unwrap()]), mark: Some([0xa7, 0x51, 0x3c]) };
        let btf = Btf::vmlinux().unwrap();
        let mut tap = Tap::open(&btf, &Tracepoint::ALL, &filter).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        socket.send_to(b"other", unused).unwrap();
        socket.send_to(b"xx\xa7\x51\x3cyyyyyyyy", unused).unwrap();

        let mut seen = Vec::new();
        let until = Instant::now() + Duration::from_secs(5);
        while !seen.iter().any(|s: &Sighting| s.tracepoint == Tracepoint::Drop) {
            assert!(Instant::now() < until, "no drop among {seen:?}");
            let mut fds = [PollFd::new(tap.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(100_u8)).unwrap();
            tap.drain(|sighting| seen.push(sighting));
        }
        let reasons = btf.enumeration("skb_drop_reason").unwrap();
        let dropped = seen.iter().find(|s| s.tracepoint == Tracepoint::Drop).unwrap();
        assert_eq!(reasons[&dropped.reason], "SKB_DROP_REASON_NO_SOCKET");
        for tracepoint in [Tracepoint::Transmit, Tracepoint::Receive] {
            let sighting = seen.iter().find(|s| s.tracepoint == tracepoint).unwrap();
            assert_eq!((sighting.device.as_str(), sighting.layer3), ("lo", 14));
            assert_eq!(sighting.protocol, 0x0800);
        }
        let marked = |s: &Sighting| s.bytes.windows(3).any(|window| window == [0xa7, 0x51, 0x3c]);
        assert!(seen.iter().all(marked), "{seen:?}");
    }
}
