//! The binary of the `ptp` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<ptp::Ptp>()
}
