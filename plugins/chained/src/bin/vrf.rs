//! The binary of the `vrf` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<chained::vrf::Vrf>()
}
