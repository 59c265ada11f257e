//! CNI plugin `static`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::run::run::<ipam::static_::Static>()
}
