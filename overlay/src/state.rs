//! What the agent keeps in files: the local state that plugins read, and the last known peers for a boot without a
//! directory. Files appear whole: written beside, then renamed.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use cni::names::NetworkName;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    names::{Mtu, NodeName, Vni},
    peer::Record,
};

/// A host's standing in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "standing", rename_all = "lowercase")]
pub enum Standing {
    /// The directory says that these subnets are ours.
    Owner { subnets: Vec<IpNetwork> },
    /// We own nothing yet.
    Waiting { why: String },
    /// What we owned, and containers may live in, is somebody else's now. It is not given up by itself, nor used for new
    /// containers.
    Lost { subnets: Vec<IpNetwork>, why: String },
}

impl Standing {
    /// The subnets that containers of this host are in.
    pub fn subnets(&self) -> &[IpNetwork] {
        match self {
            Self::Owner { subnets } | Self::Lost { subnets, .. } => subnets,
            Self::Waiting { .. } => &[],
        }
    }
}

/// `/run/tenon/overlay/<network>.json`: all that a plugin needs to attach a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalState {
    pub version: u32,
    pub network: NetworkName,
    pub node: NodeName,
    pub vni: Vni,
    /// The overlay device.
    pub device: String,
    /// Of the device, and so of containers.
    pub mtu: Mtu,
    pub mode: Mode,
    /// The whole network: what is not masqueraded.
    pub pools: Vec<IpNetwork>,
    #[serde(flatten)]
    pub standing: Standing,
}

/// The data plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Tunnels to all.
    Vxlan,
    /// Plain routes to peers on the same link, tunnels to the rest.
    Direct,
}

/// `/var/lib/tenon/overlay/<network>.json`: what was known last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub version: u32,
    /// Ours, which nobody may renumber.
    pub subnets: Vec<IpNetwork>,
    pub peers: Vec<Record>,
}

/// A state file that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("read {file}: {source}")]
    Read { file: PathBuf, source: io::Error },
    #[error("{file}: {source}")]
    Malformed { file: PathBuf, source: serde_json::Error },
    #[error("{file}: version {version} is not {VERSION}, which this program knows")]
    Version { file: PathBuf, version: u64 },
    #[error("write {file}: {source}")]
    Write { file: PathBuf, source: io::Error },
}

/// The file of `network` in `dir`.
pub fn file(dir: &Path, network: &NetworkName) -> PathBuf {
    dir.join(format!("{network}.json"))
}

/// Reads a [`LocalState`] or a [`Saved`]; `None` if there is none.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, StateError> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateError::Read { file: file.to_owned(), source }),
    };
    let malformed = |source| StateError::Malformed { file: file.to_owned(), source };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(malformed)?;
    let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or_default();
    if version != u64::from(VERSION) {
        return Err(StateError::Version { file: file.to_owned(), version });
    }
    serde_json::from_value(value).map(Some).map_err(malformed)
}

/// Writes `value` so that a reader sees the old file or the new one.
pub fn write<T: Serialize>(file: &Path, value: &T, durable: Durability) -> Result<(), StateError> {
    write_whole(file, value, durable).map_err(|source| StateError::Write { file: file.to_owned(), source })
}

/// Whether a file must outlive the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// In `/run`.
    Boot,
    /// In `/var/lib`: a rename without a sync can leave an empty file after a crash.
    Disk,
}

fn write_whole<T: Serialize>(file: &Path, value: &T, durability: Durability) -> io::Result<()> {
    let parent = file.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(parent)?;
    let beside = file.with_extension(format!("json.{}", std::process::id()));
    let written = (|| {
        let mut out = io::BufWriter::new(fs::File::create(&beside)?);
        serde_json::to_writer(&mut out, value)?;
        out.write_all(b"\n")?;
        let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        if durability == Durability::Disk {
            out.sync_all()?;
        }
        fs::rename(&beside, file)
    })();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Of both files.
pub const VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back_and_newer_ones_are_refused() {
        let dir = std::env::temp_dir().join(format!("tenon-state-{}", std::process::id()));
        let path = file(&dir, &"lab".parse().unwrap());
        assert!(read::<LocalState>(&path).unwrap().is_none());
        let state = LocalState {
            version: VERSION,
            network: "lab".parse().unwrap(),
            node: "h1".parse().unwrap(),
            vni: Vni::try_from(7).unwrap(),
            device: "ovl7".into(),
            mtu: Mtu::try_from(1450).unwrap(),
            mode: Mode::Vxlan,
            pools: vec!["10.244.0.0/16".parse().unwrap()],
            standing: Standing::Owner { subnets: vec!["10.244.1.0/24".parse().unwrap()] },
        };
        write(&path, &state, Durability::Disk).unwrap();
        assert_eq!(read(&path).unwrap(), Some(state));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing lies beside it");
        fs::write(&path, r#"{"version":2}"#).unwrap();
        let err = read::<LocalState>(&path).unwrap_err().to_string();
        assert!(err.contains("version 2"), "{err}");
        fs::write(&path, "").unwrap();
        assert!(matches!(read::<LocalState>(&path), Err(StateError::Malformed { .. })));
        fs::remove_dir_all(&dir).unwrap();
    }
}
