//! The command line's words for one attachment, shared by add, del and check.

use std::env;

use clap::Args;
use cni::names::{Attachment, ContainerId, IfName, NetnsPath, NetworkName};
use serde_json::{Map, Value};

use crate::{
    exit::Failure,
    runtime::Attach,
    target::{self, Selector},
};

#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// The network's name in its configuration
    pub(super) network: String,
    /// The container's namespace: netns:PATH, netns:NAME or pid:N; a path or name of `ip netns` will do
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
    /// The attachment of the container to `network`.
    pub(super) fn attach(&self, network: &NetworkName) -> Result<Attach, Failure> {
        let netns = self.target.netns().map_err(|err| Failure::CouldNotRun(err.into()))?;
        let container = match &self.container_id {
            Some(id) => id.clone(),
            None => target::container_id(&netns).map_err(|err| Failure::CouldNotRun(err.into()))?,
        };
        let ifname = match (&self.ifname, said("CNI_IFNAME")) {
            (Some(ifname), _) => ifname.clone(),
            (None, ifname) => {
                let ifname = ifname.unwrap_or_else(|| "eth0".to_owned());
                ifname.parse().map_err(|why| Failure::Usage(format!("CNI_IFNAME: {ifname:?} {why}")))?
            }
        };
        let args =
            self.args.clone().map(|args| ("--args", args)).or_else(|| Some(("CNI_ARGS", said("CNI_ARGS")?)));
        let capabilities = self.capability_args.clone().map(|args| ("--capability-args", args));
        let capabilities = capabilities.or_else(|| Some(("CAP_ARGS", said("CAP_ARGS")?)));
        Ok(Attach {
            attachment: Attachment { network: network.clone(), container, ifname },
            netns: Some(NetnsPath::new(netns.to_string_lossy())),
            args: args.map(|(from, args)| pairs(from, &args)).transpose()?,
            capability_args: capabilities.map(|(from, args)| object(from, &args)).transpose()?,
        })
    }
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
