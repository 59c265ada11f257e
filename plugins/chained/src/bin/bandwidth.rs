//! The binary of the `bandwidth` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<chained::bandwidth::Bandwidth>()
}
