//! The binary of the `dhcp` plugin; `dhcp daemon` is its agent.

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() == Some("daemon") {
        dhcp::agent::main(arguments)
    } else {
        cni::run::run::<dhcp::plugin::Dhcp>()
    }
}
