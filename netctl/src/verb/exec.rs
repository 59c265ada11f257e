//! `netctl exec`: the plugins of a network, run as cnitool runs them; same environment variables, container ids, cache
//! and output.

use std::io::{Write, stderr};

use clap::{Args, Subcommand};
use cni::error::Error;
use serde::Serialize;

use crate::{
    cache::Cache,
    commands,
    conf::{Directory, NetworkList},
    exit::{Exit, Failure},
    gojson, output,
    progress::Progress,
    runtime::{Runtime, event::Event},
    verb::Context,
};

mod add;
mod attach;
mod check;
mod del;
mod gc;
mod status;

/// Runs the plugins of a network configuration list in a namespace, as cnitool does, and shows each step.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Exec {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Attach a container to a network and print the result
    Add(add::Add),
    /// Detach a container from a network; fine when it is not attached, or gone
    Del(del::Del),
    /// Ask the plugins whether an attachment is as they made it
    Check(check::Check),
    /// Remove what containers that are gone have left on a network; only says what, without --yes
    Gc(gc::Gc),
    /// Ask the plugins whether they could attach a container now
    Status(status::Status),
}

pub fn run(exec: Exec, context: &Context) -> Result<Exit, Failure> {
    match exec.verb {
        Verb::Add(add) => add::run(&add, context),
        Verb::Del(del) => del::run(&del, context),
        Verb::Check(check) => check::run(&check, context),
        Verb::Gc(gc) => gc::run(&gc, context),
        Verb::Status(status) => status::run(&status, context),
    }
}

/// The network called `name`. What is wrong with other files is only a warning.
fn network(context: &Context, name: &str) -> Result<NetworkList, Failure> {
    let dir = &context.paths.conf_dir;
    let directory = Directory::read(dir)
        .map_err(|err| anyhow::Error::new(err).context(format!("read {}", dir.display())))?;
    for broken in &directory.broken {
        warn(context, broken);
    }
    directory.network(name).cloned().map_err(|err| Failure::Usage(err.to_string()))
}

fn warn(context: &Context, what: &dyn std::fmt::Display) {
    let _ = writeln!(stderr(), "{} {what}", context.style.warning());
}

/// Runs `work` with a runtime that reports its steps. An error goes to standard output as the protocol writes it, and to standard
/// error unless a step has said it.
fn with_runtime<T>(
    context: &Context,
    list: &NetworkList,
    work: impl FnOnce(&mut Runtime<'_>) -> Result<T, Error>,
) -> Option<T> {
    let mut progress = Progress::new(context.style, context.quiet, list);
    let mut report = |event: Event<'_>| {
        if let Event::Calling { program, environment, stdin } = event {
            context.show_commands(|| vec![commands::plugin(program, environment, stdin)]);
        }
        progress.report(&event);
    };
    let mut runtime = Runtime {
        path: context.paths.plugins.clone(),
        cache: Cache::new(&context.paths.results),
        report: &mut report,
    };
    match work(&mut runtime) {
        Ok(done) => Some(done),
        Err(err) => {
            if !progress.has_told_failure() {
                let _ = writeln!(stderr(), "{} {err}", context.style.bad());
            }
            print(&Stated::from(&err));
            None
        }
    }
}

/// As libcni prints.
fn print(value: &impl Serialize) {
    // Strings and numbers only.
    output::write(&gojson::indented(value).unwrap_or_default());
}

/// An error as the protocol writes it.
#[derive(Serialize)]
struct Stated<'a> {
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

impl<'a> From<&'a Error> for Stated<'a> {
    fn from(err: &'a Error) -> Self {
        let Error { code, msg, details } = err;
        Self { code: (*code).into(), msg, details }
    }
}

const AFTER_HELP: &str = "\
Environment, as for cnitool:
  NETCONFPATH  directory of network configurations (/etc/cni/net.d)
  CNI_PATH     directories of plugins (/opt/cni/bin)
  CNI_ARGS     KEY=VALUE;... for all plugins
  CAP_ARGS     JSON object of capability arguments, such as {\"portMappings\":[...]}
  CNI_IFNAME   name of the interface in the container (eth0)

Example:
  netctl exec status mynet    ask the plugins of mynet whether they are ready";
