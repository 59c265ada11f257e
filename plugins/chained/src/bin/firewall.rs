//! The binary of the `firewall` plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<chained::firewall::Firewall>()
}
