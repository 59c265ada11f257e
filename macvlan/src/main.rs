//! The binary of the `macvlan` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<macvlan::Macvlan>()
}
