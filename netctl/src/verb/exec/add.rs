//! `netctl exec add`.

use clap::Args;
use cni::{error::Error, names::NetnsPath, version::Version};
use serde_json::Value;

use super::{attach::AttachArgs, network, print, with_runtime};
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
    match as_printed(&result) {
        Ok(text) => output::write(&text),
        Err(err) => print(&super::Stated::from(&err)),
    }
    Ok(Exit::Fine)
}

/// libcni writes results from 1.0.0 on with sorted keys, older ones in the order of its structs.
fn as_printed(result: &PluginResult) -> Result<String, Error> {
    let version =
        result.json.get("cniVersion").and_then(Value::as_str).and_then(|version| version.parse().ok());
    let text = match version {
        Some(version) if version < Version::V1_0_0 => gojson::indented(&result.result.encode(version)?),
        _ => gojson::indented(&result.json),
    };
    text.map_err(|err| Error::new(cni::error::Code::Decode, err.to_string()))
}

const AFTER_HELP: &str = "\
Example:
  netctl exec add mynet netns:blue --ifname eth1";
