//! All that is known of a node, for a ticket. Knows no command line; what is secret is for [`redact`], how it is packed for [`archive`].

use std::process::Command;

use nix::sys::utsname::uname;
use serde_json::{Value, json};

use crate::{
    doctor::examine,
    facts::Facts,
    verb::{ipam, ps},
};

pub mod archive;
pub mod redact;

pub fn whole(facts: &Facts) -> Value {
    let findings: Vec<_> = examine(facts).iter().map(|found| found.json(&facts.node)).collect();
    let networks: Vec<_> = facts
        .networks
        .iter()
        .map(|network| {
            let plugins: Vec<_> =
                network.list.plugins.iter().map(|plugin| Value::Object(plugin.config.clone())).collect();
            json!({"name": network.list.name.as_str(), "file": network.list.file, "plugins": plugins,
            "leases": network.leases.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>()})
        })
        .collect();
    let results: Vec<_> = facts.attachments.iter().map(|it| {
        json!({"attachment": it.key.to_string(), "result": it.entry.as_ref().and_then(|entry| entry.result.clone())})
    }).collect();
    let spaces: Vec<_> = facts.spaces.iter().map(|space| {
        let links: Vec<_> = space.links.iter().map(|link| {
            let addresses: Vec<_> = space.addresses_of(link).iter().map(ToString::to_string).collect();
            json!({"name": link.name, "up": link.is_up(), "mtu": link.mtu, "addresses": addresses})
        }).collect();
        let routes: Vec<_> = space.routes.iter().map(|route| {
            let device = route.dev.and_then(|dev| space.link_at(dev)).map(|link| link.name.clone());
            json!({"dst": route.dst.to_string(), "gateway": route.gateway.map(|it| it.to_string()), "device": device})
        }).collect();
        json!({"name": space.place.name, "links": links, "routes": routes})
    }).collect();
    json!({
        "node": facts.node, "netctl": env!("CARGO_PKG_VERSION"), "kernel": kernel(),
        "attachments": ps::rows(facts).iter().map(ps::Row::json).collect::<Vec<_>>(),
        "networks": networks, "leases": ipam::check(facts).items, "results": results, "findings": findings, "namespaces": spaces,
        "tunnels": facts.reports, "notLookedAt": facts.blind, "ruleset": ruleset(),
    })
}

fn kernel() -> Value {
    uname().map_or(Value::Null, |name| {
        json!({"release": name.release().to_string_lossy(), "machine": name.machine().to_string_lossy()})
    })
}

/// As nft prints it; null without nft.
fn ruleset() -> Value {
    let said = Command::new("nft").args(["-s", "list", "ruleset"]).output();
    said.ok()
        .filter(|said| said.status.success())
        .map_or(Value::Null, |said| String::from_utf8_lossy(&said.stdout).lines().collect::<Vec<_>>().into())
}
