//! The binary of the `tap` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    tap::labelled::run_if_asked().unwrap_or_else(|| cni::run::run::<tap::Tap>())
}
