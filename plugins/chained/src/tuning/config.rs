//! The configuration of `tuning`, raw and checked.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use cni::{
    error::{Code, Error},
    names::IfName,
    request::Request,
};
use kernel::{link::Mtu, mac::MacAddr, sysctl};
use regex_lite::Regex;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

/// The configuration as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NetConf {
    sysctl: BTreeMap<String, String>,
    mac: String,
    promisc: bool,
    mtu: u32,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    txqlen: Option<u32>,
    data_dir: String,
    runtime_config: RuntimeConf,
    args: ArgsConf,
}

/// `runtimeConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RuntimeConf {
    mac: String,
}

/// `args`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ArgsConf {
    cni: CniArgsConf,
}

/// `args.cni`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CniArgsConf {
    sysctl: BTreeMap<String, String>,
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    txqlen: Option<u32>,
}

/// The configuration, checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Values by path below /proc/sys, in the order in which they are written.
    pub(super) sysctls: BTreeMap<String, String>,
    pub(super) mac: Option<MacAddr>,
    pub(super) promiscuous: bool,
    pub(super) mtu: Option<Mtu>,
    pub(super) allmulticast: Option<bool>,
    pub(super) txqlen: Option<u32>,
}

impl Config {
    pub(super) fn new(request: &Request, ifname: &IfName) -> Result<Self, Error> {
        check_no_key_is_twice(request)?;
        let NetConf { sysctl, mac, promisc, mtu, allmulti, txqlen, data_dir: _, runtime_config, args } =
            request.decode()?;
        let given = args.cni;
        let mut sysctls = BTreeMap::new();
        let allowed = Allowlist::read(Path::new(ALLOWLIST))?;
        for (prefix, keys) in [("sysctl", sysctl), ("args.cni.sysctl", given.sysctl)] {
            for (key, value) in keys {
                allowed.check(prefix, &key)?;
                sysctls.insert(path(prefix, &key, ifname)?, value);
            }
        }
        // Each source over the one before.
        let from_args = request.args()?.mac.unwrap_or_default();
        let sources = [
            ("args.cni.mac", given.mac.unwrap_or_default()),
            ("runtimeConfig.mac", runtime_config.mac),
            ("CNI_ARGS: MAC", from_args),
            ("mac", mac),
        ];
        let mac = sources.iter().find(|(_, mac)| !mac.is_empty());
        let mac = mac.map(|(field, mac)| {
            mac.parse().map_err(|why| Error::invalid_config(field, format!("{mac:?}"), why))
        });
        let (field, mtu) = given.mtu.map_or(("mtu", mtu), |mtu| ("args.cni.mtu", mtu));
        let checked = |mtu| Mtu::try_from(mtu).map_err(|why| Error::invalid_config(field, mtu, why));
        Ok(Self {
            sysctls,
            mac: mac.transpose()?,
            promiscuous: given.promisc.unwrap_or(promisc),
            mtu: (mtu != 0).then(|| checked(mtu)).transpose()?,
            allmulticast: given.allmulti.or(allmulti),
            txqlen: given.txqlen.or(txqlen),
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { sysctls, mac, promiscuous, mtu, allmulticast, txqlen } = self;
        let link =
            mac.is_some() || *promiscuous || mtu.is_some() || allmulticast.is_some() || txqlen.is_some();
        sysctls.is_empty() && !link
    }
}

/// Where the reference keeps what it changed.
pub(super) fn data_dir(request: &Request) -> String {
    let conf: NetConf = request.decode().unwrap_or_default();
    if conf.data_dir.is_empty() { "/run/cni/tuning".to_owned() } else { conf.data_dir }
}

/// The path of a setting. `IFNAME` stands for the interface. An interface whose name has a dot may also be named in the
/// form with dots: what is between `net.ipv4.conf.` and the last dot is its name.
fn path(field: &str, key: &str, ifname: &IfName) -> Result<String, Error> {
    let of_link = PER_LINK.iter().find_map(|prefix| {
        let (name, setting) = key.strip_prefix(prefix)?.rsplit_once('.')?;
        Some(format!("{}{name}/{setting}", prefix.replace('.', "/")))
    });
    // In the dotted form a slash is a dot of the name.
    let path = match of_link {
        Some(path) if !key.contains('/') => path,
        _ => sysctl::path_of(key),
    };
    let path = path.replace("IFNAME", ifname.as_str());
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !path.starts_with("net/") || !path.split('/').all(plain) {
        let why = "is not a setting of the network (net.*), which each container has for itself";
        return Err(Error::invalid_config(field, format!("{key:?}"), why));
    }
    Ok(path)
}

/// The settings that may be changed: each line of a file is a regular expression, one of which the key must match.
#[derive(Debug)]
struct Allowlist(Option<Vec<Regex>>);

impl Allowlist {
    /// Without the file everything may.
    fn read(path: &Path) -> Result<Self, Error> {
        let unreadable = |why: &dyn fmt::Display| Error::new(Code::Io, format!("{}: {why}", path.display()));
        let text = match fs::read_to_string(path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Self(None)),
            text => text.map_err(|err| unreadable(&err))?,
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let expression = |line: &str| {
            Regex::new(line)
                .map_err(|err| unreadable(&format_args!("{line:?} is no regular expression: {err}")))
        };
        Ok(Self(Some(lines.map(expression).collect::<Result<_, _>>()?)))
    }

    fn check(&self, field: &str, key: &str) -> Result<(), Error> {
        let Self(Some(allowed)) = self else { return Ok(()) };
        if allowed.iter().any(|expression| expression.is_match(key)) {
            return Ok(());
        }
        let expressions: Vec<_> = allowed.iter().map(Regex::as_str).collect();
        let why = format!("is not allowed by {ALLOWLIST}: {}", expressions.join(", "));
        Err(Error::invalid_config(field, format!("{key:?}"), why))
    }
}

/// In JSON the last of two equal keys wins; here it is not known which one was meant.
fn check_no_key_is_twice(request: &Request) -> Result<(), Error> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Sysctls {
        #[serde(deserialize_with = "unique")]
        sysctl: (),
    }
    match serde_json::from_slice::<Sysctls>(&request.stdin) {
        Err(err) if err.to_string().starts_with(TWICE) => {
            let text = err.to_string();
            let key = text[TWICE.len()..].split(" at line").next().unwrap_or_default();
            Err(Error::invalid_config("sysctl", key, "is there twice"))
        }
        _ => Ok(()),
    }
}

fn unique<'de, D: Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    struct Keys;
    impl<'de> Visitor<'de> for Keys {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut seen = std::collections::BTreeSet::new();
            while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                if !seen.insert(key.clone()) {
                    return Err(A::Error::custom(format!("{TWICE}{key:?}")));
                }
            }
            Ok(())
        }
    }
    deserializer.deserialize_any(Keys)
}

const TWICE: &str = "duplicate key ";
const ALLOWLIST: &str = "/etc/cni/tuning/allowlist.conf";
const PER_LINK: [&str; 5] =
    ["net.ipv4.conf.", "net.ipv6.conf.", "net.ipv4.neigh.", "net.ipv6.neigh.", "net.mpls.conf."];

#[cfg(test)]
mod tests {
    use cni::request::{Command, Request};
    use serde_json::{Value, json};

    use super::Config;

    fn config(text: &str, args: &str) -> Result<Config, String> {
        let variable = |name: &str| if name == "CNI_ARGS" { args.to_owned() } else { String::new() };
        let request = Request::parse(Command::Add, text.as_bytes().to_vec(), variable).unwrap();
        Config::new(&request, &"eth0.5".parse().unwrap()).map_err(|err| err.msg)
    }

    fn with(more: Value, args: &str) -> Result<Config, String> {
        let mut config_ = json!({"cniVersion": "1.1.0", "name": "n", "type": "tuning"});
        config_.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config(&config_.to_string(), args)
    }

    #[test]
    fn names_with_dots() {
        for key in [
            "net.ipv4.conf.IFNAME.log_martians",
            "net/ipv4/conf/IFNAME/log_martians",
            "net.ipv4.conf.eth0.5.log_martians",
            "net.ipv4.conf.eth0/5.log_martians",
            "net/ipv4/conf/eth0.5/log_martians",
        ] {
            let config = with(json!({"sysctl": {key: "1"}}), "").unwrap();
            let paths: Vec<_> = config.sysctls.keys().collect();
            assert_eq!(paths, ["net/ipv4/conf/eth0.5/log_martians"], "{key}");
        }
        let config =
            with(json!({"sysctl": {"net.core.somaxconn": "7", "net.ipv4.tcp_fin_timeout": "9"}}), "");
        assert_eq!(
            config.unwrap().sysctls.into_keys().collect::<Vec<_>>(),
            ["net/core/somaxconn", "net/ipv4/tcp_fin_timeout"]
        );
    }

    #[test]
    fn who_beats_whom() {
        let mac = |more: Value, args| with(more, args).unwrap().mac.unwrap().to_string();
        let all = json!({"mac": "02:00:00:00:00:01", "runtimeConfig": {"mac": "02:00:00:00:00:03"},
            "args": {"cni": {"mac": "02:00:00:00:00:04"}}});
        assert_eq!(mac(all.clone(), "MAC=02:00:00:00:00:02"), "02:00:00:00:00:04");
        let mut some = all;
        some["args"] = Value::Null;
        assert_eq!(mac(some.clone(), "MAC=02:00:00:00:00:02"), "02:00:00:00:00:03");
        some["runtimeConfig"] = Value::Null;
        assert_eq!(mac(some.clone(), "MAC=02:00:00:00:00:02"), "02:00:00:00:00:02");
        assert_eq!(mac(some, ""), "02:00:00:00:00:01");
    }

    /// Bug of the reference: a nil map, so that it panics.
    #[test]
    fn bug_sysctls_of_args_alone() {
        let config = with(json!({"args": {"cni": {"sysctl": {"net.core.somaxconn": "7"}}}}), "").unwrap();
        assert_eq!(config.sysctls["net/core/somaxconn"], "7");
        let over = json!({"sysctl": {"net.core.somaxconn": "1"}, "args": {"cni": {"sysctl": {"net.core.somaxconn": "7"},
            "mtu": 1400, "promisc": false, "allmulti": true, "txQLen": 9}}, "mtu": 1300, "promisc": true});
        let config = with(over, "").unwrap();
        assert_eq!(config.sysctls["net/core/somaxconn"], "7");
        assert_eq!(
            (config.mtu.map(u32::from), config.promiscuous, config.allmulticast, config.txqlen),
            (Some(1400), false, Some(true), Some(9))
        );
    }

    #[test]
    fn what_can_t_be() {
        for (more, expected) in [
            (
                json!({"sysctl": {"kernel.shmmax": "1"}}),
                "sysctl: \"kernel.shmmax\": is not a setting of the network (net.*), which each container has for itself",
            ),
            (
                json!({"sysctl": {"net.../../kernel/x": "1"}}),
                "sysctl: \"net.../../kernel/x\": is not a setting of the network (net.*), which each container has for itself",
            ),
            (
                json!({"mac": "nonsense"}),
                "mac: \"nonsense\": \"nonsense\" is not an Ethernet address (like 02:00:5e:10:00:01)",
            ),
            (json!({"mtu": 5}), "mtu: 5: MTU 5 is not within 68..=65535"),
        ] {
            assert_eq!(with(more, "").unwrap_err(), expected);
        }
        let twice =
            r#"{"cniVersion": "1.0.0", "name": "n", "sysctl": {"net.a": "1", "net.b": "1", "net.a": "2"}}"#;
        assert_eq!(config(twice, "").unwrap_err(), "sysctl: \"net.a\": is there twice");
    }
}
