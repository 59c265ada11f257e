//! `netctl exec gc`.

use clap::Args;
use cni::{error::Error, version::Version};
use serde_json::{Value, json};

use super::{network, warn, with_runtime};
use crate::{
    cache::{Cache, Entry},
    conf::NetworkList,
    exit::{Exit, Failure},
    netns,
    output::{self, Format},
    runtime::gc::Plan,
    verb::Context,
};

/// Removes what containers that are gone have left on a network: DEL of each attachment in libcni's cache whose namespace
/// is gone, then GC of each plugin with the attachments that live.
///
/// Without --yes it only says what it would remove. An attachment whose namespace nobody noted stays.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Gc {
    /// The network's name in its configuration
    network: String,
    /// Not used: cnitool wants one
    #[arg(hide = true)]
    target: Option<String>,
    /// Remove
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(gc: &Gc, context: &Context) -> Result<Exit, Failure> {
    let list = network(context, &gc.network)?;
    let listing = Cache::new(&context.paths.results).list().map_err(anyhow::Error::new)?;
    for unreadable in &listing.unreadable {
        warn(context, unreadable);
    }
    if gc.yes && !listing.unreadable.is_empty() {
        // Their attachments may live, and the plugins would be told to remove them.
        return Err(Failure::CouldNotRun(anyhow::anyhow!(
            "nothing removed: not all of the cache could be read"
        )));
    }
    let plan = Plan::new(&list, listing.entries, netns::gone);
    if !gc.yes && !list.disable_gc {
        output::write(&shown(&plan, "would remove", context.layout.format));
        foretell(&list, &plan, context);
        return Ok(Exit::Fine);
    }
    let done =
        with_runtime(context, &list, |runtime| runtime.gc(&list, &plan).map_err(|errors| together(&errors)));
    if done.is_none() {
        return Ok(Exit::Finding);
    }
    if !list.disable_gc {
        output::write(&shown(&plan, "removed", context.layout.format));
    }
    Ok(Exit::Fine)
}

/// What the cache does not show: the plugins remove by their own books.
fn foretell(list: &NetworkList, plan: &Plan, context: &Context) {
    if list.version < Version::V1_1_0 {
        return;
    }
    let kept = plan.keep.len();
    let why = format!(
        "the plugins would then remove what they have of network {} besides the {kept} that stay; --yes does it",
        list.name
    );
    warn(context, &why);
}

/// One error for all: the first one's code, a line each.
fn together(errors: &[Error]) -> Error {
    let code = errors.first().map_or(cni::error::Code::Internal, |err| err.code);
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    Error::new(code, texts.join("; "))
}

fn shown(plan: &Plan, act: &str, format: Format) -> String {
    let Plan { keep, remove } = plan;
    match format {
        Format::Json => format!("{}\n", document(plan)),
        Format::Yaml => output::yaml(&document(plan)),
        Format::Csv => {
            let row = |action: &str, entry: &Entry| vec![action.to_owned(), name(entry)];
            let head = vec!["ACTION".to_owned(), "ATTACHMENT".to_owned()];
            let removed = remove.iter().map(|(entry, _)| row("remove", entry));
            let kept = keep.iter().map(|entry| row("keep", entry));
            output::csv(&[head].into_iter().chain(removed).chain(kept).collect::<Vec<_>>())
        }
        Format::Name => remove.iter().map(|(entry, _)| format!("{}\n", name(entry))).collect(),
        Format::Table | Format::Wide => {
            let gone: Vec<_> = remove.iter().map(|(entry, why)| format!("{} ({why})", name(entry))).collect();
            let list = if gone.is_empty() { String::new() } else { format!(": {}", gone.join(", ")) };
            let all = keep.len() + remove.len();
            format!("{act} {} of {all} attachments{list}\n", remove.len())
        }
    }
}

fn document(plan: &Plan) -> Value {
    let item = |entry: &Entry, action: &str, reason: Option<String>| {
        json!({
            "network": entry.attachment.network, "container": entry.attachment.container,
            "ifname": entry.attachment.ifname, "netns": entry.namespace(), "action": action, "reason": reason,
        })
    };
    let removed = plan.remove.iter().map(|(entry, why)| item(entry, "remove", Some(why.to_string())));
    let kept = plan.keep.iter().map(|entry| item(entry, "keep", None));
    output::document("GcPlan", removed.chain(kept).collect())
}

/// The attachment as its cache file is called.
fn name(entry: &Entry) -> String {
    let attachment = &entry.attachment;
    format!("{}-{}-{}", attachment.network, attachment.container, attachment.ifname)
}

const AFTER_HELP: &str = "\
Example:
  netctl exec gc mynet          what would go
  netctl exec gc mynet --yes";
