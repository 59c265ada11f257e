//! The binary of the `ipvlan` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<ipvlan::Ipvlan>()
}
