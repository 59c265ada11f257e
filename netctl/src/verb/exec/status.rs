//! `netctl exec status`.

use clap::Args;

use super::{network, with_runtime};
use crate::{
    exit::{Exit, Failure},
    verb::Context,
};

/// Asks the plugins whether they could attach a container now: STATUS of each plugin, or, in a list older than 1.1.0, which
/// has none, whether they are there and speak its version.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Status {
    /// The network's name in its configuration
    network: String,
    /// Not used: cnitool wants one
    #[arg(hide = true)]
    target: Option<String>,
}

pub(super) fn run(status: &Status, context: &Context) -> Result<Exit, Failure> {
    let list = network(context, &status.network)?;
    let done = with_runtime(context, &list, |runtime| runtime.status(&list));
    Ok(if done.is_some() { Exit::Fine } else { Exit::Finding })
}

const AFTER_HELP: &str = "\
Example:
  netctl exec status mynet";
