//! The agent of the overlay: `overlayd [--config FILE]`. All it does is in the library.

use std::{path::PathBuf, process::ExitCode};

use overlay::{agent, config};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("overlayd: {err:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let file = match (arguments.next(), arguments.next(), arguments.next()) {
        (None, None, None) => PathBuf::from(config::FILE),
        (Some(option), Some(file), None) if option == "--config" => file.into(),
        _ => anyhow::bail!("usage: overlayd [--config FILE] (default {})", config::FILE),
    };
    let config = config::Config::read(&file)?;
    agent::log::start(config.log);
    agent::run(config)
}
