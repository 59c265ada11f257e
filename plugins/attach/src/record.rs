//! The attachment record: what one plugin made for one attachment, written whole before the first change in the kernel,
//! so that DEL needs neither the namespace nor `prevResult` nor a config, and a killed ADD can be undone.
//!
//! `/run/tenon/attach/<network>/<plugin>/<hash>` holds it; while the ADD runs the name ends in `.pending`. It goes with the
//! boot, as the namespaces and links do. A file that is empty, of a plugin killed between open(2) and write(2), is of an
//! ADD that has changed nothing yet; nothing is synced: what a crash of the machine tore is gone with `/run`. A directory that can be removed is a network without attachments, so
//! that nobody counts them.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use cni::names::{Attachment, NetworkName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What is on disk: the key in full, since the file's name only holds its hash, and the plugin's own data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record<T> {
    pub attachment: Attachment,
    pub data: T,
}

/// Whether the ADD that wrote the record got to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The ADD still runs, or was killed.
    Pending,
    Complete,
}

/// A failure to read or write a record.
#[derive(Debug, thiserror::Error)]
#[error("{act} attachment record {}", path.display())]
pub struct Error {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The records of one plugin on one network.
#[derive(Debug, Clone)]
pub struct Records {
    dir: PathBuf,
}

impl Records {
    /// The records of the plugin with this type name. Nothing is read yet.
    pub fn of(plugin: &str, network: &NetworkName) -> Self {
        Self::below(Path::new(DIRECTORY), plugin, network)
    }

    fn below(root: &Path, plugin: &str, network: &NetworkName) -> Self {
        Self { dir: root.join(network.as_str()).join(plugin) }
    }

    /// The records of the plugin on every network of this node that has any.
    pub fn of_every_network(plugin: &str) -> Result<Vec<Self>, Error> {
        let root = Path::new(DIRECTORY);
        Ok(list(root)?.into_iter().map(|network| Self { dir: root.join(network).join(plugin) }).collect())
    }

    /// Writes the record before the first change is made. Replaces an older one. Leaves nothing when it fails.
    pub fn begin<T: Serialize>(&self, attachment: &Attachment, data: &T) -> Result<(), Error> {
        let path = self.path(attachment, State::Pending);
        let text = serde_json::to_vec(&Borrowed { attachment, data });
        let written = text.map_err(io::Error::from).and_then(|text| self.write(&path, &text));
        written.map_err(|source| {
            let _ = fs::remove_file(&path);
            let _ = fs::remove_dir(&self.dir)
                .and_then(|()| fs::remove_dir(self.dir.parent().unwrap_or(&self.dir)));
            Error { act: "write", path, source }
        })
    }

    /// Marks the record's ADD as done.
    pub fn complete(&self, attachment: &Attachment) -> Result<(), Error> {
        let path = self.path(attachment, State::Complete);
        fs::rename(self.path(attachment, State::Pending), &path).map_err(|source| Error {
            act: "complete",
            path,
            source,
        })
    }

    /// The record of an attachment, if there is one. One that can't be read as a `T` (torn, or of another version) is
    /// reported in the log and counts as absent: DEL then goes by the names it can derive.
    pub fn find<T: DeserializeOwned>(&self, attachment: &Attachment) -> Result<Option<(State, T)>, Error> {
        for state in [State::Pending, State::Complete] {
            if let Some(record) = read::<T>(&self.path(attachment, state))?
                && record.attachment == *attachment
            {
                return Ok(Some((state, record.data)));
            }
        }
        Ok(None)
    }

    /// Removes the record; accepts that there is none.
    pub fn remove(&self, attachment: &Attachment) -> Result<(), Error> {
        for state in [State::Pending, State::Complete] {
            let path = self.path(attachment, state);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error { act: "remove", path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether no attachment of the network has a record now. Cheap, and only a hint without the network's lock.
    pub fn is_empty(&self) -> bool {
        fs::read_dir(&self.dir).map_or(true, |mut entries| entries.next().is_none())
    }

    /// Removes the record, and the directory with the network's last. For what shares nothing between attachments.
    pub fn forget(&self, attachment: &Attachment) -> Result<(), Error> {
        self.remove(attachment)?;
        self.retire().map(drop)
    }

    /// Removes the empty directory of a network without attachments. True when this call did it: what the network's
    /// attachments shared can go. Decide so only under the network's lock, see [`crate::lock`].
    pub fn retire(&self) -> Result<bool, Error> {
        let retired = match fs::remove_dir(&self.dir) {
            Ok(()) => true,
            // Perhaps its parent was made, and then the plugin was killed.
            Err(err) if err.kind() == io::ErrorKind::NotFound => false,
            Err(err) if err.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(false),
            Err(source) => return Err(Error { act: "retire", path: self.dir.clone(), source }),
        };
        if let Some(network) = self.dir.parent() {
            // Other plugins may have records of the network.
            let _ = fs::remove_dir(network);
        }
        Ok(retired)
    }

    /// Every readable record, in the order of their keys. For GC, CHECK and whoever removes the last object of a network:
    /// reads one file an attachment.
    pub fn all<T: DeserializeOwned>(&self) -> Result<Vec<Record<T>>, Error> {
        let mut records = Vec::new();
        for name in list(&self.dir)? {
            records.extend(read::<T>(&self.dir.join(name))?);
        }
        records.sort_by(|a, b| a.attachment.cmp(&b.attachment));
        Ok(records)
    }

    /// Removes the records that can't be read, but of the attachments to `keep`, and the directory with the last of all.
    /// For GC, which has no names for them.
    pub fn remove_unreadable<T: DeserializeOwned>(&self, keep: &[Attachment]) -> Result<(), Error> {
        let keep: BTreeSet<_> = keep.iter().map(|attachment| attachment.hash(HASH_DIGITS)).collect();
        for name in list(&self.dir)? {
            let path = self.dir.join(&name);
            if keep.contains(name.trim_end_matches(PENDING)) || read::<T>(&path)?.is_some() {
                continue;
            }
            match fs::remove_file(&path) {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|source| Error { act: "remove", path, source })?,
            }
        }
        self.retire().map(drop)
    }

    fn write(&self, path: &Path, text: &[u8]) -> io::Result<()> {
        let mut written = fs::write(path, text);
        for _ in 0..ATTEMPTS {
            match written {
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                written => return written,
            }
            // A network's first attachment, or one that meets the removal of the last: that may come in between.
            written = self.make_directory().and_then(|()| fs::write(path, text));
        }
        written
    }

    /// From the top: most often the network's directory is missing too, and its parent is there.
    fn make_directory(&self) -> io::Result<()> {
        if let Some(network) = self.dir.parent() {
            // What is wrong with it, the next call says.
            let _ = fs::create_dir(network);
        }
        fs::create_dir_all(&self.dir)
    }

    fn path(&self, attachment: &Attachment, state: State) -> PathBuf {
        let pending = if state == State::Pending { PENDING } else { "" };
        self.dir.join(format!("{}{pending}", attachment.hash(HASH_DIGITS)))
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<Record<T>>, Error> {
    let text = match fs::read(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| Error { act: "read", path: path.to_owned(), source })?,
    };
    match serde_json::from_slice(&text) {
        Ok(record) => Ok(Some(record)),
        Err(err) => {
            log::warn!("attachment record {}: {err}; going on without it", path.display());
            Ok(None)
        }
    }
}

/// The names in a directory; none when it isn't there.
fn list(dir: &Path) -> Result<Vec<String>, Error> {
    let fail = |source| Error { act: "list", path: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    entries.map(|entry| Ok(entry.map_err(fail)?.file_name().to_string_lossy().into_owned())).collect()
}

#[derive(Serialize)]
struct Borrowed<'a, T> {
    attachment: &'a Attachment,
    data: &'a T,
}

const DIRECTORY: &str = "/run/tenon/attach";
const PENDING: &str = ".pending";
/// Against as many others who leave the network just then.
const ATTEMPTS: usize = 100;
/// 128 bits.
const HASH_DIGITS: usize = 32;

#[cfg(test)]
mod tests;
