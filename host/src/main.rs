//! The binary of the `host` plugin, and of `host-device` under that name.

use std::{env, path::Path};

use cni::run::Plugin;
use host::{Host, HostDevice};

fn main() {
    let program = env::args_os().next();
    let name = program.as_ref().and_then(|program| Path::new(program).file_name());
    if name.is_some_and(|name| name == HostDevice::NAME) {
        cni::run::run::<HostDevice>();
    } else {
        cni::run::run::<Host>();
    }
}
