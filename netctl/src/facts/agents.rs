//! The networks of many hosts on this one, and whether the agent that keeps them answers.

use std::{fs, path::Path};

use cni::{decode::field, names::NetworkName};
use overlay::{
    agent::request::Request,
    client::{self, SOCKET},
    config::{FILE, RUN},
    machine::report::Status,
    state::{self, LocalState},
};
use serde_json::Value;

use super::network::Network;

/// A network that an agent keeps, or kept.
#[derive(Debug)]
pub struct Kept {
    pub state: LocalState,
    /// Of the agent, if it knows of the network.
    pub status: Option<Status>,
    /// Why the agent does not answer.
    pub silent: Option<String>,
}

/// Those in the agent's directory. A host where a peers file was applied once has networks and no agent, which is fine.
pub fn all() -> Result<Vec<Kept>, String> {
    let Ok(entries) = fs::read_dir(RUN) else { return Ok(Vec::new()) };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut names: Vec<NetworkName> = files
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .filter_map(|path| path.file_stem()?.to_str()?.parse().ok())
        .collect();
    names.sort();
    let mut all = Vec::new();
    for name in names {
        let read = state::read::<LocalState>(&state::file(Path::new(RUN), &name));
        let Some(state) = read.map_err(|err| err.to_string())? else { continue };
        let (status, silent) = ask(&name);
        all.push(Kept { state, status, silent });
    }
    Ok(all)
}

/// What the configuration of an overlay leaves to the agent: a bridge that is the containers' gateway.
pub fn complete(network: &mut Network, kept: &[Kept]) {
    if network.driver != "overlay" {
        return;
    }
    let config = &network.list.plugins[0].config;
    let text = |key: &str| field(config, key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = text("network").unwrap_or_else(|| network.list.name.as_str());
    let of = kept.iter().find(|kept| kept.state.network.as_str() == name);
    let bridge = text("bridge").map(str::to_owned);
    let bridge = bridge.or_else(|| of.map(|kept| format!("ovb{}", u32::from(kept.state.vni))));
    (network.bridge, network.is_gateway) = (bridge, true);
}

fn ask(network: &NetworkName) -> (Option<Status>, Option<String>) {
    let is_wanted = Path::new(SOCKET).exists() || Path::new(FILE).exists();
    match client::ask(Path::new(SOCKET), &Request::Status { network: Some(network.clone()) }) {
        Ok(value) => {
            // Another version's answer tells nothing.
            (serde_json::from_value::<Status>(value).ok(), None)
        }
        Err(err @ client::ClientError::Unreachable { .. }) => (None, is_wanted.then(|| err.to_string())),
        Err(_) => (None, None),
    }
}
