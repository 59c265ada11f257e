//! libcni's result cache: one file an attachment, `<net>-<ctr>-<ifname>`, written as libcni writes it so that cnitool,
//! containerd, CRI-O and podman read ours and we theirs.
//!
//! Knows no network: whether an entry's container still lives is for others to say.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use cni::{decode, names::Attachment, result::AddResult, version::Version};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::gojson;

/// A directory of results, `/var/lib/cni/results` where nobody says otherwise.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// What the runtime remembers of one attachment.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub attachment: Attachment,
    /// As the runtime gave it; older libcni did not note it. See [`Entry::namespace`].
    pub netns: Option<String>,
    /// The configuration list of the ADD, to the letter. Empty in the oldest format.
    pub config: Vec<u8>,
    /// `CNI_ARGS` of the ADD.
    pub args: Vec<(String, String)>,
    pub capability_args: Map<String, Value>,
    /// The final result, in the version that it names.
    pub result: Option<Value>,
}

/// A cache file that can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{act} {}: {source}", file.display())]
pub struct Error {
    act: &'static str,
    pub file: PathBuf,
    source: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Cni(#[from] cni::error::Error),
    #[error("config: {0}")]
    Base64(#[from] base64::DecodeError),
    #[error("kind {0:?} is not {KIND}")]
    Kind(String),
}

/// Everything in the directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// By file name.
    pub entries: Vec<Entry>,
    pub unreadable: Vec<Error>,
}

impl Cache {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    pub fn file(&self, attachment: &Attachment) -> PathBuf {
        let Attachment { network, container, ifname } = attachment;
        self.dir.join(format!("{network}-{container}-{ifname}"))
    }

    /// The attachment's entry; `None` when there is none. Reads libcni's own format and the one before it, a bare
    /// result.
    pub fn entry(&self, attachment: &Attachment) -> Result<Option<Entry>, Error> {
        let file = self.file(attachment);
        let failed = |source| Error { act: "read", file: file.clone(), source };
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(failed(err.into())),
        };
        let value: Value = serde_json::from_slice(&bytes).map_err(|err| failed(err.into()))?;
        match Stored::read(&value) {
            // A network, container and interface with a '-' can share a file name; the file says whose it is.
            Ok(stored) => {
                let entry = stored.into_entry().map_err(failed)?;
                Ok((entry.attachment == *attachment).then_some(entry))
            }
            Err(Cause::Kind(kind)) if kind.is_empty() => Ok(Some(Entry::bare(attachment.clone(), value))),
            Err(cause) => Err(failed(cause)),
        }
    }

    /// All entries. Bare results are passed over, as libcni does: their file name can't be taken apart.
    pub fn list(&self) -> Result<Listing, Error> {
        let unlisted = |err: io::Error| Error { act: "list", file: self.dir.clone(), source: err.into() };
        let mut files = match fs::read_dir(&self.dir) {
            Ok(entries) => {
                entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>().map_err(unlisted)?
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(err) => return Err(unlisted(err)),
        };
        files.sort();
        let mut listing = Listing::default();
        for file in files.into_iter().filter(|file| file.is_file()) {
            match read_listed(&file) {
                Ok(entry) => listing.entries.extend(entry),
                Err(source) => listing.unreadable.push(Error { act: "read", file, source }),
            }
        }
        Ok(listing)
    }

    /// Writes the entry, over one that is there: mode 0600, and whole or not at all.
    pub fn store(&self, entry: &Entry) -> Result<(), Error> {
        let file = self.file(&entry.attachment);
        let stored = gojson::compact(&Stored::new(entry));
        let written = stored.map_err(Cause::from).and_then(|text| Ok(self.replace(entry, text.as_bytes())?));
        written.map_err(|source| Error { act: "write", file, source })
    }

    /// Removes the entry; one that is gone is fine.
    pub fn remove(&self, attachment: &Attachment) -> Result<(), Error> {
        let file = self.file(attachment);
        match fs::remove_file(&file) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => {
                Err(Error { act: "remove", file, source: err.into() })
            }
            _ => Ok(()),
        }
    }

    fn replace(&self, entry: &Entry, content: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        // Beside the directory, not in it: libcni would take a leftover for an attachment.
        let parent = self.dir.parent().unwrap_or(&self.dir);
        let temporary = parent.join(format!(".netctl-{}-{}", entry.attachment.hash(16), process::id()));
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut to| to.write_all(content))
            .and_then(|()| fs::rename(&temporary, self.file(&entry.attachment)));
        if written.is_err() {
            // The error that counts is the first.
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// `None` for a file that is JSON but no attachment.
fn read_listed(file: &Path) -> Result<Option<Entry>, Cause> {
    let value: Value = serde_json::from_slice(&fs::read(file)?)?;
    match Stored::read(&value) {
        Ok(stored) => stored.into_entry().map(Some),
        Err(Cause::Kind(kind)) if kind.is_empty() => Ok(None),
        Err(cause) => Err(cause),
    }
}

impl Entry {
    fn bare(attachment: Attachment, result: Value) -> Self {
        let (netns, config, args, capability_args) = (None, Vec::new(), Vec::new(), Map::new());
        Self { attachment, netns, config, args, capability_args, result: Some(result) }
    }

    /// The path of the attachment's namespace: as noted, or, by an older libcni, as the result's interfaces have it.
    pub fn namespace(&self) -> Option<&str> {
        let interfaces = self.result.as_ref().and_then(|result| result.get("interfaces")?.as_array());
        let sandboxes =
            interfaces.into_iter().flatten().filter_map(|interface| interface.get("sandbox")?.as_str());
        self.netns.as_deref().or_else(|| sandboxes.into_iter().find(|sandbox| !sandbox.is_empty()))
    }

    /// The final result, understood.
    pub fn add_result(&self) -> Result<Option<AddResult>, cni::error::Error> {
        self.result.as_ref().map(|result| AddResult::decode(result, Version::NEWEST)).transpose()
    }
}

/// The file's fields, in libcni's order (`cachedInfo` in `libcni/api.go`).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    kind: String,
    container_id: String,
    #[serde(default)]
    config: Option<String>,
    if_name: String,
    network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cni_args: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    capability_args: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Map<String, Value>>,
}

impl Stored {
    fn read(value: &Value) -> Result<Self, Cause> {
        let kind = value.as_object().and_then(|object| decode::field(object, "kind"));
        let kind = kind.and_then(Value::as_str).unwrap_or_default();
        if kind != KIND {
            return Err(Cause::Kind(kind.to_owned()));
        }
        Ok(decode::decode(value)?)
    }

    fn new(entry: &Entry) -> Self {
        let Entry { attachment, netns, config, args, capability_args, result } = entry;
        let Attachment { network, container, ifname } = attachment;
        Self {
            kind: KIND.to_owned(),
            container_id: container.to_string(),
            config: Some(BASE64.encode(config)),
            if_name: ifname.to_string(),
            network_name: network.to_string(),
            netns: netns.clone().unwrap_or_default(),
            cni_args: args.clone(),
            capability_args: capability_args.clone(),
            result: result.as_ref().and_then(Value::as_object).cloned(),
        }
    }

    fn into_entry(self) -> Result<Entry, Cause> {
        let Self { kind: _, container_id, config, if_name, network_name, .. } = &self;
        let named = |field: &str, value: &str, why| {
            cni::error::Error::invalid_config(field, format!("{value:?}"), why)
        };
        let attachment = Attachment {
            network: network_name.parse().map_err(|why| named("networkName", network_name, why))?,
            container: container_id.parse().map_err(|why| named("containerId", container_id, why))?,
            ifname: if_name.parse().map_err(|why| named("ifName", if_name, why))?,
        };
        let config = BASE64.decode(config.as_deref().unwrap_or_default())?;
        let Self { netns, cni_args, capability_args, result, .. } = self;
        Ok(Entry {
            attachment,
            netns: Some(netns).filter(|netns| !netns.is_empty()),
            config,
            args: cni_args,
            capability_args,
            result: result.map(Value::Object),
        })
    }
}

const KIND: &str = "cniCacheV1";

#[cfg(test)]
mod tests;
