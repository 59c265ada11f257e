//! What the suite consists of: every binary, and the names that it is installed under. Grows with the suite.

/// One program of the suite.
pub(super) struct Program {
    pub(super) package: &'static str,
    pub(super) binary: &'static str,
    /// File names in the plugin directory: the CNI types that it answers to.
    pub(super) names: &'static [&'static str],
}

const fn plugin(package: &'static str, names: &'static [&'static str]) -> Program {
    Program { package, binary: names[0], names }
}

pub(super) const PROGRAMS: &[Program] = &[
    plugin("bridge", &["bridge"]),
    plugin("ipam", &["host-local"]),
    plugin("ipam", &["static"]),
    plugin("chained", &["loopback"]),
    plugin("chained", &["portmap"]),
    plugin("chained", &["firewall"]),
    plugin("chained", &["tuning"]),
    plugin("chained", &["bandwidth"]),
    plugin("chained", &["sbr"]),
    plugin("chained", &["vrf"]),
    plugin("ptp", &["ptp"]),
    plugin("tap", &["tap"]),
    plugin("macvlan", &["macvlan"]),
    plugin("dummy", &["dummy"]),
    plugin("ipvlan", &["ipvlan"]),
    plugin("vlan", &["vlan"]),
    plugin("host", &["host", "host-device"]),
    plugin("dhcp", &["dhcp"]),
    plugin("netctl", &["netctl"]),
    plugin("overlay", &["overlay"]),
    plugin("overlay", &["overlayd"]),
];

/// The binary that answers to `name`.
pub(super) fn binary(name: &str) -> &str {
    PROGRAMS.iter().find(|program| program.names.contains(&name)).map_or(name, |program| program.binary)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::front::cargo;

    /// Programs that are no part of what is installed.
    const OF_THE_LAB: [&str; 2] = ["floor", "testenv"];

    #[test]
    fn every_program_of_the_workspace_is_installed() {
        let metadata = cargo::metadata().unwrap();
        let mut built = BTreeSet::new();
        for package in metadata["packages"].as_array().unwrap() {
            for target in package["targets"].as_array().unwrap() {
                if target["kind"] == serde_json::json!(["bin"]) {
                    built.insert((package["name"].as_str().unwrap(), target["name"].as_str().unwrap()));
                }
            }
        }
        built.retain(|(_, name)| !OF_THE_LAB.contains(name));
        let listed: BTreeSet<_> = PROGRAMS.iter().map(|program| (program.package, program.binary)).collect();
        assert_eq!(listed, built);
    }
}
