//! The configuration of `firewall`, raw and checked.

use cni::{error::Error, names::IfName, request::Request};
use serde::{Deserialize, Serialize};

/// The configuration as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NetConf {
    backend: String,
    iptables_admin_chain_name: String,
    firewalld_zone: String,
    ingress_policy: Option<IngressPolicy>,
    ingress_from: Vec<IfName>,
    internal: bool,
}

/// Who may open connections to the network's containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum IngressPolicy {
    /// Everybody.
    #[default]
    Open,
    /// Containers on the same bridge.
    SameBridge,
    /// Nobody.
    Isolated,
}

/// The configuration, checked.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) admin_chain: String,
    pub(super) zone: String,
    pub(super) policy: IngressPolicy,
    /// Interfaces of the host by which connections may come besides.
    pub(super) from: Vec<String>,
    pub(super) internal: bool,
}

impl Config {
    pub(super) fn new(request: &Request) -> Result<Self, Error> {
        let NetConf {
            backend,
            iptables_admin_chain_name,
            firewalld_zone,
            ingress_policy,
            ingress_from,
            internal,
        } = request.decode()?;
        if !["", "iptables", "firewalld", "nftables"].contains(&backend.as_str()) {
            let why = "is none of \"iptables\", \"firewalld\", \"nftables\"";
            return Err(Error::invalid_config("backend", format!("{backend:?}"), why));
        }
        let or = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
        let admin_chain = or(iptables_admin_chain_name, "CNI-ADMIN");
        // As iptables has it (XT_EXTENSION_MAXNAMELEN).
        if admin_chain.len() > 28 || !admin_chain.bytes().all(|byte| byte.is_ascii_graphic()) {
            let why = "is not a chain's name";
            return Err(Error::invalid_config("iptablesAdminChainName", format!("{admin_chain:?}"), why));
        }
        Ok(Self {
            admin_chain,
            zone: or(firewalld_zone, "trusted"),
            policy: ingress_policy.unwrap_or_default(),
            from: ingress_from.iter().map(ToString::to_string).collect(),
            internal,
        })
    }
}
