//! `netctl exec del`.

use clap::Args;

use super::{attach::AttachArgs, network, warn, with_runtime};
use crate::{
    cache::Cache,
    conf::{self, NetworkList},
    exit::{Exit, Failure},
    runtime::Attach,
    verb::Context,
};

/// Detaches a container from a network: DEL of each plugin, in reverse order, with the result from libcni's cache. The
/// container may be gone, and the call repeated. Where the network's configuration is gone, the cached one is taken.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Del {
    #[command(flatten)]
    attach: AttachArgs,
}

pub(super) fn run(del: &Del, context: &Context) -> Result<Exit, Failure> {
    let (list, attach) = match network(context, &del.attach.network) {
        Ok(list) => {
            let (attach, _) = del.attach.existing_attach(&list.name, context)?;
            (list, attach)
        }
        Err(failure) => remembered(del, context).ok_or(failure)?,
    };
    let done = with_runtime(context, &list, |runtime| runtime.del(&list, &attach));
    Ok(if done.is_some() { Exit::Fine } else { Exit::Finding })
}

/// The configuration that the attachment was made with, from the cache, where the network's own is gone.
fn remembered(del: &Del, context: &Context) -> Option<(NetworkList, Attach)> {
    let name = del.attach.network.parse().ok()?;
    let (attach, entry) = del.attach.existing_attach(&name, context).ok()?;
    let cache = Cache::new(&context.paths.results);
    let entry = entry.or_else(|| cache.entry(&attach.attachment).ok()?)?;
    let list = conf::list(&cache.file(&entry.attachment), &entry.config, &context.paths.conf_dir).ok()?;
    let dir = context.paths.conf_dir.display();
    warn(context, &format_args!("no network {name} in {dir} any more: taking the configuration of its ADD"));
    Some((list, attach))
}

const AFTER_HELP: &str = "\
Example:
  netctl exec del mynet netns:blue --ifname eth1";
