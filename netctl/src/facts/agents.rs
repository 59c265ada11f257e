//! The networks of many hosts on this one, and whether the agent that keeps them answers.

use std::{fs, path::Path};

use cni::names::NetworkName;
use overlay::{
    agent::request::Request,
    client::{self, SOCKET},
    config::{FILE, RUN},
    machine::report::Status,
    state::{self, LocalState},
};

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
