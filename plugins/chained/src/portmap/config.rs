//! The configuration of `portmap`, raw and checked.

use std::net::IpAddr;

use attach::ruleset::condition::Condition;
use cni::{error::Error, request::Request};
use serde::Deserialize;

use super::conditions::{self, Family};

/// The configuration as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NetConf {
    backend: String,
    snat: Option<bool>,
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    #[serde(rename = "conditionsV4")]
    conditions_v4: Vec<String>,
    #[serde(rename = "conditionsV6")]
    conditions_v6: Vec<String>,
    runtime_config: RuntimeConf,
}

/// `runtimeConfig`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct RuntimeConf {
    port_mappings: Vec<MappingConf>,
}

/// One of `runtimeConfig.portMappings`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct MappingConf {
    host_port: i64,
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

/// The configuration, checked.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) back: Back,
    pub(super) conditions_v4: Vec<Condition>,
    pub(super) conditions_v6: Vec<Condition>,
    pub(super) mappings: Vec<Mapping>,
}

/// For whom answers are led through the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
pub(super) enum Back {
    Nobody,
    Local,
    Everybody,
}

/// One published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Where it stands in `portMappings`, for errors.
    pub(super) index: usize,
    /// IP protocol number.
    pub(super) protocol: u8,
    pub(super) host: Host,
    pub(super) host_port: u16,
    pub(super) container_port: u16,
}

/// On which addresses of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    All,
    /// The unspecified address for all of its IP version.
    One(IpAddr),
}

impl Config {
    pub(super) fn new(request: &Request) -> Result<Self, Error> {
        let NetConf {
            backend,
            snat,
            masq_all,
            mark_masq_bit,
            external_set_mark_chain,
            conditions_v4,
            conditions_v6,
            runtime_config: RuntimeConf { port_mappings },
        } = request.decode()?;
        // Both of the reference's backends do the same; here nf_tables does it for either, beside rules of the other.
        if !["", "iptables", "nftables"].contains(&backend.as_str()) {
            let why = "is neither \"iptables\" nor \"nftables\"";
            return Err(Error::invalid_config("backend", format!("{backend:?}"), why));
        }
        check_marks(mark_masq_bit, external_set_mark_chain.as_deref())?;
        let back = match (snat.unwrap_or(true), masq_all) {
            (false, _) => Back::Nobody,
            (true, false) => Back::Local,
            (true, true) => Back::Everybody,
        };
        let mut mappings = Vec::new();
        for (index, mapping) in port_mappings.into_iter().enumerate() {
            let mapping = mapping.check(index)?;
            check_unlike(&mappings, &mapping)?;
            mappings.push(mapping);
        }
        Ok(Self {
            back,
            conditions_v4: conditions::parse(Family::V4, &conditions_v4)?,
            conditions_v6: conditions::parse(Family::V6, &conditions_v6)?,
            mappings,
        })
    }
}

/// No mark is needed here, so that these can't get into anybody's way; a configuration that the reference refuses is
/// refused.
fn check_marks(bit: Option<i64>, chain: Option<&str>) -> Result<(), Error> {
    if let (Some(bit), Some(_)) = (bit, chain) {
        return Err(Error::invalid_config("markMasqBit", bit, "can't be with externalSetMarkChain"));
    }
    match bit {
        Some(bit) if !(0..=31).contains(&bit) => {
            Err(Error::invalid_config("markMasqBit", bit, "is not between 0 and 31"))
        }
        _ => Ok(()),
    }
}

/// The same port twice must lead to the same place.
fn check_unlike(mappings: &[Mapping], new: &Mapping) -> Result<(), Error> {
    let key = |mapping: &Mapping| (mapping.protocol, mapping.host, mapping.host_port);
    match mappings.iter().find(|old| key(old) == key(new) && old.container_port != new.container_port) {
        None => Ok(()),
        Some(old) => {
            let why = format!("is published to container port {} already", old.container_port);
            Err(Error::invalid_config(&new.field("hostPort"), new.host_port, why))
        }
    }
}

impl Mapping {
    /// The path of one of its fields.
    pub(super) fn field(&self, name: &str) -> String {
        path(self.index, name)
    }
}

impl MappingConf {
    fn check(self, index: usize) -> Result<Mapping, Error> {
        let Self { host_port, container_port, protocol, host_ip } = self;
        let field = |name: &str| path(index, name);
        let port = |name: &str, value: i64| match u16::try_from(value) {
            Ok(port @ 1..) => Ok(port),
            _ => Err(Error::invalid_config(&field(name), value, "is not a port, 1 to 65535")),
        };
        let host = match host_ip.as_str() {
            "" => Host::All,
            text => {
                Host::One(text.parse::<IpAddr>().map(|address| address.to_canonical()).map_err(|_| {
                    Error::invalid_config(&field("hostIP"), format!("{host_ip:?}"), "is not an IP address")
                })?)
            }
        };
        if matches!(host, Host::One(IpAddr::V6(address)) if address.is_loopback()) {
            let why = "can't be published: the kernel lets nothing out that was sent from ::1";
            return Err(Error::invalid_config(&field("hostIP"), format!("{host_ip:?}"), why));
        }
        let number = match protocol.to_ascii_lowercase().as_str() {
            "" | "tcp" => TCP,
            "udp" => UDP,
            "sctp" => SCTP,
            _ => {
                let why = "is none of tcp, udp, sctp";
                return Err(Error::invalid_config(&field("protocol"), format!("{protocol:?}"), why));
            }
        };
        Ok(Mapping {
            index,
            protocol: number,
            host,
            host_port: port("hostPort", host_port)?,
            container_port: port("containerPort", container_port)?,
        })
    }
}

fn path(index: usize, name: &str) -> String {
    format!("runtimeConfig.portMappings[{index}].{name}")
}

/// The name of a protocol that ports can be published of.
pub(super) fn protocol_name(number: u8) -> &'static str {
    match number {
        TCP => "tcp",
        UDP => "udp",
        _ => "sctp",
    }
}

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;

#[cfg(test)]
mod tests;
