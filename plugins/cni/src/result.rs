//! The result of ADD without a version, and how each version of the specification writes it.
//!
//! Three families: 0.1.0 and 0.2.0 have one address a family in `ip4` and `ip6`; 0.3.0 to 0.4.0 have lists and
//! `ips[].version`; 1.0.0 and 1.1.0 drop that and add attributes (CNI 1.1.0, section 5, "Add Success").

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    decode::{cidr, decode, field, optional_ip},
    error::{Code, Error},
    version::Version,
};

/// What an ADD made, or what the plugin before in a chain made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddResult {
    pub interfaces: Vec<Interface>,
    pub ips: Vec<IpConfig>,
    pub routes: Vec<Route>,
    pub dns: Dns,
}

/// An interface, in the container when it has a sandbox, else on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Since 1.1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// `CNI_NETNS` to the letter; empty for an interface of the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Since 1.1.0.
    #[serde(rename = "socketPath", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// Since 1.1.0.
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpConfig {
    /// An index into `interfaces`; absent in the answer of an address plugin.
    pub interface: Option<usize>,
    /// The address with its prefix length, host bits kept.
    pub address: IpNetwork,
    pub gateway: Option<IpAddr>,
}

/// A route, the same in configurations and results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    #[serde(with = "cidr")]
    pub dst: IpNetwork,
    /// Absent: the gateway of the first address of the family, unless `scope` is link (253) or host (254).
    #[serde(default, deserialize_with = "optional_ip", skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "is_unset")]
    pub mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "is_unset")]
    pub advmss: Option<u32>,
    #[serde(default, skip_serializing_if = "is_unset")]
    pub priority: Option<u32>,
    /// 0 is `RT_TABLE_UNSPEC`, which the kernel takes for main.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// `RT_SCOPE_*` of rtnetlink(7): 0 universe, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with nothing but a destination and perhaps a gateway.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// The attributes for which the reference takes 0 for absence.
fn is_unset(attribute: &Option<u32>) -> bool {
    attribute.is_none_or(|value| value == 0)
}

/// Resolver settings, the same in configurations and results.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl AddResult {
    /// The result as `version` writes it. Fails where that version can't say it: 0.1.0 and 0.2.0 need an address.
    pub fn encode(&self, version: Version) -> Result<Encoded, Error> {
        if version < Version::V0_3_0 {
            return Ok(Encoded(Shape::Single(Single::new(self, version)?)));
        }
        Ok(Encoded(Shape::Listed(Listed::new(self, version))))
    }

    /// Reads a result: in the version that it names, else in that of the configuration around it. Fails with code 6.
    pub fn decode(value: &Value, configured: Version) -> Result<Self, Error> {
        let undecodable = |err: Error| Error::new(Code::Decode, format!("result: {}", err.msg));
        let Value::Object(object) = value else {
            return Err(Error::new(Code::Decode, format!("result: {value}: is not an object")));
        };
        let version = match field(object, "cniVersion") {
            None => configured,
            Some(Value::String(text)) if text.is_empty() => configured,
            Some(version) => decode(version).map_err(undecodable)?,
        };
        if version < Version::V0_3_0 {
            return decode::<Single>(value).map(Self::from).map_err(undecodable);
        }
        decode::<Listed>(value).map(Self::from).map_err(undecodable)
    }
}

/// A result in the words of one version, ready to be written as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Encoded(Shape);

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Shape {
    Single(Single),
    Listed(Listed),
}

/// 0.1.0 and 0.2.0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Single {
    #[serde(rename = "cniVersion")]
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<SingleIp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<SingleIp>,
    dns: Dns,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SingleIp {
    #[serde(with = "cidr")]
    ip: IpNetwork,
    #[serde(default, deserialize_with = "optional_ip", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

impl Single {
    fn new(result: &AddResult, version: Version) -> Result<Self, Error> {
        let family = |v4: bool| {
            let ip = result.ips.iter().find(|ip| ip.address.is_ipv4() == v4)?;
            let routes = result.routes.iter().filter(|route| route.dst.is_ipv4() == v4);
            let routes = routes.map(|route| Route::new(route.dst, route.gw)).collect();
            Some(SingleIp { ip: ip.address, gateway: ip.gateway, routes })
        };
        let (ip4, ip6) = (family(true), family(false));
        if ip4.is_none() && ip6.is_none() {
            let why =
                format!("CNI {version} can't express a result without an IP address; use 0.3.0 or newer");
            return Err(Error::invalid_config("cniVersion", version, why));
        }
        Ok(Self { version: version.to_string(), ip4, ip6, dns: result.dns.clone() })
    }
}

impl From<Single> for AddResult {
    fn from(single: Single) -> Self {
        let Single { version: _, ip4, ip6, dns } = single;
        let mut result = Self { dns, ..Self::default() };
        for SingleIp { ip, gateway, routes } in ip4.into_iter().chain(ip6) {
            result.ips.push(IpConfig { interface: None, address: ip, gateway });
            result.routes.extend(routes);
        }
        result
    }
}

/// 0.3.0 and newer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Listed {
    #[serde(rename = "cniVersion")]
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<ListedIp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<Dns>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ListedIp {
    /// "4" or "6", below 1.0.0 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// -1 is seen for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<i64>,
    #[serde(with = "cidr")]
    address: IpNetwork,
    #[serde(default, deserialize_with = "optional_ip", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

impl Listed {
    fn new(result: &AddResult, version: Version) -> Self {
        let AddResult { interfaces, ips, routes, dns } = result;
        let before_1 = version < Version::V1_0_0;
        let ips = ips.iter().map(|IpConfig { interface, address, gateway }| ListedIp {
            version: before_1.then(|| if address.is_ipv4() { "4".to_owned() } else { "6".to_owned() }),
            interface: interface.and_then(|index| i64::try_from(index).ok()),
            address: *address,
            gateway: *gateway,
        });
        let interfaces = interfaces.iter().cloned().map(|interface| {
            if version >= Version::V1_1_0 {
                return interface;
            }
            Interface { mtu: None, socket_path: String::new(), pci_id: String::new(), ..interface }
        });
        Self {
            version: version.to_string(),
            interfaces: interfaces.collect(),
            ips: ips.collect(),
            routes: routes.clone(),
            // The reference writes an empty object below 1.0.0, and nothing from then on.
            dns: (before_1 || !dns.is_empty()).then(|| dns.clone()),
        }
    }
}

impl From<Listed> for AddResult {
    fn from(listed: Listed) -> Self {
        let Listed { version: _, interfaces, ips, routes, dns } = listed;
        let ips = ips.into_iter().map(|ListedIp { version: _, interface, address, gateway }| IpConfig {
            interface: interface.and_then(|index| usize::try_from(index).ok()),
            address,
            gateway,
        });
        Self { interfaces, ips: ips.collect(), routes, dns: dns.unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests;
