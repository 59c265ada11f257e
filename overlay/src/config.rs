//! The agent's configuration: one TOML file in which everything has a default. Knows no network's state.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use cni::names::{IfName, NetworkName};
use serde::Deserialize;

use crate::{
    definition::{Definition, DefinitionError, RawDefinition, RawPool},
    family::Family,
    names::{Mtu, NodeName, Port, Vni},
};

/// What `overlayd` goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub node: NodeName,
    /// Local state of each network, for plugins; gone with the boot.
    pub run: PathBuf,
    /// Last known peers of each network; survives the boot.
    pub lib: PathBuf,
    /// Where `netctl` asks.
    pub socket: PathBuf,
    /// Where Prometheus asks, if anywhere.
    pub metrics: Option<SocketAddr>,
    pub log: log::LevelFilter,
    pub networks: Vec<NetworkConfig>,
}

/// One network of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    pub source: Source,
    /// The underlay's link; by default that of the address, else that of the default route.
    pub device: Option<IfName>,
    /// This host's end of the tunnels; by default the first address of the link.
    pub address: Option<IpAddr>,
}

/// Where a network's definition and peers come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file that holds both.
    Static {
        file: PathBuf,
    },
    Etcd {
        definition: Box<Definition>,
        etcd: EtcdConfig,
    },
}

/// How to reach etcd.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EtcdConfig {
    /// `http://10.0.0.1:2379` or `https://...`; tried in turn.
    pub endpoints: Vec<String>,
    /// PEM files: who signed the servers' certificates, and who we are.
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub username: Option<String>,
    /// A file that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// How long hosts without a subnet wait in a directory that has just been born (or born again), so that those who own
    /// one register it first. Seconds.
    #[serde(default = "default_grace", deserialize_with = "seconds")]
    pub grace: Duration,
    /// How long a host counts as alive after its last sign. Seconds. Ownership does not hang on it.
    #[serde(default = "default_alive", deserialize_with = "seconds")]
    pub alive: Duration,
}

/// Why there is no configuration. Each names the field and the value.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read {file}: {source}")]
    Read { file: PathBuf, source: io::Error },
    #[error("{file}: {message}")]
    Parse { file: PathBuf, message: String },
    #[error("network {network}: {source}")]
    Definition { network: NetworkName, source: DefinitionError },
    #[error("network[{0}]: needs either `file` (a peers file) or `name`, `pools` and `etcd`")]
    NoSource(usize),
    #[error("network[{0}]: with `file`, the definition is in the file, and `{1}` has no place here")]
    TwoSources(usize, &'static str),
    #[error("network {0}: etcd.endpoints: none")]
    NoEndpoint(NetworkName),
    #[error("node: the host's name {0:?} can't serve ({1}); name one")]
    Node(String, String),
    #[error("metrics: {0} is not an address of this host alone; metrics carry no password")]
    PublicMetrics(SocketAddr),
}

impl Config {
    /// Reads `file`. A file that is not there is a file without a line in it.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Read { file: file.to_owned(), source }),
        };
        Self::parse(&text, file)
    }

    /// `file` is for messages.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text)
            .map_err(|err| ConfigError::Parse { file: file.to_owned(), message: err.to_string() })?;
        let RawConfig { node, run, lib, socket, metrics, log, peers, network } = raw;
        let metrics = match metrics.as_deref() {
            None => Some(SocketAddr::from(([127, 0, 0, 1], METRICS_PORT))),
            Some("") => None,
            Some(text) => Some(text.parse().map_err(|err| ConfigError::Parse {
                file: file.to_owned(),
                message: format!("metrics: {text:?}: {err}"),
            })?),
        };
        if let Some(public) = metrics.filter(|address| !address.ip().is_loopback()) {
            return Err(ConfigError::PublicMetrics(public));
        }
        let mut networks = network
            .into_iter()
            .enumerate()
            .map(|(index, raw)| raw.check(index))
            .collect::<Result<Vec<_>, _>>()?;
        if networks.is_empty() {
            networks = peers_files(&peers);
        }
        Ok(Self {
            node: node.map_or_else(host_name, Ok)?,
            run,
            lib,
            socket,
            metrics,
            log: log.into(),
            networks,
        })
    }
}

/// Without a network in the file: every peers file in the usual place is one.
fn peers_files(dir: &Path) -> Vec<NetworkConfig> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    let network = |file| NetworkConfig { source: Source::Static { file }, device: None, address: None };
    files.into_iter().map(network).collect()
}

/// The host's own name, if it can be a node's.
pub fn host_name() -> Result<NodeName, ConfigError> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    name.parse().map_err(|err| ConfigError::Node(name.to_owned(), format!("{err}")))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    node: Option<NodeName>,
    #[serde(default = "default_run")]
    run: PathBuf,
    #[serde(default = "default_lib")]
    lib: PathBuf,
    #[serde(default = "default_socket")]
    socket: PathBuf,
    metrics: Option<String>,
    #[serde(default)]
    log: Level,
    #[serde(default = "default_peers")]
    peers: PathBuf,
    #[serde(default)]
    network: Vec<RawNetwork>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl From<Level> for log::LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNetwork {
    file: Option<PathBuf>,
    device: Option<IfName>,
    address: Option<IpAddr>,
    name: Option<NetworkName>,
    vni: Option<Vni>,
    port: Option<Port>,
    underlay: Option<Family>,
    mtu: Option<Mtu>,
    pools: Option<Vec<RawPool>>,
    direct: Option<bool>,
    cluster: Option<String>,
    etcd: Option<EtcdConfig>,
}

impl RawNetwork {
    fn check(self, index: usize) -> Result<NetworkConfig, ConfigError> {
        let Self { file, device, address, name, vni, port, underlay, mtu, pools, direct, cluster, etcd } =
            self;
        if let Some(file) = file {
            let misplaced = [
                ("name", name.is_some()),
                ("vni", vni.is_some()),
                ("port", port.is_some()),
                ("underlay", underlay.is_some()),
                ("mtu", mtu.is_some()),
                ("pools", pools.is_some()),
                ("direct", direct.is_some()),
                ("cluster", cluster.is_some()),
                ("etcd", etcd.is_some()),
            ];
            return match misplaced.into_iter().find(|(_, there)| *there) {
                Some((field, _)) => Err(ConfigError::TwoSources(index, field)),
                None => Ok(NetworkConfig { source: Source::Static { file }, device, address }),
            };
        }
        let (Some(name), Some(pools), Some(etcd)) = (name, pools, etcd) else {
            return Err(ConfigError::NoSource(index));
        };
        if etcd.endpoints.is_empty() {
            return Err(ConfigError::NoEndpoint(name));
        }
        let (underlay, direct) = (underlay.unwrap_or_default(), direct.unwrap_or_default());
        let raw = RawDefinition { name: name.clone(), vni, port, underlay, mtu, pools, direct, cluster };
        let definition = Box::new(
            Definition::try_from(raw).map_err(|source| ConfigError::Definition { network: name, source })?,
        );
        Ok(NetworkConfig { source: Source::Etcd { definition, etcd }, device, address })
    }
}

fn seconds<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = u32::deserialize(deserializer)?;
    if seconds == 0 {
        Err(serde::de::Error::custom("0 seconds"))
    } else {
        Ok(Duration::from_secs(seconds.into()))
    }
}

fn default_run() -> PathBuf {
    RUN.into()
}

fn default_lib() -> PathBuf {
    LIB.into()
}

fn default_socket() -> PathBuf {
    crate::client::SOCKET.into()
}

fn default_peers() -> PathBuf {
    "/etc/tenon/overlay".into()
}

fn default_prefix() -> String {
    "/tenon/v1".into()
}

fn default_grace() -> Duration {
    Duration::from_secs(30)
}

fn default_alive() -> Duration {
    Duration::from_secs(30)
}

/// Where plugins look for a network's local state.
pub const RUN: &str = "/run/tenon/overlay";
/// Where the last known peers of a network are kept.
pub const LIB: &str = "/var/lib/tenon/overlay";
/// The file that `overlayd` reads when it is told none.
pub const FILE: &str = "/etc/tenon/overlayd.toml";
const METRICS_PORT: u16 = 9477;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(toml: &str, expected: Result<(), &str>) -> Option<Config> {
        let found = Config::parse(toml, Path::new("overlayd.toml"));
        match (found, expected) {
            (Ok(config), Ok(())) => Some(config),
            (Err(err), Err(text)) => {
                assert!(err.to_string().contains(text), "{err}");
                None
            }
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn an_empty_file_is_enough() {
        let config = check("peers = '/nonexistent'\nnode = 'h1'", Ok(())).unwrap();
        assert_eq!(config.run, Path::new("/run/tenon/overlay"));
        assert_eq!(config.metrics, Some("127.0.0.1:9477".parse().unwrap()));
        assert!(config.networks.is_empty());
    }

    #[test]
    fn networks() {
        let etcd = "[[network]]\nname='lab'\npools=['10.244.0.0/16']\n[network.etcd]\nendpoints=['http://10.0.0.1:2379']";
        let config = check(&format!("node = 'h1'\n{etcd}"), Ok(())).unwrap();
        let Source::Etcd { definition, etcd } = &config.networks[0].source else { panic!("not etcd") };
        assert_eq!((definition.name.as_str(), etcd.grace), ("lab", Duration::from_secs(30)));
        let config = check("node = 'h1'\n[[network]]\nfile='/x.json'\ndevice='eth1'", Ok(())).unwrap();
        assert_eq!(config.networks[0].source, Source::Static { file: "/x.json".into() });
    }

    #[test]
    fn mistakes_are_named() {
        check("node = '-'", Err("node \"-\" must start"));
        check("nod = 'h1'", Err("unknown field `nod`"));
        check("metrics = '0.0.0.0:9477'", Err("not an address of this host alone"));
        check("metrics = 'x'", Err("metrics: \"x\""));
        check("node='h1'\n[[network]]\nname='lab'", Err("network[0]: needs either"));
        check("node='h1'\n[[network]]\nfile='/x'\nvni=7", Err("`vni` has no place here"));
        check(
            "node='h1'\n[[network]]\nname='lab'\npools=['10.0.0.0/8']\netcd={endpoints=[]}",
            Err("network lab: etcd.endpoints: none"),
        );
        check(
            "node='h1'\n[[network]]\nname='lab'\npools=[]\netcd={endpoints=['http://a']}",
            Err("network lab: pools: a network needs at least one"),
        );
        check(
            "node='h1'\n[[network]]\nname='lab'\npools=['10.0.0.0/8']\netcd={endpoints=['http://a'],grace=0}",
            Err("0 seconds"),
        );
    }
}
