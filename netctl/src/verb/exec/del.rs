//! `netctl exec del`.

use clap::Args;

use super::{attach::AttachArgs, network, with_runtime};
use crate::{
    exit::{Exit, Failure},
    verb::Context,
};

/// Detaches a container from a network: DEL of each plugin, in reverse order, with the result from libcni's cache. The
/// container may be gone, and the call repeated.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Del {
    #[command(flatten)]
    attach: AttachArgs,
}

pub(super) fn run(del: &Del, context: &Context) -> Result<Exit, Failure> {
    let list = network(context, &del.attach.network)?;
    let attach = del.attach.attach(&list.name)?;
    let done = with_runtime(context, &list, |runtime| runtime.del(&list, &attach));
    Ok(if done.is_some() { Exit::Fine } else { Exit::Finding })
}

const AFTER_HELP: &str = "\
Example:
  netctl exec del mynet netns:blue --ifname eth1";
