//! `netctl report`: all that is known of a node in one document, without its secrets.

use std::process::Command;

use clap::Args;
use nix::sys::utsname::uname;
use serde_json::{Map, Value, json};

use super::ps;
use crate::{
    commands,
    doctor::examine,
    exit::{Exit, Failure},
    facts::Facts,
    output::{self, Format},
    verb::Context,
};

/// Prints one JSON document to attach to a ticket: attachments, networks, findings, namespaces, the firewall and the kernel's tables.
/// Values of keys that look like secrets are left out.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netctl report > report.json")]
pub struct Report {}

pub fn run(_: &Report, context: &Context) -> Result<Exit, Failure> {
    let mut facts = context.facts()?;
    context.show_commands(|| {
        let networks = commands::facts::networks(&facts, &facts.networks);
        let spaces = ["ip -d addr", "ip route"].map(|it| commands::facts::everywhere(&facts, it)).concat();
        [networks, commands::facts::attachments(&facts, |_| true), spaces, commands::facts::translations()]
            .concat()
    });
    facts.try_out();
    let report = output::document("Report", vec![redact(whole(&facts))]);
    output::write(&match context.format {
        Format::Yaml => output::yaml(&report),
        _ => format!("{report}\n"),
    });
    Ok(Exit::Fine)
}

fn whole(facts: &Facts) -> Value {
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
        "networks": networks, "results": results, "findings": findings, "namespaces": spaces,
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

/// Without the values of keys that are named like secrets.
fn redact(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let kept = object.into_iter().map(|(key, value)| match is_secret(&key) {
                true => (key, "removed".into()),
                false => (key, redact(value)),
            });
            Value::Object(kept.collect::<Map<_, _>>())
        }
        Value::Array(values) => values.into_iter().map(redact).collect(),
        other => other,
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["password", "passwd", "secret", "token", "privatekey", "private_key", "credential", "apikey", "psk"]
        .iter()
        .any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_removed_at_any_depth() {
        let found = redact(json!({"a": [{"apiToken": "x", "name": "n"}], "Password": {"b": 1}, "key": "k"}));
        assert_eq!(
            found,
            json!({"a": [{"apiToken": "removed", "name": "n"}], "Password": "removed", "key": "k"})
        );
    }
}
