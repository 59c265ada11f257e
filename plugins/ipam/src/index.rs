//! The index by owner: which addresses an attachment holds, without reading every lease. It can be made again from
//! the leases at any time, and lives in `/run`.
//!
//! An entry is a symbolic link, since one call makes, reads or removes it and it is never half there: its name is the
//! hash of a lease's content, its target the addresses between commas.
//!
//! The index is in step with the leases while two times of modification are equal: that of the leases' directory and
//! that of a *seal*, an empty file named after the boot. Whoever changes the leases, a Go plugin for example, changes
//! the first; only [`Index::seal`] sets both. It sets them to a clock finer than the kernel's own stamps, and to none
//! that the directory has: the kernel stamps with the time of its last tick (before Linux 6.13 always), so that two
//! changes between two ticks would look alike. A plugin that is killed between a change and the seal leaves them
//! unequal.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

use crate::{origin::Origin, place::Place};

/// What every owner holds; the key is [`Owner::key`](crate::owner::Owner::key).
pub(crate) type Holdings = BTreeMap<String, Vec<IpAddr>>;

#[derive(Debug)]
pub(crate) struct Index {
    dir: PathBuf,
    seal: PathBuf,
    leases: PathBuf,
}

impl Index {
    pub(crate) fn new(place: &Place, origin: &Origin) -> Self {
        let Place { leases, draft: _, index, marks: _ } = place;
        let seal = index.with_added_extension(origin.boot());
        Self { dir: index.clone(), seal, leases: leases.clone() }
    }

    /// Whether this boot has sealed an index at all, in step or not.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.seal.exists()
    }

    pub(crate) fn is_in_step(&self) -> bool {
        let modified =
            |path: &Path| fs::metadata(path).map(|metadata| (metadata.mtime(), metadata.mtime_nsec()));
        match (modified(&self.leases), modified(&self.seal)) {
            (Ok(leases), Ok(seal)) => leases == seal,
            _ => false,
        }
    }

    /// Says that the index is in step. Call after the last change, under the network's lock.
    pub(crate) fn seal(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let taken = fs::metadata(&self.leases)?.modified()?;
        let time = if now == taken { now + Duration::from_nanos(1) } else { now };
        set_modified(&self.leases, time)?;
        match set_modified(&self.seal, time) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                fs::write(&self.seal, "")?;
                set_modified(&self.seal, time)
            }
            result => result,
        }
    }

    /// What the entry says; nothing without an entry.
    pub(crate) fn addresses(&self, key: &str) -> io::Result<Vec<IpAddr>> {
        match fs::read_link(self.dir.join(key)) {
            Ok(target) => Ok(parse(&target)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(err) => Err(err),
        }
    }

    /// Adds to what the entry says.
    pub(crate) fn add(&self, key: &str, addresses: &[IpAddr]) -> io::Result<()> {
        let entry = self.dir.join(key);
        match symlink(write(addresses), &entry) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.dir)?;
                symlink(write(addresses), &entry)
            }
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                let mut all = self.addresses(key)?;
                all.extend_from_slice(addresses);
                fs::remove_file(&entry)?;
                symlink(write(&all), &entry)
            }
            result => result,
        }
    }

    /// Removes the entry.
    pub(crate) fn remove(&self, key: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(key)) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err),
            _ => Ok(()),
        }
    }

    /// Removes the index if it has no entry: an empty network costs little to look through. Says whether there is
    /// none now.
    pub(crate) fn remove_empty(&self) -> bool {
        let gone = match fs::remove_dir(&self.dir) {
            Err(err) => err.kind() == io::ErrorKind::NotFound,
            Ok(()) => true,
        };
        if gone {
            // Left behind, it would only say that this boot has looked through the leases once.
            let _ = fs::remove_file(&self.seal);
        }
        gone
    }

    /// Makes the index say `desired` and nothing else, and seals it.
    pub(crate) fn replace(&self, desired: &Holdings) -> io::Result<()> {
        let mut present = BTreeMap::new();
        let entries = match fs::read_dir(&self.dir) {
            Err(err) if err.kind() == io::ErrorKind::NotFound && desired.is_empty() => {
                // Of a process that was killed when it had removed the rest.
                let _ = fs::remove_file(&self.seal);
                return Ok(());
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(&self.dir)?;
                fs::read_dir(&self.dir)?
            }
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let target = fs::read_link(entry.path()).unwrap_or_default();
            present.insert(entry.file_name().into_string().unwrap_or_default(), target);
        }
        for (key, target) in &present {
            if desired.get(key).is_none_or(|addresses| Path::new(&write(addresses)) != target) {
                fs::remove_file(self.dir.join(key))?;
            }
        }
        for (key, addresses) in desired {
            let target = write(addresses);
            if present.get(key).is_none_or(|present| present != Path::new(&target)) {
                symlink(target, self.dir.join(key))?;
            }
        }
        if desired.is_empty() && self.remove_empty() { Ok(()) } else { self.seal() }
    }
}

fn write(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn parse(target: &Path) -> Vec<IpAddr> {
    let target = target.to_string_lossy();
    target.split(',').filter_map(|address| address.parse().ok()).collect()
}

fn set_modified(path: &Path, time: SystemTime) -> io::Result<()> {
    let since = time.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let modified = Timespec {
        tv_sec: i64::try_from(since.as_secs()).map_err(io::Error::other)?,
        tv_nsec: i64::from(since.subsec_nanos()),
    };
    let times =
        Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }, last_modification: modified };
    Ok(utimensat(CWD, path, &times, AtFlags::empty())?)
}
