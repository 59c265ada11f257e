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

pub(super) const PROGRAMS: [Program; 5] = [
    plugin("bridge", &["bridge"]),
    plugin("ipam", &["host-local"]),
    plugin("ipam", &["static"]),
    plugin("chained", &["loopback"]),
    plugin("netctl", &["netctl"]),
];
