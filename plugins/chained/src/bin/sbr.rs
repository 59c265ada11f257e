//! The binary of the `sbr` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<chained::sbr::Sbr>()
}
