//! A network's leases on disk, in the reference's layout, under the reference's lock: either program may work on them
//! between any two calls of the other.
//!
//! The lease files are the truth. The [`index`](crate::index) only saves reading them all: its answers are checked
//! against the lease files that they name, and where it is not in step it is made again from them, which is also when
//! torn leases and those of an earlier boot are reclaimed. So every change goes to the lease files first, then to the
//! index, then the seal; a process killed on the way costs the next one a scan.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use cni::names::Attachment;

use crate::{
    index::{Holdings, Index},
    origin::{self, Origin},
    owner::Owner,
    place::Place,
};

pub mod lease;

/// The leases of one network, locked for as long as this lives.
#[derive(Debug)]
pub struct Store {
    place: Place,
    origin: Origin,
    index: Index,
    /// What the leases say, where the index could not be brought in step (its file system full or read-only): that
    /// costs time, never an answer.
    scanned: Option<Holdings>,
    /// Holds the lock.
    _lock: File,
}

/// A file operation failed.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}", path.display())]
pub struct StoreError {
    pub act: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

impl Store {
    /// Waits for the network's lock. `None` where the network has no directory, and so no leases; nothing is made
    /// then.
    pub fn open(place: &Place) -> Result<Option<Self>, StoreError> {
        let origin = Origin::of_this_boot().map_err(failed("read the boot id for", &place.leases))?;
        Self::open_as(place, origin)
    }

    /// As [`Store::open`]; makes the directory where it is missing.
    pub fn create(place: &Place) -> Result<Self, StoreError> {
        loop {
            if let Some(store) = Self::open(place)? {
                return Ok(store);
            }
            let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(&place.leases);
            made.map_err(failed("create", &place.leases))?;
        }
    }

    pub(crate) fn open_as(place: &Place, origin: Origin) -> Result<Option<Self>, StoreError> {
        let path = place.leases.join(LOCK);
        let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o750).open(&path);
        let lock = match opened {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(failed("open", &path))?,
        };
        lock.lock().map_err(failed("lock", &path))?;
        let index = Index::new(place, &origin);
        let mut store = Self { place: place.clone(), origin, index, scanned: None, _lock: lock };
        if !store.index.is_in_step() {
            store.scan()?;
        }
        Ok(Some(store))
    }

    /// The addresses that this attachment holds, with those that a legacy lease gives to its whole container.
    pub fn held(&mut self, at: &Attachment) -> Result<Vec<IpAddr>, StoreError> {
        let mut held = self.held_by(&Owner::new(at))?;
        held.append(&mut self.held_by(&Owner::legacy(at))?);
        Ok(held)
    }

    /// Gives back what the attachment holds, and says what that was. As in the reference, a legacy lease of the
    /// container goes when there is no other.
    pub fn release(&mut self, at: &Attachment) -> Result<Vec<IpAddr>, StoreError> {
        self.clear_draft();
        for owner in [Owner::new(at), Owner::legacy(at)] {
            let held = self.held_by(&owner)?;
            if !held.is_empty() {
                self.remove(&held)?;
                self.forget(&owner);
                return Ok(held);
            }
        }
        Ok(Vec::new())
    }

    /// Gives back every lease whose owner is not to `keep`, and says which.
    pub fn retain(&mut self, keep: impl Fn(&Owner) -> bool) -> Result<Vec<IpAddr>, StoreError> {
        self.retain_leases(|_, owner| keep(owner))
    }

    /// As [`Store::retain`], told the address too.
    pub fn retain_leases(
        &mut self,
        keep: impl Fn(IpAddr, &Owner) -> bool,
    ) -> Result<Vec<IpAddr>, StoreError> {
        self.clear_draft();
        let mut released = Vec::new();
        for (address, content) in self.leases()? {
            if Owner::parse(&content).is_some_and(|owner| !keep(address, &owner)) {
                released.push(address);
            }
        }
        self.remove(&released)?;
        self.scan()?;
        Ok(released)
    }

    /// A process killed with a draft in hand left it.
    fn clear_draft(&self) {
        let _ = fs::remove_file(&self.place.draft);
    }

    /// Who holds `address`.
    pub fn holder(&self, address: IpAddr) -> Option<Owner> {
        read(&self.path(address)).ok().and_then(|content| Owner::parse(&content))
    }

    /// All addresses that are leased; one pass over the directory, no lease read.
    fn taken(&self) -> Result<BTreeSet<IpAddr>, StoreError> {
        let failed = failed("list", &self.place.leases);
        let entries = fs::read_dir(&self.place.leases).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        Ok(entries.map_err(failed)?.iter().filter_map(|entry| parse_name(&entry.file_name())).collect())
    }

    /// The leases and their content. Those that can't be read stay taken and are nobody's.
    fn leases(&self) -> Result<Vec<(IpAddr, Vec<u8>)>, StoreError> {
        let taken = self.taken()?.into_iter();
        Ok(taken.filter_map(|address| Some((address, read(&self.path(address)).ok()?))).collect())
    }

    /// Reads every lease, reclaims what is nobody's any more, and brings the index in step.
    fn scan(&mut self) -> Result<(), StoreError> {
        // Once a boot is enough: this boot makes no leases of another one.
        let past_possible = !self.index.is_of_this_boot();
        let mut holdings = Holdings::new();
        for (address, content) in self.leases()? {
            let past = || past_possible && self.origin.is_past(&self.path(address), &self.place.marks);
            match Owner::parse(&content) {
                Some(owner) if !past() => holdings.entry(owner.key()).or_default().push(address),
                _ => self.remove(&[address])?,
            }
        }
        self.scanned = self.index.replace(&holdings).is_err().then_some(holdings);
        Ok(())
    }

    fn held_by(&mut self, owner: &Owner) -> Result<Vec<IpAddr>, StoreError> {
        let key = owner.key();
        let indexed = match &self.scanned {
            Some(holdings) => holdings.get(&key).cloned().unwrap_or_default(),
            None => self.index.addresses(&key).map_err(failed("read the index of", &self.place.leases))?,
        };
        let is_held = |address: &IpAddr| self.holder(*address).as_ref() == Some(owner);
        if indexed.iter().all(is_held) {
            return Ok(indexed);
        }
        // Someone wrote into a lease file, which its directory's time does not show.
        self.scan()?;
        let held =
            self.leases()?.into_iter().filter(|(_, content)| Owner::parse(content).as_ref() == Some(owner));
        Ok(held.map(|(address, _)| address).collect())
    }

    /// Removes the lease files; goes on past errors and returns the first.
    fn remove(&self, addresses: &[IpAddr]) -> Result<(), StoreError> {
        let mut result = Ok(());
        for address in addresses {
            let path = self.path(*address);
            match fs::remove_file(&path) {
                Err(err) if err.kind() != io::ErrorKind::NotFound => {
                    result = result.and_then(|()| Err(failed("remove", &path)(err)));
                }
                _ => origin::unmark(&self.place.marks, &address.to_string()),
            }
        }
        result
    }

    /// The index after an owner got leases. Where that fails it stays out of step, and whoever comes next makes it
    /// again.
    fn note(&mut self, owner: &Owner, addresses: &[IpAddr]) {
        match &mut self.scanned {
            Some(holdings) => holdings.entry(owner.key()).or_default().extend_from_slice(addresses),
            None if self.index.add(&owner.key(), addresses).is_ok() => _ = self.index.seal(),
            None => {}
        }
    }

    /// The index after an owner's leases are gone; failing, as [`Self::note`].
    fn forget(&mut self, owner: &Owner) {
        match &mut self.scanned {
            Some(holdings) => _ = holdings.remove(&owner.key()),
            None if self.index.remove(&owner.key()).is_ok() && !self.index.remove_empty() => {
                _ = self.index.seal()
            }
            None => {}
        }
    }

    fn path(&self, address: IpAddr) -> PathBuf {
        self.place.leases.join(address.to_string())
    }
}

/// The leases at a place with their owners, by address, for those who only look: no lock is taken and nothing is
/// changed. A lease that can't be read has no owner.
pub fn look(place: &Place) -> Result<Vec<(IpAddr, Option<Owner>)>, StoreError> {
    let failed = failed("list", &place.leases);
    let entries = match fs::read_dir(&place.leases) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?,
    };
    let addresses: BTreeSet<_> = entries.iter().filter_map(|entry| parse_name(&entry.file_name())).collect();
    let owner = |address: IpAddr| {
        let content = read(&place.leases.join(address.to_string())).ok();
        content.and_then(|content| Owner::parse(&content))
    };
    Ok(addresses.into_iter().map(|address| (address, owner(address))).collect())
}

/// The address that names a lease. Other spellings of an address, and other files, are no leases.
fn parse_name(name: &std::ffi::OsStr) -> Option<IpAddr> {
    let name = name.to_str()?;
    name.parse().ok().filter(|address: &IpAddr| address.to_string() == name)
}

/// Reads a file in one read where it is short, as all leases are that host-local wrote.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut content = vec![0; 1024];
    let length = file.read(&mut content)?;
    if length == content.len() {
        file.read_to_end(&mut content)?;
    } else {
        content.truncate(length);
    }
    Ok(content)
}

fn failed(act: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError { act, path: path.to_owned(), source }
}

/// A lease that has no address yet: linked to as many as its owner gets, so that a lease appears whole. Goes when
/// dropped.
struct Draft<'a> {
    path: &'a Path,
    /// To be written beside the lease, where the file system does not keep it on the file.
    mark: Option<String>,
}

impl<'a> Draft<'a> {
    fn write(place: &'a Place, owner: &Owner, origin: &Origin) -> Result<Self, StoreError> {
        let path = place.draft.as_path();
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = match create() {
            // Left by a killed process. Not to be written into: it may be a lease by now.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(path).and_then(|()| create()).map_err(failed("replace", path))?
            }
            created => created.map_err(failed("create", path))?,
        };
        let mut draft = Self { path, mark: None };
        file.write_all(owner.as_str().as_bytes()).map_err(failed("write", path))?;
        draft.mark = origin.mark(&file).map_err(failed("mark", path))?;
        Ok(draft)
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        // What stays, the next draft replaces.
        let _ = fs::remove_file(self.path);
    }
}

/// As the reference names it; it takes flock(2) on it for each of its operations.
const LOCK: &str = "lock";

#[cfg(test)]
mod tests;
