//! The overlay plugin's configuration: `NetConf` as it is written, `Config` as it was understood, and the request to the
//! address plugin that follows from where this host stands.

use std::path::Path;

use attach::{
    hardware::{End, MacSources, derived_mac},
    ruleset::masquerade::check_backend,
};
use cni::{
    decode::field,
    error::{Code, Error},
    names::{Attachment, IfName, NetworkName},
    request::Request,
    result::Dns,
};
use kernel::mac::MacAddr;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    config::RUN,
    keeper,
    state::{LocalState, Standing},
};

/// Every key of the configuration that the plugin reads, as it is written.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetConf {
    /// The network of the agent; the configuration's `name` by default.
    pub network: String,
    /// The bridge; `ovb<vni>` by default.
    pub bridge: String,
    pub is_default_gateway: bool,
    pub ip_masq: bool,
    pub ip_masq_backend: String,
    pub hairpin_mode: bool,
    pub port_isolation: bool,
    pub ipam: Ipam,
    pub dns: Dns,
    pub args: Args,
    pub runtime_config: MacOnly,
}

/// `ipam`: the ranges are the host's own subnets, so that only where leases are kept is left to say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Ipam {
    #[serde(rename = "type")]
    pub kind: String,
}

/// `args`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Args {
    pub cni: MacOnly,
}

/// `args.cni` and `runtimeConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MacOnly {
    pub mac: String,
}

impl Default for NetConf {
    fn default() -> Self {
        Self {
            network: String::new(),
            bridge: String::new(),
            is_default_gateway: true,
            ip_masq: false,
            ip_masq_backend: String::new(),
            hairpin_mode: false,
            port_isolation: false,
            ipam: Ipam::default(),
            dns: Dns::default(),
            args: Args::default(),
            runtime_config: MacOnly::default(),
        }
    }
}

/// A configuration that can be carried out, as far as the text can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub network: NetworkName,
    bridge: Option<IfName>,
    pub default_gateway: bool,
    pub masquerade: bool,
    pub hairpin: bool,
    pub isolated: bool,
    pub dns: Dns,
    mac: Option<MacAddr>,
}

impl Config {
    /// Fails with code 7 naming field and value, or with code 4 for `CNI_ARGS`.
    pub fn new(request: &Request) -> Result<Self, Error> {
        let args = request.args()?;
        let conf: NetConf = request.decode()?;
        check_backend(&conf.ip_masq_backend)?;
        let NetConf { network, bridge, is_default_gateway, ip_masq, ip_masq_backend: _, .. } = conf;
        let NetConf { hairpin_mode, port_isolation, ipam, dns, args: in_config, runtime_config, .. } = conf;
        if !ipam.kind.is_empty() && ipam.kind != HOST_LOCAL {
            let why = "addresses are of this host's subnets, which host-local deals";
            return Err(Error::invalid_config("ipam.type", format!("{:?}", ipam.kind), why));
        }
        let invalid = |field: &'static str, value: String| {
            move |why| Error::invalid_config(field, format!("{value:?}"), why)
        };
        let network = match network.as_str() {
            "" => request.name.clone(),
            name => name.parse().map_err(invalid("network", network.clone()))?,
        };
        let bridge = match bridge.as_str() {
            "" => None,
            name => Some(name.parse().map_err(invalid("bridge", bridge.clone()))?),
        };
        let mac = MacSources {
            runtime: Some(&runtime_config.mac),
            args: Some(&in_config.cni.mac),
            environment: args.mac.as_deref(),
            configured: None,
        };
        Ok(Self {
            network,
            bridge,
            default_gateway: is_default_gateway,
            masquerade: ip_masq,
            hairpin: hairpin_mode,
            isolated: port_isolation,
            dns,
            mac: mac.requested()?,
        })
    }

    pub fn bridge(&self, state: &LocalState) -> Result<IfName, Error> {
        let usual = format!("ovb{}", state.vni);
        self.bridge
            .clone()
            .map_or_else(|| usual.parse().map_err(|why| Error::invalid_config("bridge", &usual, why)), Ok)
    }

    /// The container's address when none was asked for is the attachment's own.
    pub fn container_mac(&self, attachment: &Attachment) -> MacAddr {
        self.mac.unwrap_or_else(|| derived_mac(attachment, End::Container))
    }

    /// Where this host stands; fails with `code` where it may not take in containers.
    pub fn owner_state(&self, code: Code) -> anyhow::Result<LocalState> {
        let refused = |why: String| Error::new(code, format!("network {}: {why}", self.network));
        let state = keeper::local_state(Path::new(RUN), &self.network)?;
        let state = state.ok_or_else(|| {
            refused(format!("no local state in {RUN}: overlayd does not serve it, or has not yet"))
        })?;
        match &state.standing {
            Standing::Owner { .. } => Ok(state),
            Standing::Waiting { why } => Err(refused(format!("this host owns no subnet: {why}")).into()),
            Standing::Lost { why, .. } => {
                Err(refused(format!("this host lost its subnet, and takes in no containers: {why}")).into())
            }
        }
    }
}

/// The request that host-local understands. Without `state` it is good for DEL and GC, which need no ranges.
pub fn for_host_local(
    request: &Request,
    config: Option<&Config>,
    state: Option<&LocalState>,
) -> anyhow::Result<Request> {
    let mut request = request.clone();
    let mut ipam = match field(&request.config, "ipam") {
        Some(Value::Object(ipam)) => ipam.clone(),
        _ => Map::new(),
    };
    ipam.retain(|key, _| {
        !["type", "ranges", "subnet", "routes"].iter().any(|taken| key.eq_ignore_ascii_case(taken))
    });
    ipam.insert("type".into(), HOST_LOCAL.into());
    if let Some(state) = state {
        let subnets = state.standing.subnets();
        let ranges: Vec<_> = subnets.iter().map(|subnet| json!([{"subnet": subnet.to_string()}])).collect();
        ipam.insert("ranges".into(), ranges.into());
        // With a default route through the host there is no need of more.
        let routes: Vec<_> = if config.is_some_and(|config| config.default_gateway) {
            Vec::new()
        } else {
            state.pools.iter().map(|pool| json!({"dst": pool.to_string()})).collect()
        };
        ipam.insert("routes".into(), routes.into());
    }
    request.config.retain(|key, _| !key.eq_ignore_ascii_case("ipam"));
    request.config.insert("ipam".into(), ipam.into());
    request.stdin = serde_json::to_vec(&request.config)?;
    Ok(request)
}

const HOST_LOCAL: &str = "host-local";
