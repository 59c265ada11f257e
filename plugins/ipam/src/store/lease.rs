//! Taking leases: one address of each range set, all or none.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    path::{Path, PathBuf},
};

use cni::names::Attachment;

use super::{Draft, Store, StoreError, failed, read};
use crate::{
    allocate::candidates,
    origin,
    owner::Owner,
    range::{Range, RangeSet},
};

/// No lease was taken, and why.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// `by_name` when the lease names the interface too, and not, as a legacy one, only the container.
    #[error("{address} has been allocated to {container}, duplicate allocation is not allowed")]
    Duplicate { address: IpAddr, container: String, by_name: bool },
    #[error(
        "requested IP address {address} is not available in range set {set}: container {holder} holds it"
    )]
    Taken { address: IpAddr, set: String, holder: String },
    #[error("range set {index}: no IP addresses available in range set: {set}")]
    Exhausted { index: usize, set: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A leased address and the range it is of.
pub type Lease<'a> = (IpAddr, &'a Range);

impl Store {
    /// Leases one address of each set to the attachment, the requested one where there is one (see
    /// [`assign`](crate::allocate::assign)). An attachment that already holds an address of one of the sets gets
    /// none.
    pub fn lease<'a>(
        &mut self,
        at: &Attachment,
        sets: &'a [RangeSet],
        requested: &[Option<IpAddr>],
    ) -> Result<Vec<Lease<'a>>, LeaseError> {
        let owner = Owner::new(at);
        for holder in [&owner, &Owner::legacy(at)] {
            let held = self.held_by(holder)?;
            let of_these = |address: &&IpAddr| sets.iter().any(|set| set.range_of(**address).is_some());
            if let Some(&address) = held.iter().find(of_these) {
                let (container, by_name) = (at.container.to_string(), *holder == owner);
                return Err(LeaseError::Duplicate { address, container, by_name });
            }
        }
        let mut taken = Vec::with_capacity(sets.len());
        let result = self.take_all(&owner, sets, requested, &mut taken);
        let addresses: Vec<_> = taken.iter().map(|(address, _)| *address).collect();
        if let Err(err) = result {
            // The first error is the one to tell; what stays is the owner's, and goes with its DEL.
            let _ = self.remove(&addresses);
            return Err(err);
        }
        self.note(&owner, &addresses);
        Ok(taken)
    }

    /// Whether the set could give an address now.
    pub fn has_free(&self, index: usize, set: &RangeSet) -> Result<bool, StoreError> {
        let free = self.first_free(index, set, |address| {
            let lease = self.path(address);
            lease.try_exists().map(|exists| !exists).map_err(failed("look for", &lease))
        });
        Ok(free?.is_some())
    }

    fn take_all<'a>(
        &self,
        owner: &Owner,
        sets: &'a [RangeSet],
        requested: &[Option<IpAddr>],
        taken: &mut Vec<Lease<'a>>,
    ) -> Result<(), LeaseError> {
        let draft = Draft::write(&self.place, owner, &self.origin)?;
        for (index, set) in sets.iter().enumerate() {
            let take = |address| self.take(&draft, address);
            let lease = match requested.get(index).copied().flatten() {
                Some(address) => self.requested(address, set, take)?,
                None => self.first_free(index, set, take)?.ok_or_else(|| exhausted(index, set))?,
            };
            taken.push(lease);
            let last = self.last_reserved_path(index);
            overwrite(&last, lease.0.to_string().as_bytes()).map_err(failed("write", &last))?;
        }
        Ok(())
    }

    fn requested<'a>(
        &self,
        address: IpAddr,
        set: &'a RangeSet,
        take: impl Fn(IpAddr) -> Result<bool, StoreError>,
    ) -> Result<Lease<'a>, LeaseError> {
        let holder = || self.holder(address).map_or_else(String::new, |owner| owner.container().to_owned());
        match set.range_of(address) {
            Some(range) if take(address)? => Ok((address, range)),
            _ => Err(LeaseError::Taken { address, set: set.to_string(), holder: holder() }),
        }
    }

    /// The first candidate that `take` accepts. After some refusals in a row the directory is read once, so that a
    /// long stretch of leases costs one pass over it.
    fn first_free<'a>(
        &self,
        index: usize,
        set: &'a RangeSet,
        take: impl Fn(IpAddr) -> Result<bool, StoreError>,
    ) -> Result<Option<Lease<'a>>, StoreError> {
        let mut candidates = candidates(set, self.last_reserved(index));
        for (address, range) in candidates.by_ref().take(PROBES) {
            if take(address)? {
                return Ok(Some((address, range)));
            }
        }
        let mut taken = None;
        for (address, range) in candidates {
            if taken.is_none() {
                taken = Some(self.taken()?);
            }
            if !taken.as_ref().is_some_and(|taken| taken.contains(&address)) && take(address)? {
                return Ok(Some((address, range)));
            }
        }
        Ok(None)
    }

    /// Takes `address` for the draft's owner, unless it is taken.
    fn take(&self, draft: &Draft<'_>, address: IpAddr) -> Result<bool, StoreError> {
        let lease = self.path(address);
        match fs::hard_link(draft.path, &lease) {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
            linked => linked.map_err(failed("create", &lease))?,
        }
        if let Some(mark) = &draft.mark {
            let marks = &self.place.marks;
            if let Err(err) = origin::mark_beside(marks, &address.to_string(), mark) {
                self.remove(&[address])?;
                return Err(failed("mark", &lease)(err));
            }
        }
        Ok(true)
    }

    /// Where round robin stands; unknown when nothing legible says so.
    fn last_reserved(&self, index: usize) -> Option<IpAddr> {
        let last = String::from_utf8(read(&self.last_reserved_path(index)).ok()?).ok()?;
        last.trim().parse().ok()
    }

    fn last_reserved_path(&self, index: usize) -> PathBuf {
        self.place.leases.join(format!("last_reserved_ip.{index}"))
    }
}

/// Writes a short text over another. Cutting the file first, as [`fs::write`] does, makes ext4 put the new text on the disk
/// before the file is closed (`auto_da_alloc`). Killed on the way it leaves a wrong place, which is as good as any.
fn overwrite(path: &Path, text: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let length = file.metadata()?.len();
    let mut written = &file;
    written.write_all(text)?;
    let wanted = text.len() as u64;
    if length > wanted { file.set_len(wanted) } else { Ok(()) }
}

pub(crate) fn exhausted(index: usize, set: &RangeSet) -> LeaseError {
    LeaseError::Exhausted { index, set: set.to_string() }
}

/// Refusals before the directory is read: about what reading one of a few hundred leases costs.
const PROBES: usize = 64;
