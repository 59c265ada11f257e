//! The binary of the `bridge` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<bridge::Bridge>()
}
