//! The binary of the `tuning` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<chained::tuning::Tuning>()
}
