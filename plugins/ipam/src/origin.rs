//! Which boot of which host made a lease, so that what an earlier boot left is known for what it is: its namespaces
//! are gone. Never inside the lease file, whose content is the reference's; and no clock is asked.
//!
//! The mark is the extended attribute `user.tenon.boot` of the lease file, or, where the file system keeps none, a
//! file of the lease's name in [`Place::marks`](crate::place::Place) that also holds the lease's time of
//! modification: a later lease of that address that is not ours has another. Leases of other programs have no mark.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use rustix::{
    fs::{XattrFlags, fsetxattr, getxattr},
    io::Errno,
};

use crate::{place::short_hash, store::read};

/// A host and one of its boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Hash of the machine id. A data directory may be shared between hosts, and other hosts' leases are alive.
    host: String,
    boot: String,
}

impl Origin {
    #[cfg(test)]
    pub(crate) fn new(host: &str, boot: &str) -> Self {
        Self { host: host.to_owned(), boot: boot.to_owned() }
    }

    pub(crate) fn of_this_boot() -> io::Result<Self> {
        let read = |path| read(Path::new(path));
        let machine = read("/etc/machine-id").ok().filter(|id| !id.trim_ascii().is_empty());
        let machine = machine.map_or_else(|| read("/proc/sys/kernel/hostname"), Ok)?;
        let boot = String::from_utf8(read("/proc/sys/kernel/random/boot_id")?).map_err(io::Error::other)?;
        Ok(Self { host: short_hash(machine.trim_ascii()), boot: boot.trim().to_owned() })
    }

    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// Marks the file that will be a lease. Where its file system can't keep that, says what [`mark_beside`] is to
    /// keep.
    pub(crate) fn mark(&self, draft: &fs::File) -> io::Result<Option<String>> {
        let Self { host, boot } = self;
        let mark = format!("{host}:{boot}");
        match fsetxattr(draft, ATTRIBUTE, mark.as_bytes(), XattrFlags::empty()) {
            Ok(()) => Ok(None),
            Err(Errno::NOTSUP | Errno::PERM | Errno::NOSPC | Errno::NOSYS) => {
                Ok(Some(format!("{mark} {}", modified(&draft.metadata()?))))
            }
            Err(err) => Err(err.into()),
        }
    }

    /// Whether the lease `file` was made by us in an earlier boot of this host. What can't be read has no mark.
    pub(crate) fn is_past(&self, file: &Path, marks: &Path) -> bool {
        let mut value = [0; 128];
        let mark = match getxattr(file, ATTRIBUTE, &mut value) {
            Ok(length) => value.get(..length).map(|mark| String::from_utf8_lossy(mark).into_owned()),
            Err(_) => read_beside(file, marks),
        };
        mark.as_deref()
            .and_then(|mark| mark.split_once(':'))
            .is_some_and(|(host, boot)| host == self.host && boot != self.boot)
    }
}

/// Keeps the mark of a lease that is there by now.
pub(crate) fn mark_beside(marks: &Path, address: &str, mark: &str) -> io::Result<()> {
    fs::create_dir_all(marks)?;
    fs::write(marks.join(address), mark)
}

/// Forgets the mark beside a lease that is no more.
pub(crate) fn unmark(marks: &Path, address: &str) {
    // Without its lease a mark says nothing, so that a failure here loses nothing.
    if fs::remove_file(marks.join(address)).is_ok() {
        let _ = fs::remove_dir(marks);
    }
}

fn read_beside(file: &Path, marks: &Path) -> Option<String> {
    let text = fs::read_to_string(marks.join(file.file_name()?)).ok()?;
    let (mark, time) = text.split_once(' ')?;
    (modified(&fs::metadata(file).ok()?) == time).then(|| mark.to_owned())
}

fn modified(metadata: &fs::Metadata) -> String {
    format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec())
}

const ATTRIBUTE: &str = "user.tenon.boot";
