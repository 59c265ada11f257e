//! Network namespaces: opening, telling apart, and running code inside one. The only place that calls setns(2).

use std::{
    fmt,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::Path,
    sync::Arc,
    thread,
};

use nix::{
    errno::Errno,
    sched::CloneFlags,
    sys::{
        stat::fstat,
        statfs::{NSFS_MAGIC, fstatfs},
    },
    unistd::{getpid, gettid},
};

use crate::error::{Error, Result};

/// A handle on a network namespace, which keeps it alive. Cloning shares the descriptor.
#[derive(Clone, Debug)]
pub struct Netns {
    file: Arc<File>,
    id: NetnsId,
    name: Arc<str>,
}

/// What makes two handles the same namespace (ioctl_ns(2): device and inode of its file).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetnsId {
    /// Device of the nsfs mount.
    pub dev: u64,
    /// Inode number, as in `net:[4026531840]`.
    pub ino: u64,
}

/// Why a path could not be opened as a network namespace.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing there: the namespace is gone.
    #[error("network namespace {path}: no such file")]
    Missing {
        /// The path as given.
        path: String,
    },
    /// Something is there, but no network namespace: a plain file, or a namespace of another kind.
    #[error("{path} is not a network namespace")]
    NotNetns {
        /// The path as given.
        path: String,
    },
    /// It may be one, but it could not be opened.
    #[error("{0}")]
    Other(Error),
}

impl OpenError {
    /// Nothing is at the path.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// What is at the path is no network namespace.
    pub fn is_not_netns(&self) -> bool {
        matches!(self, Self::NotNetns { .. })
    }
}

impl Netns {
    /// Opens the namespace file at `path` (`/run/netns/x`, `/proc/1234/ns/net`).
    ///
    /// A bind mount of a namespace of another kind is the one thing that passes here; [`Netns::run`] refuses it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let file = File::open(path).map_err(|err| match err.raw_os_error().map(Errno::from_raw) {
            // ESRCH and ENOTDIR: /proc/<pid>/ns/net of a process that has ended.
            Some(Errno::ENOENT | Errno::ESRCH | Errno::ENOTDIR) => OpenError::Missing { path: name.clone() },
            // What open(2) says of a socket or a device without a driver.
            Some(Errno::ENXIO) => OpenError::NotNetns { path: name.clone() },
            _ => OpenError::Other(Error::new(format!("open network namespace {name}"), err)),
        })?;
        Self::from_file(file, name)
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, OpenError> {
        Self::open(current())
    }

    fn from_file(file: File, name: String) -> Result<Self, OpenError> {
        let failed =
            |err: Errno| OpenError::Other(Error::new(format!("inspect network namespace {name}"), err));
        let of_process = name.starts_with("/proc/");
        let kind = fstatfs(&file).map_err(failed)?.filesystem_type();
        if kind != NSFS_MAGIC || (of_process && is_other_kind(&file)) {
            return Err(OpenError::NotNetns { path: name });
        }
        let stat = fstat(&file).map_err(failed)?;
        let id = NetnsId { dev: stat.st_dev, ino: stat.st_ino };
        Ok(Self { file: Arc::new(file), id, name: name.into() })
    }

    /// Device and inode; equal for two handles on the same namespace.
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// The inode number, as `ip netns` and `/proc/<pid>/ns/net` show it.
    pub fn inode(&self) -> u64 {
        self.id.ino
    }

    /// Runs `work` inside this namespace and waits for it.
    ///
    /// It runs on a thread of its own, which ends afterwards: whatever `work` does, panicking included, the calling
    /// thread never leaves its namespace. Costs some 30 microseconds; a panic of `work` is passed on.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let inside = || self.enter().map(|()| work());
            let worker = thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, inside)
                .map_err(|err| Error::new(format!("enter network namespace {}", self.name), err))?;
            match worker.join() {
                Ok(result) => result.map_err(|errno| self.refused(errno)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// As [`Netns::run`] for what is over in an instant and can't fail to end, such as opening a socket or writing a sysctl:
    /// on the calling thread itself, which goes and comes back. Costs two microseconds.
    pub fn visit<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let home = File::open(current())
            .map_err(|err| Error::new("open the network namespace of this process", err))?;
        // Whoever would not be let back in, as in a user namespace that does not own this one, must not leave.
        if enter(&home).is_err() {
            return self.run(work);
        }
        self.enter().map_err(|errno| self.refused(errno))?;
        let _home = Home(home);
        Ok(work())
    }

    fn refused(&self, errno: Errno) -> Error {
        let other_kind = errno == Errno::EINVAL;
        let act = format!("enter network namespace {}", self.name);
        Error::with_extack(act, errno, other_kind.then(|| "it is no network namespace".into()))
    }

    fn enter(&self) -> nix::Result<()> {
        enter(&self.file)
    }
}

/// Brings the calling thread back.
struct Home(File);

impl Drop for Home {
    fn drop(&mut self) {
        // It was just there, so what keeps it out, such as want of memory, passes. In the wrong namespace nothing may go on, not
        // even undoing what was done.
        if enter(&self.0).is_err() {
            enter(&self.0).expect("come back to the network namespace of this process");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place: both callers see to the way back")]
fn enter(netns: &File) -> nix::Result<()> {
    nix::sched::setns(netns, CloneFlags::CLONE_NEWNET)
}

/// A namespace file reached through /proc names its kind in its link text (`mnt:[4026531841]`); a bind mount shows its
/// path there instead, and is taken at its word until setns(2) checks it.
fn is_other_kind(file: &File) -> bool {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    match std::fs::read_link(link) {
        Ok(target) => {
            let target = target.to_string_lossy();
            target.ends_with(']')
                && target.contains(":[")
                && !target.starts_with('/')
                && !target.starts_with("net:")
        }
        Err(_) => false,
    }
}

impl PartialEq for Netns {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Netns {}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl From<OpenError> for io::Error {
    fn from(err: OpenError) -> Self {
        Self::other(err)
    }
}

/// The file of the calling thread's namespace. For a process's first thread by the shorter way, which a plugin's few
/// milliseconds notice: each step of a path into /proc is made on demand.
fn current() -> &'static str {
    if gettid() == getpid() { "/proc/self/ns/net" } else { "/proc/thread-self/ns/net" }
}

/// Enough for a netlink exchange; less to map than the 2 MiB of std.
const STACK: usize = 256 * 1024;
