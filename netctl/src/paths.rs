//! Where the state of a node's networks is.

use std::{
    env,
    path::{Path, PathBuf},
};

use crate::facts::engines::Engine;

/// The directories that netctl reads and writes, and whom it asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Network configurations.
    pub conf_dir: PathBuf,
    /// libcni's result cache.
    pub results: PathBuf,
    /// host-local's lease files, a directory a network.
    pub networks: PathBuf,
    /// Where plugins are.
    pub plugins: Vec<PathBuf>,
    /// What is asked for the names of containers.
    pub engines: Vec<Engine>,
}

impl Paths {
    /// Everything under `root` when given, as `net.d/`, `results/` and `networks/`; else where NETCONFPATH and libcni say.
    /// Plugins are where CNI_PATH says.
    pub fn new(root: Option<&Path>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let said = |name: &str| variable(name).filter(|value| !value.is_empty());
        let plugins = said("CNI_PATH").unwrap_or_else(|| PLUGINS.to_owned());
        let plugins = env::split_paths(&plugins).collect();
        let engines = Engine::all(&variable);
        match root {
            Some(root) => Self {
                conf_dir: root.join("net.d"),
                results: root.join("results"),
                networks: root.join("networks"),
                plugins,
                engines,
            },
            None => Self {
                conf_dir: said("NETCONFPATH").unwrap_or_else(|| NET_D.to_owned()).into(),
                results: RESULTS.into(),
                networks: NETWORKS.into(),
                plugins,
                engines,
            },
        }
    }
}

const NET_D: &str = "/etc/cni/net.d";
const RESULTS: &str = "/var/lib/cni/results";
const NETWORKS: &str = "/var/lib/cni/networks";
/// Where containerd, and where podman and distributions, have them.
const PLUGINS: &str = "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_beat_variables_beat_defaults() {
        let with = |name: &str| match name {
            "NETCONFPATH" => Some("/n".to_owned()),
            "CNI_PATH" => Some("/a:/b".to_owned()),
            _ => None,
        };
        let paths = Paths::new(None, |_| None);
        assert_eq!(
            (paths.conf_dir, paths.plugins),
            (
                "/etc/cni/net.d".into(),
                vec!["/opt/cni/bin".into(), "/usr/lib/cni".into(), "/usr/libexec/cni".into()]
            )
        );
        let paths = Paths::new(None, with);
        assert_eq!((paths.conf_dir, paths.plugins), ("/n".into(), vec!["/a".into(), "/b".into()]));
        let paths = Paths::new(Some(Path::new("/r")), with);
        assert_eq!((paths.conf_dir, paths.results), ("/r/net.d".into(), "/r/results".into()));
    }
}
