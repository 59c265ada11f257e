//! A port of the host that somebody has already: a process that listens there, or another attachment.

use std::net::{IpAddr, Ipv4Addr};

use attach::ruleset::publish::Taken;
use cni::error::Error;
use kernel::{
    listener::{self, Listener},
    netns::Netns,
    nft::Nft,
};

use super::{
    config::{Host, Mapping, protocol_name},
    state::{Published, describe, records},
};

/// Fails (code 7) when a socket of the host waits at one of the ports: it would never hear of anybody again.
pub(super) fn check_listeners(mappings: &[Mapping]) -> anyhow::Result<()> {
    let mut protocols: Vec<_> = mappings.iter().map(|mapping| mapping.protocol).collect();
    protocols.sort_unstable();
    protocols.dedup();
    for protocol in protocols {
        let listeners = listener::list(protocol)?;
        for mapping in mappings.iter().filter(|mapping| mapping.protocol == protocol) {
            let takes = |listener: &&Listener| {
                let to = |host| listener.takes(protocol, host, mapping.host_port);
                match mapping.host {
                    // Of either IP version.
                    Host::All => to(listener.address),
                    Host::One(host) => to(host),
                }
            };
            if let Some(listener) = listeners.iter().find(takes) {
                check_listener(mapping, listener)?;
            }
        }
    }
    Ok(())
}

fn check_listener(mapping: &Mapping, listener: &Listener) -> Result<(), Error> {
    let owner = match listener.process() {
        // These hold the container's own port with a socket that nobody reads, to be told when it is taken.
        Some((_, name)) if RESERVING.contains(&name.as_str()) => return Ok(()),
        Some((number, name)) => format!("{name} (process {number})"),
        None => "a socket of no process that can be seen".to_owned(),
    };
    Err(refusal(mapping, listener.address, &owner))
}

/// Takes the port from an attachment whose container is gone, which nobody will tell us any more; fails (code 7) when it
/// is there.
pub(super) fn evict_dead(nft: &mut Nft, mappings: &[Mapping], holder: &Taken) -> anyhow::Result<()> {
    if let Some(attachment) = holder.attachment() {
        let records = records(&attachment.network);
        if let Some((_, published)) = records.find::<Published>(&attachment)?
            && Netns::open(&published.netns).is_err_and(|err| err.is_missing() || err.is_not_netns())
        {
            log::warn!("{attachment}: its namespace {} is gone: taking its ports", published.netns);
            published.ruleset(&attachment).remove(nft)?;
            records.remove(&attachment)?;
            return Ok(());
        }
    }
    let is_it = |mapping: &&Mapping| {
        (mapping.protocol, mapping.host_port) == (holder.protocol, holder.host_port)
            && match mapping.host {
                Host::All => holder.host.is_unspecified(),
                Host::One(host) => host == holder.host,
            }
    };
    let Some(mapping) = mappings.iter().find(is_it) else { return Ok(()) };
    Err(refusal(mapping, holder.host, &format!("attachment {}", holder.owner)).into())
}

fn refusal(mapping: &Mapping, host: IpAddr, owner: &str) -> Error {
    let host = if host.is_unspecified() { Ipv4Addr::UNSPECIFIED.into() } else { host };
    let port = describe(host, mapping.host_port);
    let protocol = protocol_name(mapping.protocol);
    let why = format!("{protocol} port {port} is taken by {owner}");
    Error::invalid_config(&mapping.field("hostPort"), mapping.host_port, why)
}

/// Names of the programs that do so.
const RESERVING: [&str; 4] = ["conmon", "conmonrs", "podman", "rootlessport"];
