//! The binary of the `loopback` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<chained::loopback::Loopback>()
}
