//! The text of one configuration file into a [`NetworkList`] or [`PluginConf`]; pure.

use std::{collections::BTreeMap, fmt::Display, path::Path as FilePath};

use cni::{decode, names::NetworkName, version::Version};
use serde_json::{Map, Value, json};

use super::{
    Error, NetworkList, PluginConf,
    position::{Path, Position, locate},
};

/// A list before the plugins that stand in files of their own.
#[derive(Debug, PartialEq)]
pub struct PartialList {
    /// `plugins` may still be empty.
    pub list: NetworkList,
    pub load_only_inlined_plugins: bool,
}

/// Reads a `.conflist`.
pub fn list(file: &FilePath, bytes: &[u8]) -> Result<PartialList, Error> {
    let document = Document::read(file, bytes)?;
    let name = document.name(document.root.get("name"))?;
    let version = document.version(document.root.get("cniVersions"), document.root.get("cniVersion"))?;
    let disable_check = document.boolean("disableCheck")?;
    let disable_gc = document.boolean("disableGC")?;
    let load_only_inlined_plugins = document.boolean("loadOnlyInlinedPlugins")?;
    let plugins = document.plugins()?;
    if plugins.is_none() && load_only_inlined_plugins {
        return Err(
            document.wrong(&Path::default().key("plugins"), "missing, and loadOnlyInlinedPlugins is true")
        );
    }
    let plugins = plugins.unwrap_or_default();
    let (bytes, file) = (bytes.to_vec(), file.to_owned());
    let list = NetworkList { name, version, disable_check, disable_gc, plugins, bytes, file };
    Ok(PartialList { list, load_only_inlined_plugins })
}

/// Reads one plugin's file, a member of some list.
pub fn plugin(file: &FilePath, bytes: &[u8]) -> Result<PluginConf, Error> {
    let document = Document::read(file, bytes)?;
    document.plugin(&document.root, &Path::default())
}

/// Reads one plugin's file as a network of its own, the old `.conf`.
pub fn single(file: &FilePath, bytes: &[u8]) -> Result<NetworkList, Error> {
    let document = Document::read(file, bytes)?;
    if decode::field(&document.root, "type").is_none() && document.root.contains_key("plugins") {
        return Err(whole_file(file, "is a list: its name must end in .conflist"));
    }
    let plugin = document.plugin(&document.root, &Path::default())?;
    let text = |key| decode::field(&plugin.config, key).cloned().unwrap_or_else(|| json!(""));
    let around = json!({
        "name": text("name"),
        "cniVersion": text("cniVersion"),
        "plugins": [&plugin.config],
    });
    let name = document.name(decode::field(&plugin.config, "name"))?;
    let version = document.version(None, decode::field(&plugin.config, "cniVersion"))?;
    let (bytes, file, plugins) = (around.to_string().into_bytes(), file.to_owned(), vec![plugin]);
    Ok(NetworkList { name, version, disable_check: false, disable_gc: false, plugins, bytes, file })
}

/// An error about the file as a whole.
pub fn whole_file(file: &FilePath, why: impl Display) -> Error {
    Error { file: file.to_owned(), position: None, field: String::new(), why: why.to_string() }
}

/// A parsed file that can still tell where its values stand.
struct Document<'a> {
    file: &'a FilePath,
    text: &'a str,
    root: Map<String, Value>,
}

impl<'a> Document<'a> {
    fn read(file: &'a FilePath, bytes: &'a [u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(bytes).map_err(|err| whole_file(file, err))?;
        match serde_json::from_str(text) {
            Ok(Value::Object(root)) => Ok(Self { file, text, root }),
            Ok(_) => Err(whole_file(file, "is not a JSON object")),
            Err(err) => {
                let position = Position { line: err.line(), column: err.column() };
                // The position is in front already.
                let why = err.to_string();
                let why = why.split(" at line ").next().unwrap_or_default();
                Err(Error { position: Some(position), ..whole_file(file, why) })
            }
        }
    }

    fn wrong(&self, path: &Path, why: impl Display) -> Error {
        let position = locate(self.text, path);
        Error { file: self.file.to_owned(), position, field: path.to_string(), why: why.to_string() }
    }

    fn name(&self, name: Option<&Value>) -> Result<NetworkName, Error> {
        let path = Path::default().key("name");
        match name {
            None | Some(Value::Null) => Err(self.wrong(&path, "missing")),
            Some(Value::String(name)) => {
                name.parse().map_err(|why| self.wrong(&path, format_args!("{name:?} {why}")))
            }
            Some(other) => Err(self.wrong(&path, format_args!("{other} is not a string"))),
        }
    }

    /// The newest version that is offered and that this library speaks; 0.1.0 where the list says nothing.
    fn version(&self, versions: Option<&Value>, version: Option<&Value>) -> Result<Version, Error> {
        let mut offered = Vec::new();
        let path = Path::default().key("cniVersions");
        match versions {
            None => {}
            Some(Value::Array(list)) => {
                for (nth, value) in list.iter().enumerate() {
                    offered.extend(self.offered(&path.index(nth), value)?);
                }
            }
            Some(other) => return Err(self.wrong(&path, format_args!("{other} is not an array"))),
        }
        let path = Path::default().key("cniVersion");
        match version {
            None => {}
            Some(Value::String(empty)) if empty.is_empty() => {}
            Some(value) => offered.extend(self.offered(&path, value)?),
        }
        let says_nothing = offered.is_empty();
        let spoken = offered.into_iter().filter_map(|version| version.parse::<Version>().ok()).max();
        match spoken {
            Some(version) => Ok(version),
            None if says_nothing => Ok(Version::V0_1_0),
            None => Err(self.wrong(
                &path,
                format_args!("nothing that is spoken here; {} is the newest", Version::NEWEST),
            )),
        }
    }

    fn offered<'v>(&self, path: &Path, value: &'v Value) -> Result<Option<&'v str>, Error> {
        let Value::String(version) = value else {
            return Err(self.wrong(path, format_args!("{value} is not a string")));
        };
        let numbers = version.split('.').map(str::parse::<u64>);
        if numbers.clone().count() != 3 || numbers.clone().any(|number| number.is_err()) {
            return Err(self.wrong(path, format_args!("{version:?} is not a version")));
        }
        Ok(Some(version))
    }

    /// A boolean, also as a string in any case; false when absent.
    fn boolean(&self, key: &str) -> Result<bool, Error> {
        match self.root.get(key) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::String(value)) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(value)) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(other) => {
                Err(self.wrong(&Path::default().key(key), format_args!("{other} is not a boolean")))
            }
        }
    }

    fn plugins(&self) -> Result<Option<Vec<PluginConf>>, Error> {
        let path = Path::default().key("plugins");
        match self.root.get("plugins") {
            None => Ok(None),
            Some(Value::Array(plugins)) if plugins.is_empty() => {
                Err(self.wrong(&path, "no plugins in the list"))
            }
            Some(Value::Array(plugins)) => {
                let each = plugins.iter().enumerate().map(|(nth, plugin)| {
                    let path = path.index(nth);
                    let Value::Object(plugin) = plugin else {
                        return Err(self.wrong(&path, format_args!("{plugin} is not an object")));
                    };
                    self.plugin(plugin, &path)
                });
                each.collect::<Result<_, _>>().map(Some)
            }
            Some(other) => Err(self.wrong(&path, format_args!("{other} is not an array"))),
        }
    }

    fn plugin(&self, config: &Map<String, Value>, path: &Path) -> Result<PluginConf, Error> {
        let plugin_type = match decode::field(config, "type") {
            None => return Err(self.wrong(&path.key("type"), "missing")),
            Some(Value::String(name)) if name.is_empty() || name.contains('/') => {
                return Err(
                    self.wrong(&path.key("type"), format_args!("{name:?} is not the name of a plugin"))
                );
            }
            Some(Value::String(name)) => name.clone(),
            Some(other) => return Err(self.wrong(&path.key("type"), format_args!("{other} is not a string"))),
        };
        let capabilities = match decode::field(config, "capabilities") {
            None => BTreeMap::new(),
            Some(value) => decode::decode(value).map_err(|err| {
                self.wrong(&path.key("capabilities"), err.msg.trim_start_matches("configuration: "))
            })?,
        };
        Ok(PluginConf { plugin_type, capabilities, config: config.clone() })
    }
}
