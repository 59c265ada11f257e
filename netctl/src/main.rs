//! `netctl`: the command line of the library beside it.

use std::{
    io::{Write, stderr},
    process::ExitCode,
};

use clap::Parser;
use netctl::cli::Cli;

fn main() -> ExitCode {
    cni::log::start("netctl");
    match Cli::parse().run() {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(stderr(), "netctl: {failure}");
            failure.exit().into()
        }
    }
}
