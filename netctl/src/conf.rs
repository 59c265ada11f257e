//! Network configuration lists as files: which files are read in which order, what is in them, and where they are wrong.
//!
//! The rules are libcni's (`libcni/conf.go`). Knows nothing of what a plugin's own keys mean.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use cni::{names::NetworkName, version::Version};
use serde_json::{Map, Value};

use self::position::Position;

pub mod parse;
pub mod position;

/// A network: its plugins in the order of ADD, and what the runtime has to know about them.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkList {
    pub name: NetworkName,
    /// The newest of `cniVersions` and `cniVersion` that this library speaks.
    pub version: Version,
    pub disable_check: bool,
    pub disable_gc: bool,
    /// Never empty.
    pub plugins: Vec<PluginConf>,
    /// The list as libcni caches it: the file to the letter, or, made of a single plugin's file, the list around it.
    pub bytes: Vec<u8>,
    pub file: PathBuf,
}

/// One member of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConf {
    /// `type`, the binary's name.
    pub plugin_type: String,
    /// The capabilities that the plugin declares, and whether it wants them.
    pub capabilities: BTreeMap<String, bool>,
    /// The configuration, keys as written.
    pub config: Map<String, Value>,
}

/// A configuration that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{}: {}{why}", file.display(), shown_position(*position), shown_field(field))]
pub struct Error {
    pub file: PathBuf,
    /// Where in the file the value stands, or what holds it when it is missing.
    pub position: Option<Position>,
    /// Such as `plugins[0].type`; empty for the file as a whole.
    pub field: String,
    pub why: String,
}

fn shown_position(position: Option<Position>) -> String {
    position.map(|position| format!(":{position}")).unwrap_or_default()
}

fn shown_field(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!("{field}: ") }
}

/// What a directory of configurations holds.
#[derive(Debug, Default)]
pub struct Directory {
    pub dir: PathBuf,
    /// In libcni's order of precedence: lists by file name, then single plugins by file name. Two may have one name: the
    /// first is the network.
    pub networks: Vec<NetworkList>,
    pub broken: Vec<Error>,
}

/// No such network in the directory.
#[derive(Debug, thiserror::Error)]
#[error("no network {name:?} in {}{}", dir.display(), shown_known(known))]
pub struct NotFound {
    pub name: String,
    pub dir: PathBuf,
    /// The networks that there are.
    pub known: Vec<NetworkName>,
}

fn shown_known(known: &[NetworkName]) -> String {
    let known: Vec<_> = known.iter().map(NetworkName::as_str).collect();
    if known.is_empty() { String::new() } else { format!("; there are: {}", known.join(", ")) }
}

impl Directory {
    /// Reads every configuration in `dir`. A missing directory is an empty one; a broken file is reported in
    /// [`Self::broken`] and does not hide the others (in libcni it hides all that come after it).
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut directory = Self { dir: dir.to_owned(), ..Self::default() };
        let lists = files(dir, &["conflist"])?.into_iter().map(|file| list_file(&file));
        let singles = files(dir, &["conf", "json"])?.into_iter().map(|file| single_file(&file));
        for read in lists.chain(singles) {
            match read {
                Ok(list) => directory.networks.push(list),
                Err(err) => directory.broken.push(err),
            }
        }
        Ok(directory)
    }

    pub fn network(&self, name: &str) -> Result<&NetworkList, NotFound> {
        self.networks.iter().find(|list| list.name.as_str() == name).ok_or_else(|| NotFound {
            name: name.to_owned(),
            dir: self.dir.clone(),
            known: self.networks.iter().map(|list| list.name.clone()).collect(),
        })
    }
}

fn list_file(file: &Path) -> Result<NetworkList, Error> {
    list(file, &read(file)?, file.parent().unwrap_or_else(|| Path::new(".")))
}

/// The list whose text is `bytes`, with the plugins in the directory under `dir` that bears the network's name. `file` is
/// where the text comes from, for errors.
pub fn list(file: &Path, bytes: &[u8], dir: &Path) -> Result<NetworkList, Error> {
    let mut partial = parse::list(file, bytes)?;
    if !partial.load_only_inlined_plugins {
        let dir = dir.join(partial.list.name.as_str());
        let unreadable = |err: io::Error| parse::whole_file(&dir, err);
        for file in files(&dir, &["conf"]).map_err(unreadable)? {
            let plugin = parse::plugin(&file, &read(&file)?)?;
            partial.list.plugins.push(plugin);
        }
    }
    if partial.list.plugins.is_empty() {
        return Err(parse::whole_file(file, "no plugins: neither in the file nor beside it"));
    }
    Ok(partial.list)
}

fn single_file(file: &Path) -> Result<NetworkList, Error> {
    parse::single(file, &read(file)?)
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    fs::read(file).map_err(|err| parse::whole_file(file, err))
}

/// The files of `dir` with one of `extensions`, by name. A missing directory has none.
fn files(dir: &Path, extensions: &[&str]) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
        Err(err) if err.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(err) => return Err(err),
    };
    let mut files: Vec<_> = entries
        .iter()
        .map(fs::DirEntry::path)
        .filter(|path| path.extension().is_some_and(|it| extensions.iter().any(|extension| it == *extension)))
        .filter(|path| !path.is_dir())
        .collect();
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
