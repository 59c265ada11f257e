//! What all hosts of a network must agree on. Knows no host.

use cni::names::NetworkName;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{
    family::{self, Family},
    names::{Mtu, Port, Vni},
};

/// A network, the same on each of its hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawDefinition", into = "RawDefinition")]
pub struct Definition {
    pub name: NetworkName,
    /// Without one, [`Vni::derived`] from the name.
    pub vni: Vni,
    pub port: Port,
    /// Which IP carries the tunnels. What they carry is up to `pools`.
    pub underlay: Family,
    /// Less than what fits, for links on the way that are narrower than the hosts' own.
    pub mtu: Option<Mtu>,
    /// Where hosts' subnets come from; disjoint, at least one.
    pub pools: Vec<Pool>,
    /// Peers on the underlay's own link are reached by plain routes. Needs an underlay that lets through packets from and to
    /// container addresses, which clouds don't.
    pub direct: bool,
    /// Part of every derived MAC address.
    pub cluster: String,
}

/// Addresses of the network, dealt to hosts by the subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    pub network: IpNetwork,
    /// The prefix length of a host's subnet, where a directory deals them.
    pub host: u8,
}

/// A definition as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDefinition {
    pub name: NetworkName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<Port>,
    #[serde(default)]
    pub underlay: Family,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    pub pools: Vec<RawPool>,
    #[serde(default)]
    pub direct: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// `"10.244.0.0/16"`, or with a prefix length for hosts of one's own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawPool {
    Network(IpNetwork),
    Pool(Pool),
}

/// Why a definition can't be used. Each names the field and the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    #[error("pools: a network needs at least one")]
    NoPool,
    #[error("pools: {0} has bits set behind its prefix")]
    HostBits(IpNetwork),
    #[error("pools: {0} and {1} overlap")]
    Overlap(IpNetwork, IpNetwork),
    #[error("pools: {network} can't be dealt in subnets of /{host}")]
    HostPrefix { network: IpNetwork, host: u8 },
    #[error("mtu: {0} is less than the 1280 that IPv6 needs (RFC 8200, section 5)")]
    TooSmallForV6(Mtu),
}

impl Definition {
    /// The name of the device on every host.
    pub fn device(&self) -> String {
        self.vni.device()
    }

    /// Whether `subnet` lies in one of the pools.
    pub fn holds(&self, subnet: IpNetwork) -> bool {
        self.pools.iter().any(|pool| family::contains(pool.network, subnet))
    }
}

impl Pool {
    /// A pool dealt as is usual: /24 of IPv4 and /64 of IPv6, or the whole where it is no larger.
    pub fn usual(network: IpNetwork) -> Self {
        let usual = match Family::of_network(network) {
            Family::V4 => 24,
            Family::V6 => 64,
        };
        Self { network, host: usual.max(network.prefix()) }
    }

    fn check(self) -> Result<Self, DefinitionError> {
        let Self { network, host } = self;
        if network.ip() != network.network() {
            return Err(DefinitionError::HostBits(network));
        }
        // A subnet holds its own address, a gateway and a container at least.
        if host < network.prefix() || host > Family::of_network(network).bits() - 2 {
            return Err(DefinitionError::HostPrefix { network, host });
        }
        Ok(self)
    }
}

impl TryFrom<RawDefinition> for Definition {
    type Error = DefinitionError;

    fn try_from(raw: RawDefinition) -> Result<Self, DefinitionError> {
        let RawDefinition { name, vni, port, underlay, mtu, pools, direct, cluster } = raw;
        let pools = pools.into_iter().map(|pool| Pool::from(pool).check()).collect::<Result<Vec<_>, _>>()?;
        if pools.is_empty() {
            return Err(DefinitionError::NoPool);
        }
        for (index, a) in pools.iter().enumerate() {
            if let Some(b) = pools[..index].iter().find(|b| family::overlap(a.network, b.network)) {
                return Err(DefinitionError::Overlap(b.network, a.network));
            }
        }
        if let Some(mtu) = mtu
            && u32::from(mtu) < 1280
            && pools.iter().any(|pool| pool.network.is_ipv6())
        {
            return Err(DefinitionError::TooSmallForV6(mtu));
        }
        let vni = vni.unwrap_or_else(|| Vni::derived(name.as_str()));
        let (port, cluster) = (port.unwrap_or(Port::VXLAN), cluster.unwrap_or_else(|| CLUSTER.to_owned()));
        Ok(Self { name, vni, port, underlay, mtu, pools, direct, cluster })
    }
}

impl From<RawPool> for Pool {
    fn from(raw: RawPool) -> Self {
        match raw {
            RawPool::Network(network) => Self::usual(network),
            RawPool::Pool(pool) => pool,
        }
    }
}

impl From<Definition> for RawDefinition {
    fn from(definition: Definition) -> Self {
        let Definition { name, vni, port, underlay, mtu, pools, direct, cluster } = definition;
        Self {
            name,
            vni: Some(vni),
            port: Some(port),
            underlay,
            mtu,
            pools: pools.into_iter().map(RawPool::Pool).collect(),
            direct,
            cluster: Some(cluster),
        }
    }
}

/// The default of [`Definition::cluster`].
pub const CLUSTER: &str = "tenon";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: Result<&str, &str>) {
        let found = serde_json::from_str::<Definition>(json)
            .map(|definition| serde_json::to_string(&definition).unwrap())
            .map_err(|err| err.to_string());
        match expected {
            Ok(text) => assert_eq!(found.as_deref(), Ok(text)),
            Err(text) => assert!(found.as_ref().is_err_and(|err| err.contains(text)), "{found:?}"),
        }
    }

    #[test]
    fn definitions() {
        check(
            r#"{"name":"lab","pools":["10.244.0.0/16","fd00:244::/48"]}"#,
            Ok(concat!(
                r#"{"name":"lab","vni":10821958,"port":4789,"underlay":"v4","#,
                r#""pools":[{"network":"10.244.0.0/16","host":24},{"network":"fd00:244::/48","host":64}],"#,
                r#""direct":false,"cluster":"tenon"}"#
            )),
        );
        check(r#"{"name":"lab","pools":[]}"#, Err("at least one"));
        check(r#"{"name":"lab","pools":["10.244.1.0/16"]}"#, Err("bits set"));
        check(r#"{"name":"lab","pools":["10.0.0.0/8","10.244.0.0/16"]}"#, Err("overlap"));
        check(r#"{"name":"lab","pools":[{"network":"10.244.0.0/16","host":8}]}"#, Err("/8"));
        check(r#"{"name":"lab","pools":[{"network":"10.244.0.0/16","host":31}]}"#, Err("/31"));
        check(r#"{"name":"lab","pools":["fd00::/48"],"mtu":1200}"#, Err("1280"));
        check(r#"{"name":"lab","pools":["10.0.0.0/8"],"vni":0}"#, Err("VNI 0"));
        check(r#"{"name":"lab","pools":["10.0.0.0/8"],"vin":1}"#, Err("unknown field"));
        check(r#"{"name":"../lab","pools":["10.0.0.0/8"]}"#, Err("letters"));
    }
}
