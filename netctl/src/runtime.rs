//! What a container runtime does with a network configuration list: runs its plugins in the right order with the right
//! input, and remembers the result.
//!
//! As libcni does it (`libcni/api.go`); where this does more, the function says so. Knows plugins only as programs.

use std::{env, path::PathBuf, time::Instant};

use cni::{
    error::{Code, Error},
    exec::{self, Binary},
    names::{Attachment, NetnsPath},
    request::Command,
    result::AddResult,
    version::Version,
};
use serde_json::{Map, Value};

use self::event::{Call, Event};
use crate::{
    cache::{Cache, Entry},
    conf::{NetworkList, PluginConf},
    netns,
};

pub mod check;
pub mod event;
pub mod gc;
mod input;
mod status;

/// Runs plugins for attachments.
pub struct Runtime<'a> {
    /// `CNI_PATH`: where plugins are looked for.
    pub path: Vec<PathBuf>,
    pub cache: Cache,
    /// Told of every call as it ends.
    pub report: &'a mut dyn FnMut(Event<'_>),
}

/// An attachment that is to be made, checked or unmade, and what the plugins are told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Attach {
    pub attachment: Attachment,
    /// DEL needs none. Unknown, the cache's is taken.
    pub netns: Option<NetnsPath>,
    /// `CNI_ARGS`. Not given, those of the ADD are taken from the cache.
    pub args: Option<Vec<(String, String)>>,
    /// By capability; a plugin gets those that it declares. Not given, those of the ADD are taken from the cache.
    pub capability_args: Option<Map<String, Value>>,
}

/// A result in both forms.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginResult {
    /// As the plugin printed it, its version filled in: what the next plugin and the cache get.
    pub json: Value,
    pub result: AddResult,
}

impl Runtime<'_> {
    /// ADD, in order, each plugin with the result of the one before; the last result goes into the cache.
    ///
    /// When a plugin fails, or the result can't be kept, the whole chain gets a DEL before this returns (the
    /// specification asks that of runtimes; cnitool leaves it to its user), unless the attachment or the interface was
    /// there before: then a DEL would take away what somebody else made.
    pub fn add(&mut self, list: &NetworkList, attach: &Attach) -> Result<PluginResult, Error> {
        let before = self.earlier(attach);
        let mut result = None;
        let added = self.add_chain(list, attach, &mut result).and_then(|()| {
            let result =
                result.clone().ok_or_else(|| Error::new(Code::InvalidConfig, "no plugins in the list"))?;
            self.cache.store(&entry(list, attach, &result)).map_err(io)?;
            Ok(result)
        });
        if added.is_err() {
            match before {
                Some(before) => (self.report)(Event::NotUndone { before: &before }),
                None => self.undo(list, attach, result.as_ref()),
            }
        }
        added
    }

    /// What there was of the attachment before its ADD, in words.
    fn earlier(&mut self, attach: &Attach) -> Option<String> {
        let Attachment { ifname, .. } = &attach.attachment;
        match self.cache.entry(&attach.attachment) {
            Ok(Some(_)) => {
                return Some(format!("an earlier ADD, in {}", self.cache.file(&attach.attachment).display()));
            }
            Ok(None) => {}
            Err(err) => return Some(format!("perhaps an earlier ADD: {err}")),
        }
        let netns = attach.netns.as_ref()?;
        match netns::has_interface(netns.as_ref(), ifname) {
            Some(false) => None,
            Some(true) => Some(format!("an interface {ifname} in {netns}")),
            None => Some(format!("perhaps an interface {ifname} in {netns}, which could not be looked at")),
        }
    }

    fn add_chain(
        &mut self,
        list: &NetworkList,
        attach: &Attach,
        result: &mut Option<PluginResult>,
    ) -> Result<(), Error> {
        for plugin in &list.plugins {
            let stdin =
                input::of_attachment(list, plugin, attach, result.as_ref().map(|result| &result.json));
            let stdout = self.timed(plugin, Command::Add, |runtime| {
                let stdout = runtime.call(plugin, &input::environment(Command::Add, Some(attach)), &stdin)?;
                let next = PluginResult::parse(&stdout, list.version)?;
                let before = result.replace(next);
                Ok((before, result.clone()))
            });
            stdout?;
        }
        Ok(())
    }

    /// DEL in reverse order past every error: what is left is told, but the first error is the ADD's. The plugins get the last result
    /// that there was, which tells them more than nothing.
    fn undo(&mut self, list: &NetworkList, attach: &Attach, result: Option<&PluginResult>) {
        (self.report)(Event::Undoing);
        for plugin in list.plugins.iter().rev() {
            // Reported by the call itself.
            let _ = self.del_one(list, plugin, attach, result.map(|result| &result.json));
        }
    }

    /// DEL in reverse order, each plugin with the final result of the ADD from the cache; stops at the first error. The
    /// cache entry goes when all have succeeded. Succeeds where there is nothing to delete.
    pub fn del(&mut self, list: &NetworkList, attach: &Attach) -> Result<(), Error> {
        let entry = match self.cache.entry(&attach.attachment) {
            Ok(entry) => entry,
            Err(err) => {
                // DEL must go on; what can't be read is of no use for the next one either.
                (self.report)(Event::CacheUnreadable(&err));
                None
            }
        };
        let attach = attach.filled_from(entry.as_ref());
        let result = entry.as_ref().and_then(|entry| match final_result(entry, list.version) {
            Ok(result) => result,
            Err(err) => {
                (self.report)(Event::ResultUnreadable(&err));
                None
            }
        });
        // The specification has prevResult in DEL since 0.4.0.
        let result = result.filter(|_| list.version >= Version::V0_4_0);
        for plugin in list.plugins.iter().rev() {
            self.del_one(list, plugin, &attach, result.as_ref())?;
        }
        self.cache.remove(&attach.attachment).map_err(io)
    }

    fn del_one(
        &mut self,
        list: &NetworkList,
        plugin: &PluginConf,
        attach: &Attach,
        result: Option<&Value>,
    ) -> Result<(), Error> {
        let stdin = input::of_attachment(list, plugin, attach, result);
        let environment = input::environment(Command::Del, Some(attach));
        self.quiet(plugin, Command::Del, &environment, &stdin)
    }

    /// One call of each plugin in order, past every error; all of the errors.
    fn ask_all(
        &mut self,
        list: &NetworkList,
        command: Command,
        environment: &[(&str, String)],
        stdin: impl Fn(&PluginConf) -> Vec<u8>,
    ) -> Vec<Error> {
        let each = list.plugins.iter().map(|plugin| self.quiet(plugin, command, environment, &stdin(plugin)));
        each.filter_map(Result::err).collect()
    }

    /// A call whose output is of no interest.
    fn quiet(
        &mut self,
        plugin: &PluginConf,
        command: Command,
        environment: &[(&str, String)],
        stdin: &[u8],
    ) -> Result<(), Error> {
        self.timed(plugin, command, |runtime| {
            runtime.call(plugin, environment, stdin)?;
            Ok((None, None))
        })
    }

    /// Runs `work` and reports it as a call, the plugin's name before its error.
    fn timed(
        &mut self,
        plugin: &PluginConf,
        command: Command,
        work: impl FnOnce(&mut Self) -> Result<(Option<PluginResult>, Option<PluginResult>), Error>,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let outcome = work(self).map_err(|err| named(&plugin.plugin_type, err));
        let took = started.elapsed();
        let results = outcome.as_ref().map(|(before, after)| {
            (before.as_ref().map(|before| &before.result), after.as_ref().map(|after| &after.result))
        });
        (self.report)(Event::Called(Call { plugin: &plugin.plugin_type, command, took, results }));
        outcome.map(drop)
    }

    fn call(
        &mut self,
        plugin: &PluginConf,
        environment: &[(&str, String)],
        stdin: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let binary = Binary::find(&plugin.plugin_type, &self.path)
            .map_err(|why| Error::invalid_config("type", format!("{:?}", plugin.plugin_type), why))?;
        let path = env::join_paths(&self.path)
            .map_err(|err| Error::new(Code::InvalidEnvironment, format!("CNI_PATH: {err}")))?;
        let path = path.to_string_lossy();
        let variables: Vec<_> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .chain([("CNI_PATH", path.as_ref())])
            .collect();
        (self.report)(Event::Calling { program: binary.path(), environment: &variables, stdin });
        binary.call(&variables, stdin)
    }
}

impl PluginResult {
    /// A plugin's output. A result without a version is of the configuration's (containernetworking/cni#895).
    fn parse(stdout: &[u8], version: Version) -> Result<Self, Error> {
        let mut json = exec::parse_answer(stdout)?;
        if json.is_null() {
            json = Value::Object(Map::new());
        }
        let result = AddResult::decode(&json, version)?;
        if let Some(object) = json.as_object_mut() {
            if object.get("cniVersion").and_then(Value::as_str).is_none_or(str::is_empty) {
                object.insert("cniVersion".to_owned(), version.as_str().into());
            }
            // As libcni passes it on, whatever the plugin's own version of the library wrote.
            if version >= Version::V1_0_0 && result.dns.is_empty() {
                object.remove("dns");
            }
        }
        Ok(Self { json, result })
    }
}

impl Attach {
    /// What was not given, as it was at the ADD.
    fn filled_from(&self, entry: Option<&Entry>) -> Self {
        let mut filled = self.clone();
        if let Some(entry) = entry {
            filled.netns = filled.netns.or_else(|| entry.namespace().map(NetnsPath::new));
            filled.args.get_or_insert_with(|| entry.args.clone());
            filled.capability_args.get_or_insert_with(|| entry.capability_args.clone());
        }
        filled
    }

    /// The attachment that a cache entry tells of, to unmake it.
    pub fn of_entry(entry: &Entry) -> Self {
        let attachment = entry.attachment.clone();
        Self { attachment, netns: None, args: None, capability_args: None }.filled_from(Some(entry))
    }
}

fn entry(list: &NetworkList, attach: &Attach, result: &PluginResult) -> Entry {
    let Attach { attachment, netns, args, capability_args } = attach.clone();
    Entry {
        attachment,
        netns: netns.map(|netns| netns.to_string()),
        config: list.bytes.clone(),
        args: args.unwrap_or_default(),
        capability_args: capability_args.unwrap_or_default(),
        result: Some(result.json.clone()),
    }
}

/// The cached result in the list's version: the list may have changed since.
fn final_result(entry: &Entry, version: Version) -> Result<Option<Value>, Error> {
    let Some(json) = &entry.result else { return Ok(None) };
    if json.get("cniVersion").and_then(Value::as_str) == Some(version.as_str()) {
        return Ok(Some(json.clone()));
    }
    let encoded = AddResult::decode(json, version)?.encode(version)?;
    serde_json::to_value(encoded)
        .map(Some)
        .map_err(|err| Error::new(Code::Decode, format!("the cached result: {err}")))
}

/// Our plugins say their name, the Go ones don't.
fn named(plugin: &str, err: Error) -> Error {
    if err.msg.strip_prefix(plugin).is_some_and(|rest| rest.starts_with(": ")) {
        return err;
    }
    let Error { code, msg, details } = err;
    Error::new(code, format!("{plugin}: {msg}")).with_details(details)
}

fn io(err: impl std::fmt::Display) -> Error {
    Error::new(Code::Io, err.to_string())
}
