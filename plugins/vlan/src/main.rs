//! The binary of the `vlan` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<vlan::Vlan>()
}
