//! `netctl exec add`.

use clap::Args;
use cni::{names::NetnsPath, version::Version};
use serde_json::Value;

use super::{attach::AttachArgs, network, with_runtime};
use crate::{
    exit::{Exit, Failure},
    gojson, netns, output,
    runtime::PluginResult,
    verb::Context,
};

/// Attaches a container to a network: ADD of each plugin. Prints the result as cnitool does, and keeps it in libcni's
/// cache. When a plugin fails, the whole list gets a DEL: nothing is left.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Add {
    #[command(flatten)]
    attach: AttachArgs,
}

pub(super) fn run(add: &Add, context: &Context) -> Result<Exit, Failure> {
    let list = network(context, &add.attach.network)?;
    let attach = add.attach.new_attach(&list.name)?;
    if let Some(netns) = &attach.netns
        && let Some(why) = netns::gone(NetnsPath::as_ref(netns))
    {
        return Err(Failure::Usage(format!("{netns}: {why}")));
    }
    let Some(result) = with_runtime(context, &list, |runtime| runtime.add(&list, &attach)) else {
        return Ok(Exit::Finding);
    };
    output::write(&as_printed(&result));
    Ok(Exit::Fine)
}

/// libcni writes results from 1.0.0 on with sorted keys, older ones in the order of its structs.
fn as_printed(result: &PluginResult) -> String {
    let version =
        result.json.get("cniVersion").and_then(Value::as_str).and_then(|version| version.parse().ok());
    let older = version.filter(|version| *version < Version::V1_0_0);
    let in_order = older.and_then(|version| gojson::indented(&result.result.encode(version).ok()?).ok());
    // What its version can't say is shown as the plugin said it; a JSON value is always JSON.
    in_order.or_else(|| gojson::indented(&result.json).ok()).unwrap_or_default()
}

const AFTER_HELP: &str = "\
Example:
  netctl exec add mynet netns:blue --ifname eth1";
