//! The binary of the `overlay` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<overlay::plugin::Overlay>()
}
