//! The commands of the front door: one file each.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::bail;

mod bench;
mod cargo;
mod count;
mod demo;
mod demo_overlay;
mod install;
mod lab;
mod packages;
mod root;
mod suite;
mod test;
mod vm;

/// Name, arguments, what it does, and its code.
type Command = (&'static str, &'static str, &'static str, fn(&[String]) -> anyhow::Result<ExitCode>);

const COMMANDS: [Command; 6] = [
    ("demo", "", "show containers on a network of the built plugins, in a lab; needs no root", demo::run),
    (
        "test",
        "[--guest-limit SECONDS] [-- FILTER...]",
        "install what the tests need where allowed, run them all, count",
        test::run,
    ),
    (
        "bench",
        "[--only TITLE] [--peer DIR] [--seconds N]",
        "compare with the Go plugins and with the kernel's own time",
        bench::run,
    ),
    (
        "lab",
        "up|show|run|exec|cut|heal|down",
        "a cluster of hosts with the overlay on it, until it is taken down",
        lab::run,
    ),
    (
        "vm",
        "run|test|hosts [--kernel V] [--limit SECONDS] [--all] [-- CMD]",
        "a command, or what this kernel can't test, on other kernels in QEMU",
        vm::run,
    ),
    ("install", "--dir DIR", "build for release and put every plugin, and netctl, into DIR", install::run),
];

pub(crate) fn run(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let name = arguments.first().map_or("--help", String::as_str);
    if ["--help", "-h", "help"].contains(&name) {
        say(&usage())?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some((.., command)) = COMMANDS.iter().find(|(known, ..)| *known == name) else {
        bail!("no command {name:?}\n{}", usage());
    };
    command(&arguments[1..])
}

fn usage() -> String {
    let lines = COMMANDS
        .iter()
        .map(|(name, arguments, what, _)| format!("  {:<34} {what}\n", format!("{name} {arguments}")));
    format!("usage: cargo testenv COMMAND\n{}", lines.collect::<String>())
}

/// A line of the command's result. Progress goes to stderr.
fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}
