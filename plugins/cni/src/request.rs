//! One call of a plugin: what the environment and standard input said, checked in the order of the reference
//! (`pkg/skel/skel.go`): environment (code 4), JSON (6), name (7), version (1), and then the namespace (8), which the
//! reference looks at only when the work is done.

use std::{
    collections::BTreeSet,
    env::split_paths,
    fmt,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    args::Args,
    decode::{decode, decode_object, field},
    error::{Code, Error},
    names::{Attachment, ContainerId, IfName, NetnsPath, NetworkName},
    result::AddResult,
    version::{UnknownVersion, Version},
};

/// `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The first version that has the verb (DEL and ADD were there from the start).
    fn since(self) -> Version {
        match self {
            Self::Add | Self::Del | Self::Version => Version::V0_1_0,
            Self::Check => Version::V0_4_0,
            Self::Gc | Self::Status => Version::V1_1_0,
        }
    }

    fn required_variables(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
            Self::Gc | Self::Status => &["CNI_PATH"],
            Self::Version => &[],
        }
    }
}

impl FromStr for Command {
    type Err = Error;

    fn from_str(verb: &str) -> Result<Self, Error> {
        [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version]
            .into_iter()
            .find(|command| command.as_str() == verb)
            .ok_or_else(|| Error::new(Code::InvalidEnvironment, format!("unknown CNI_COMMAND: {verb:?}")))
    }
}

/// What every verb has.
#[derive(Debug, Clone)]
pub struct Request {
    pub name: NetworkName,
    pub version: Version,
    /// `type`, the name that the plugin was called by; empty when the configuration has none.
    pub plugin_type: String,
    /// The configuration, keys as they were written. Read it with [`Request::decode`].
    pub config: Map<String, Value>,
    /// `CNI_ARGS` as it came; see [`Request::args`].
    pub raw_args: String,
    /// `CNI_PATH`: where delegates are looked for.
    pub path: Vec<PathBuf>,
    /// The configuration to the letter, for delegates.
    pub stdin: Vec<u8>,
}

impl Request {
    /// Reads the configuration from `stdin` for `command`. `variable` looks an environment variable up.
    pub fn parse(command: Command, stdin: Vec<u8>, variable: impl Fn(&str) -> String) -> Result<Self, Error> {
        let undecodable = |why: &dyn fmt::Display| {
            Error::new(Code::Decode, format!("the configuration on standard input: {why}"))
        };
        let config = match serde_json::from_slice(&stdin) {
            Ok(Value::Object(config)) => config,
            Ok(_) => return Err(undecodable(&"is not a JSON object")),
            Err(err) => return Err(undecodable(&err)),
        };
        let text = |key| match field(&config, key) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(undecodable(&format_args!("{key}: {other}: is not a string"))),
        };
        let (name, version, plugin_type) = (text("name")?, text("cniVersion")?, text("type")?);
        let name = name.parse().map_err(|why| Error::invalid_config("name", format!("{name:?}"), why))?;
        let version = supported(command, &version)?;
        let (raw_args, path) = (variable("CNI_ARGS"), split_paths(&variable("CNI_PATH")).collect());
        Ok(Self { name, version, plugin_type, config, raw_args, path, stdin })
    }

    /// The configuration as a `T`: keys in any case, `null` as absence, unknown keys passed over. The error has code 7
    /// and names field and value. `T` can't use `#[serde(flatten)]`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        decode_object(&self.config)
    }

    /// `CNI_ARGS`; malformed ones have code 4. DEL has no business reading them.
    pub fn args(&self) -> Result<Args, Error> {
        Args::parse(&self.raw_args)
    }

    /// `prevResult`, of whichever version it says it is, or of the configuration's where it says nothing.
    pub fn prev_result(&self) -> Result<Option<AddResult>, Error> {
        let Some(value) = field(&self.config, "prevResult") else { return Ok(None) };
        AddResult::decode(value, self.version)
            .map(Some)
            .map_err(|err| Error::new(err.code, format!("prevResult: {}", err.msg)))
    }

    /// `prevResult` where the specification demands it: CHECK always, a chained plugin's ADD.
    pub fn required_prev_result(&self) -> Result<AddResult, Error> {
        self.prev_result()?.ok_or_else(|| {
            Error::invalid_config("prevResult", "absent", "this call needs the result of the ADD before it")
        })
    }
}

/// The version if the plugin speaks it and it has the verb. An empty one is 0.1.0, as in the reference's code (its
/// documentation says 0.2.0).
fn supported(command: Command, version: &str) -> Result<Version, Error> {
    let incompatible = |details: String| {
        Error::new(Code::IncompatibleVersion, "incompatible CNI versions").with_details(details)
    };
    let parsed = if version.is_empty() { Ok(Version::V0_1_0) } else { version.parse() };
    let version = parsed.map_err(|UnknownVersion(version)| {
        incompatible(format!(
            "config is {version:?}, plugin supports {:?}",
            Version::ALL.map(Version::as_str)
        ))
    })?;
    if version < command.since() {
        let (verb, since) = (command.as_str(), command.since());
        return Err(incompatible(format!("config is {version}, which has no {verb}: it came with {since}")));
    }
    Ok(version)
}

/// Fails (code 4) with all the variables that `command` needs and does not have.
pub fn check_variables(command: Command, variable: impl Fn(&str) -> String) -> Result<(), Error> {
    let missing: Vec<_> =
        command.required_variables().iter().copied().filter(|name| variable(name).is_empty()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing = missing.join(",");
    Err(Error::new(Code::InvalidEnvironment, format!("required env variables [{missing}] missing")))
}

/// `CNI_CONTAINERID` and `CNI_IFNAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub container: ContainerId,
    pub ifname: IfName,
}

impl Target {
    pub fn parse(variable: impl Fn(&str) -> String) -> Result<Self, Error> {
        fn parsed<T: FromStr<Err: fmt::Display>>(name: &str, value: &str) -> Result<T, Error> {
            value
                .parse()
                .map_err(|why| Error::new(Code::InvalidEnvironment, format!("{name}: {value:?} {why}")))
        }
        Ok(Self {
            container: parsed("CNI_CONTAINERID", &variable("CNI_CONTAINERID"))?,
            ifname: parsed("CNI_IFNAME", &variable("CNI_IFNAME"))?,
        })
    }

    pub fn on(self, network: NetworkName) -> Attachment {
        Attachment { network, container: self.container, ifname: self.ifname }
    }
}

/// How `CNI_NETNS` stands to the plugin's own namespace.
#[derive(Debug, PartialEq, Eq)]
pub enum NetnsKind {
    /// Nothing is at the path.
    Absent,
    /// The namespace that the plugin, and so the runtime, runs in.
    Own,
    /// Something else: a namespace, or a file that isn't one.
    Other,
}

/// Compares device and inode, which identify a namespace (namespaces(7)). The plugin's own is that of its first thread.
pub fn netns_kind(netns: &NetnsPath) -> NetnsKind {
    let identity = |path: &Path| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
    match (identity(netns.as_ref()), identity(Path::new("/proc/self/ns/net"))) {
        (Err(_), _) => NetnsKind::Absent,
        (Ok(netns), Ok(own)) if netns == own => NetnsKind::Own,
        (Ok(_), _) => NetnsKind::Other,
    }
}

/// The attachments that GC must keep, of `cni.dev/valid-attachments` or, as older runtimes call it, `cni.dev/attachments`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValidAttachments(pub BTreeSet<Target>);

impl ValidAttachments {
    /// `None` when neither key is there: then GC must do nothing. `null` is an empty list: CRI-O sends it when no pod
    /// runs.
    pub fn parse(config: &Map<String, Value>) -> Result<Option<Self>, Error> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "containerID")]
            container: ContainerId,
            ifname: IfName,
        }
        let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
        let Some((key, list)) = keys.iter().find_map(|key| Some((key, config.get(*key)?))) else {
            return Ok(None);
        };
        let entries: Option<Vec<Entry>> = decode(list).map_err(|err| {
            Error::new(err.code, format!("{key}: {}", err.msg.replacen("configuration: ", "", 1)))
        })?;
        let target = |Entry { container, ifname }| Target { container, ifname };
        Ok(Some(Self(entries.into_iter().flatten().map(target).collect())))
    }

    pub fn contains(&self, container: &str, ifname: &str) -> bool {
        self.0.iter().any(|target| target.container.as_str() == container && target.ifname.as_str() == ifname)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check_config(command: Command, stdin: &str, expected: Result<(&str, Version), (Code, &str)>) {
        let parsed = Request::parse(command, stdin.as_bytes().to_vec(), |_| String::new());
        let parsed = parsed.map(|r| (r.name.to_string(), r.version)).map_err(|e| (e.code, e.to_string()));
        assert_eq!(
            parsed,
            expected.map(|(n, v)| (n.to_owned(), v)).map_err(|(c, m)| (c, m.to_owned())),
            "{stdin}"
        );
    }

    #[test]
    fn configurations() {
        use Command::{Add, Check, Del, Gc, Status};
        check_config(Add, r#"{"name": "n", "cniVersion": "1.1.0"}"#, Ok(("n", Version::V1_1_0)));
        check_config(Add, r#"{"NAME": "n", "CNIVERSION": "0.3.1"}"#, Ok(("n", Version::V0_3_1)));
        check_config(Add, r#"{"name": "n"}"#, Ok(("n", Version::V0_1_0)));
        check_config(Del, r#"{"name": "n", "cniVersion": null}"#, Ok(("n", Version::V0_1_0)));
        check_config(
            Add,
            "{",
            Err((
                Code::Decode,
                "the configuration on standard input: EOF while parsing an object at line 1 column 1",
            )),
        );
        check_config(
            Add,
            "[]",
            Err((Code::Decode, "the configuration on standard input: is not a JSON object")),
        );
        check_config(
            Add,
            r#"{"name": 1}"#,
            Err((Code::Decode, "the configuration on standard input: name: 1: is not a string")),
        );
        check_config(Add, "{}", Err((Code::InvalidConfig, "name: \"\": is empty")));
        check_config(
            Add,
            r#"{"name": "a/b"}"#,
            Err((
                Code::InvalidConfig,
                "name: \"a/b\": must start with a letter or a digit and hold only letters, digits, '_', '.' and '-'",
            )),
        );
        check_config(
            Add,
            r#"{"name": "n", "cniVersion": "1.0"}"#,
            Err((
                Code::IncompatibleVersion,
                "incompatible CNI versions; config is \"1.0\", plugin supports [\"0.1.0\", \"0.2.0\", \"0.3.0\", \"0.3.1\", \"0.4.0\", \"1.0.0\", \"1.1.0\"]",
            )),
        );
        fn too_old(message: &str) -> Result<(&str, Version), (Code, &str)> {
            Err((Code::IncompatibleVersion, message))
        }
        check_config(
            Check,
            r#"{"name": "n", "cniVersion": "0.3.1"}"#,
            too_old("incompatible CNI versions; config is 0.3.1, which has no CHECK: it came with 0.4.0"),
        );
        for (command, verb) in [(Gc, "GC"), (Status, "STATUS")] {
            let message = format!(
                "incompatible CNI versions; config is 1.0.0, which has no {verb}: it came with 1.1.0"
            );
            check_config(command, r#"{"name": "n", "cniVersion": "1.0.0"}"#, too_old(&message));
        }
    }

    #[test]
    fn missing_variables_are_named_together() {
        let only_path =
            |name: &str| if name == "CNI_PATH" { "/opt/cni/bin".to_owned() } else { String::new() };
        let missing = |command| check_variables(command, only_path).map_err(|e| (e.code, e.msg));
        let error =
            |list: &str| Err((Code::InvalidEnvironment, format!("required env variables [{list}] missing")));
        assert_eq!(missing(Command::Add), error("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"));
        assert_eq!(missing(Command::Check), error("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME"));
        assert_eq!(missing(Command::Del), error("CNI_CONTAINERID,CNI_IFNAME"));
        assert_eq!(missing(Command::Gc), Ok(()));
        assert_eq!(missing(Command::Version), Ok(()));
    }

    #[test]
    fn valid_attachments() {
        #[track_caller]
        fn check(config: Value, expected: Result<Option<&[(&str, &str)]>, &str>) {
            let Value::Object(config) = config else { panic!("not an object") };
            let target =
                |&(c, i): &(&str, &str)| Target { container: c.parse().unwrap(), ifname: i.parse().unwrap() };
            let expected =
                expected.map(|list| list.map(|list| ValidAttachments(list.iter().map(target).collect())));
            assert_eq!(ValidAttachments::parse(&config).map_err(|e| e.msg), expected.map_err(str::to_owned));
        }
        check(json!({}), Ok(None));
        check(json!({"cni.dev/valid-attachments": null, "cni.dev/attachments": null}), Ok(Some(&[])));
        check(json!({"cni.dev/valid-attachments": []}), Ok(Some(&[])));
        check(
            json!({"cni.dev/attachments": [{"containerID": "a", "ifname": "eth0"}]}),
            Ok(Some(&[("a", "eth0")])),
        );
        check(
            json!({"cni.dev/valid-attachments": [{"containerid": "a", "ifName": "eth0"}]}),
            Ok(Some(&[("a", "eth0")])),
        );
        check(
            json!({"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "a/b"}]}),
            Err("cni.dev/valid-attachments: [0].ifname: \"a/b\": must not contain '/', ':' or white space"),
        );
        check(
            json!({"cni.dev/valid-attachments": {}}),
            Err("cni.dev/valid-attachments: {}: invalid type: map, expected a sequence"),
        );
    }

    #[test]
    fn the_namespace_is_told_apart() {
        assert_eq!(netns_kind(&NetnsPath::new("/proc/self/ns/net")), NetnsKind::Own);
        assert_eq!(netns_kind(&NetnsPath::new("/proc/self/ns/mnt")), NetnsKind::Other);
        assert_eq!(netns_kind(&NetnsPath::new("/nonexistent")), NetnsKind::Absent);
        assert_eq!(netns_kind(&NetnsPath::new("")), NetnsKind::Absent);
    }
}
