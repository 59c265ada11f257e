//! STATUS and VERSION of a list.

use cni::{
    decode,
    error::{Code, Error},
    exec,
    request::Command,
    version::Version,
};
use serde_json::{Value, json};

use super::{Runtime, event::Event, input};
use crate::conf::{NetworkList, PluginConf};

impl Runtime<'_> {
    /// Asks every plugin whether an ADD would work; returns the first error.
    ///
    /// Below 1.1.0, which brought STATUS, every plugin is asked for its versions instead (libcni asks nothing).
    pub fn status(&mut self, list: &NetworkList) -> Result<(), Error> {
        if list.version < Version::V1_1_0 {
            (self.report)(Event::NotInVersion { command: Command::Status, version: list.version });
            return self.validate(list);
        }
        let environment = input::environment(Command::Status, None);
        self.ask_all(list, Command::Status, &environment, |plugin| input::of_status(list, plugin))
            .into_iter()
            .next()
            .map_or(Ok(()), Err)
    }

    /// Asks every plugin whether it speaks the list's version, as `ValidateNetworkList` of libcni; returns the first
    /// error.
    pub fn validate(&mut self, list: &NetworkList) -> Result<(), Error> {
        let mut outcomes = Vec::new();
        for plugin in &list.plugins {
            outcomes.push(self.timed(plugin, Command::Version, |runtime| {
                let versions = runtime.versions(plugin)?;
                if versions.iter().any(|version| version == list.version.as_str()) {
                    return Ok((None, None));
                }
                let why = format!("does not speak CNI {}, only {}", list.version, versions.join(", "));
                Err(Error::new(Code::IncompatibleVersion, why))
            }));
        }
        outcomes.into_iter().collect()
    }

    /// The versions that a plugin says it speaks. One that does not know VERSION speaks 0.1.0.
    pub fn versions(&mut self, plugin: &PluginConf) -> Result<Vec<String>, Error> {
        let mut environment = input::environment(Command::Version, None);
        for (name, value) in &mut environment {
            // Old skels want them for every verb.
            if matches!(*name, "CNI_NETNS" | "CNI_IFNAME" | "CNI_CONTAINERID") {
                *value = "dummy".to_owned();
            }
        }
        let stdin = json!({"cniVersion": Version::NEWEST}).to_string();
        let stdout = match self.call(plugin, &environment, stdin.as_bytes()) {
            Err(err) if err.msg == "unknown CNI_COMMAND: VERSION" => return Ok(vec!["0.1.0".to_owned()]),
            called => called?,
        };
        let answer = exec::parse_answer(&stdout)?;
        let supported = answer.as_object().and_then(|answer| decode::field(answer, "supportedVersions"));
        match supported {
            Some(Value::Array(_)) => supported.map_or_else(|| Ok(Vec::new()), decode::decode),
            // Before 0.2.0 there was no list.
            _ => Ok(vec!["0.1.0".to_owned()]),
        }
    }
}
