//! The binary of the `dummy` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<dummy::Dummy>()
}
