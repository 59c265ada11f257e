//! The command line's words for one attachment, shared by add, del and check.

use std::env;

use clap::Args;
use cni::names::{Attachment, ContainerId, IfName, NetnsPath, NetworkName};
use serde_json::{Map, Value};

use crate::{
    cache::{Cache, Entry},
    exit::Failure,
    runtime::Attach,
    target::{self, Selector},
    verb::Context,
};

#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// The network's name in its configuration
    pub(super) network: String,
    /// The container: netns:PATH, netns:NAME (of `ip netns`), pid:N, or, once it is attached, id:PREFIX; a path or
    /// name alone will do
    target: Selector,
    /// Name of the interface in the container [env: CNI_IFNAME] [default: eth0]
    #[arg(short, long, value_name = "NAME")]
    ifname: Option<IfName>,
    /// The container's id; cnitool's hash of the namespace's path where it is not said
    #[arg(long, value_name = "ID")]
    container_id: Option<ContainerId>,
    /// Arguments for all plugins [env: CNI_ARGS]
    #[arg(long, value_name = "KEY=VALUE;...")]
    args: Option<String>,
    /// Arguments by capability, for the plugins that declare it [env: CAP_ARGS]
    #[arg(long, value_name = "JSON")]
    capability_args: Option<String>,
}

impl AttachArgs {
    /// An attachment that need not exist: the container is named by its namespace.
    pub(super) fn new_attach(&self, network: &NetworkName) -> Result<Attach, Failure> {
        let netns = self.target.netns().map_err(|err| Failure::CouldNotRun(err.into()))?;
        let container = match (&self.container_id, &netns) {
            (Some(id), _) => id.clone(),
            (None, Some(netns)) => {
                target::container_id(netns).map_err(|err| Failure::CouldNotRun(err.into()))?
            }
            (None, None) => {
                return Err(Failure::Usage("a container id names no namespace: say netns:".to_owned()));
            }
        };
        let netns = netns.map(|netns| NetnsPath::new(netns.to_string_lossy()));
        self.attach_of(Attachment { network: network.clone(), container, ifname: self.ifname()? }, netns)
    }

    /// An attachment that was made before, perhaps by another runtime under an id of its own, with its cache entry. Where the cache
    /// knows none it is the one that cnitool would have made: DEL must work without a cache.
    pub(super) fn existing_attach(
        &self,
        network: &NetworkName,
        context: &Context,
    ) -> Result<(Attach, Option<Entry>), Failure> {
        if self.container_id.is_some() {
            return Ok((self.new_attach(network)?, None));
        }
        let listing = Cache::new(&context.paths.results).list().map_err(anyhow::Error::new)?;
        let found = self.target.attachments(&listing.entries, network, &self.ifname()?);
        match found.map_err(anyhow::Error::new)?.as_slice() {
            [] if matches!(self.target, Selector::Id(_)) => {
                let dir = context.paths.results.display();
                Err(Failure::Usage(format!("no such container on network {network} in {dir}")))
            }
            [] => Ok((self.new_attach(network)?, None)),
            [entry] => {
                let netns = entry.namespace().map(NetnsPath::new);
                Ok((self.attach_of(entry.attachment.clone(), netns)?, Some((*entry).clone())))
            }
            several => {
                // An attachment of ours is meant before one that another runtime made for the same namespace.
                let own = self.new_attach(network).ok();
                if let Some(own) = own
                    && let Some(entry) = several.iter().find(|entry| entry.attachment == own.attachment)
                {
                    return Ok((own, Some((*entry).clone())));
                }
                let ids: Vec<_> = several.iter().map(|entry| entry.attachment.container.as_str()).collect();
                Err(Failure::Usage(format!("several containers on network {network}: {}", ids.join(", "))))
            }
        }
    }

    fn ifname(&self) -> Result<IfName, Failure> {
        if let Some(ifname) = &self.ifname {
            return Ok(ifname.clone());
        }
        let ifname = said("CNI_IFNAME").unwrap_or_else(|| "eth0".to_owned());
        ifname.parse().map_err(|why| Failure::Usage(format!("CNI_IFNAME: {ifname:?} {why}")))
    }

    fn attach_of(&self, attachment: Attachment, netns: Option<NetnsPath>) -> Result<Attach, Failure> {
        let args = given("--args", self.args.as_ref(), "CNI_ARGS");
        let capability_args = given("--capability-args", self.capability_args.as_ref(), "CAP_ARGS");
        Ok(Attach {
            attachment,
            netns,
            args: args.map(|(from, args)| pairs(from, &args)).transpose()?,
            capability_args: capability_args.map(|(from, args)| object(from, &args)).transpose()?,
        })
    }
}

/// The flag's value, else the variable's, with the name of what it comes from.
fn given(
    flag: &'static str,
    value: Option<&String>,
    variable: &'static str,
) -> Option<(&'static str, String)> {
    value.map(|value| (flag, value.clone())).or_else(|| Some((variable, said(variable)?)))
}

fn said(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|value| !value.is_empty())
}

/// `KEY=VALUE;...`, no part empty, as cnitool demands.
fn pairs(from: &str, text: &str) -> Result<Vec<(String, String)>, Failure> {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() && !value.contains('=') => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(Failure::Usage(format!("{from}: {pair:?} is not KEY=VALUE"))),
    };
    text.split(';').map(pair).collect()
}

fn object(from: &str, text: &str) -> Result<Map<String, Value>, Failure> {
    serde_json::from_str(text).map_err(|err| Failure::Usage(format!("{from}: {err}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_plugins() {
        #[track_caller]
        fn check(text: &str, expected: Option<&[(&str, &str)]>) {
            let expected =
                expected.map(|pairs| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
            assert_eq!(pairs("--args", text).ok(), expected, "{text:?}");
        }
        check("IP=10.0.0.1;MAC=02:00:00:00:00:01", Some(&[("IP", "10.0.0.1"), ("MAC", "02:00:00:00:00:01")]));
        for bad in ["", "IP", "IP=", "=1", "A=1;", "A=b=c"] {
            check(bad, None);
        }
        assert!(object("--capability-args", r#"{"mac": "02:00:00:00:00:01"}"#).is_ok());
        assert!(object("--capability-args", "[]").is_err());
    }
}
