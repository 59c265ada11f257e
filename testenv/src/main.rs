//! `cargo testenv`: the front door of the lab. Knows how to set up, build and start; the work is in the library.

use std::env;
use std::process::ExitCode;

mod front;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match front::run(&arguments) {
        Ok(code) => code,
        Err(cause) => {
            eprintln!("testenv: {cause:#}");
            ExitCode::FAILURE
        }
    }
}
