//! CNI plugin `host-local`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<ipam::host_local::HostLocal>()
}
