//! The binary of the `portmap` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<chained::portmap::Portmap>()
}
