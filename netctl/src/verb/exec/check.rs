//! `netctl exec check`.

use clap::Args;

use super::{attach::AttachArgs, network, with_runtime};
use crate::{
    exit::{Exit, Failure},
    verb::Context,
};

/// Asks the plugins whether an attachment is as they made it: CHECK of each plugin with the result from libcni's cache.
/// Nothing is asked where the list says disableCheck.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Check {
    #[command(flatten)]
    attach: AttachArgs,
}

pub(super) fn run(check: &Check, context: &Context) -> Result<Exit, Failure> {
    let list = network(context, &check.attach.network)?;
    let (attach, _) = check.attach.existing_attach(&list.name, context)?;
    let done = with_runtime(context, &list, |runtime| runtime.check(&list, &attach));
    Ok(if done.is_some() { Exit::Fine } else { Exit::Finding })
}

const AFTER_HELP: &str = "\
Example:
  netctl exec check mynet netns:blue --ifname eth1";
