//! The bridge plugin's configuration: `NetConf` as it is written, `Config` as it was understood.

use std::collections::BTreeSet;

use attach::{gateway::Gateway, hardware::MacSources, mtu, ruleset::masquerade::check_backend};
use cni::{
    error::Error,
    names::{Attachment, IfName},
    request::Request,
    result::Dns,
};
use kernel::mac::MacAddr;
use serde::Deserialize;
use serde_json::Value;

/// Every key of the configuration that the plugin reads, as it is written. Each is described in this crate's README.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NetConf {
    pub bridge: String,
    pub is_gateway: bool,
    pub is_default_gateway: bool,
    pub force_address: bool,
    pub ip_masq: bool,
    pub ip_masq_backend: String,
    pub mtu: Value,
    pub hairpin_mode: bool,
    pub promisc_mode: Option<bool>,
    pub vlan: i64,
    pub vlan_trunk: Vec<VlanTrunk>,
    pub preserve_default_vlan: bool,
    pub macspoofchk: bool,
    pub enabledad: bool,
    pub disable_container_interface: bool,
    pub port_isolation: bool,
    pub ipam: Ipam,
    pub dns: Dns,
    pub args: Args,
    pub runtime_config: MacOnly,
}

/// An entry of `vlanTrunk`: one VLAN, or a range of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct VlanTrunk {
    pub id: Option<i64>,
    #[serde(rename = "minID")]
    pub min_id: Option<i64>,
    #[serde(rename = "maxID")]
    pub max_id: Option<i64>,
}

/// Of `ipam` the plugin itself reads only whether there is one.
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
            bridge: "cni0".into(),
            is_gateway: false,
            is_default_gateway: false,
            force_address: false,
            ip_masq: false,
            ip_masq_backend: String::new(),
            mtu: Value::Null,
            hairpin_mode: false,
            promisc_mode: None,
            vlan: 0,
            vlan_trunk: Vec::new(),
            preserve_default_vlan: false,
            macspoofchk: false,
            enabledad: false,
            disable_container_interface: false,
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
    pub bridge: IfName,
    pub gateway: Gateway,
    /// Whether an address of the bridge that is not this network's may be replaced.
    pub force_address: bool,
    pub masquerade: bool,
    pub mtu: mtu::Wish,
    pub hairpin: bool,
    /// `None` when the configuration doesn't say.
    pub promiscuous: Option<bool>,
    pub vlans: Vlans,
    pub check_mac_spoofing: bool,
    pub detect_duplicates: bool,
    pub container_interface_up: bool,
    pub isolated: bool,
    pub layer3: bool,
    pub dns: Dns,
    /// The address asked for the container's interface.
    pub mac: Option<MacAddr>,
}

/// The VLANs of the container's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Vlans {
    /// VLAN filtering is not asked for.
    None,
    /// Untagged in this VLAN.
    Access { vlan: u16, keep_default: bool },
    /// Tagged in these, in order.
    Trunk { vlans: BTreeSet<u16>, keep_default: bool },
}

impl Config {
    /// Checks the configuration of a request for an ADD or a CHECK. Fails with code 7 naming field and value, or with
    /// code 4 for `CNI_ARGS`.
    pub fn new(request: &Request) -> Result<Self, Error> {
        let args = request.args()?;
        Self::from_parts(request.decode()?, args.mac.as_deref())
    }

    /// As [`Config::new`] for a DEL, which has no business reading `CNI_ARGS`.
    pub fn without_args(request: &Request) -> Result<Self, Error> {
        Self::from_parts(request.decode()?, None)
    }

    fn from_parts(conf: NetConf, environment_mac: Option<&str>) -> Result<Self, Error> {
        let vlans = vlans(&conf)?;
        let mtu = mtu::Wish::parse(&conf.mtu)?;
        check_together(&conf)?;
        let NetConf { bridge, is_gateway, is_default_gateway, force_address, ip_masq, .. } = conf;
        let NetConf { hairpin_mode, promisc_mode, macspoofchk, enabledad, port_isolation, .. } = conf;
        let NetConf { disable_container_interface, ipam, dns, args, runtime_config, .. } = conf;
        let mac = MacSources {
            runtime: Some(&runtime_config.mac),
            args: Some(&args.cni.mac),
            environment: environment_mac,
            configured: None,
        };
        Ok(Self {
            mac: mac.requested()?,
            bridge: bridge
                .parse()
                .map_err(|why| Error::invalid_config("bridge", format!("{bridge:?}"), why))?,
            gateway: match (is_default_gateway, is_gateway) {
                (true, _) => Gateway::DefaultRouter,
                (false, true) => Gateway::Router,
                (false, false) => Gateway::None,
            },
            force_address,
            masquerade: ip_masq,
            mtu,
            hairpin: hairpin_mode,
            promiscuous: promisc_mode,
            vlans,
            check_mac_spoofing: macspoofchk,
            detect_duplicates: enabledad,
            container_interface_up: !disable_container_interface,
            isolated: port_isolation,
            layer3: !ipam.kind.is_empty(),
            dns,
        })
    }

    /// The interface on the host that has the gateway addresses where it is not the bridge: that of an access VLAN.
    pub fn vlan_gateway(&self) -> Option<String> {
        match (&self.vlans, self.gateway) {
            (Vlans::Access { vlan, .. }, Gateway::Router | Gateway::DefaultRouter) => {
                Some(format!("{}.{vlan}", self.bridge))
            }
            _ => None,
        }
    }

    /// The container's address when none was asked for is the attachment's own.
    pub fn container_mac(&self, attachment: &Attachment) -> MacAddr {
        self.mac
            .unwrap_or_else(|| attach::hardware::derived_mac(attachment, attach::hardware::End::Container))
    }
}

impl Vlans {
    /// Whether the bridge must filter VLANs.
    pub fn is_some(&self) -> bool {
        *self != Self::None
    }
}

/// What can't go together, or names something unknown.
fn check_together(conf: &NetConf) -> Result<(), Error> {
    if conf.hairpin_mode && conf.promisc_mode == Some(true) {
        return Err(Error::invalid_config("hairpinMode", true, "can't be set together with promiscMode"));
    }
    if conf.disable_container_interface && !conf.ipam.kind.is_empty() {
        let why = "an interface that stays down can't have the addresses of ipam";
        return Err(Error::invalid_config("disableContainerInterface", true, why));
    }
    check_backend(&conf.ip_masq_backend)
}

fn vlans(conf: &NetConf) -> Result<Vlans, Error> {
    let keep_default = conf.preserve_default_vlan;
    let trunk = trunk(&conf.vlan_trunk)?;
    match (conf.vlan, trunk.is_empty()) {
        (0, true) => Ok(Vlans::None),
        (0, false) => Ok(Vlans::Trunk { vlans: trunk, keep_default }),
        (vlan @ 1..=MAX_VLAN, true) => {
            let vlan = u16::try_from(vlan).unwrap_or(0);
            Ok(Vlans::Access { vlan, keep_default })
        }
        (vlan @ 1..=MAX_VLAN, false) => {
            Err(Error::invalid_config("vlan", vlan, "can't be set together with vlanTrunk"))
        }
        (vlan, _) => Err(Error::invalid_config("vlan", vlan, "is not a VLAN ID from 0 to 4094")),
    }
}

fn trunk(entries: &[VlanTrunk]) -> Result<BTreeSet<u16>, Error> {
    let mut vlans = BTreeSet::new();
    for (index, entry) in entries.iter().enumerate() {
        let id = |key: &str, id: i64| {
            let checked = u16::try_from(id).ok().filter(|id| (1..=MAX_VLAN).contains(&i64::from(*id)));
            checked.ok_or_else(|| {
                Error::invalid_config(
                    &format!("vlanTrunk[{index}].{key}"),
                    id,
                    "is not a VLAN ID from 1 to 4094",
                )
            })
        };
        match (entry.min_id, entry.max_id) {
            (None, None) => {}
            (Some(min), Some(max)) => {
                let (min, max) = (id("minID", min)?, id("maxID", max)?);
                if max < min {
                    let field = format!("vlanTrunk[{index}].maxID");
                    return Err(Error::invalid_config(&field, max, format_args!("is less than minID {min}")));
                }
                vlans.extend(min..=max);
            }
            (Some(min), None) => {
                let field = format!("vlanTrunk[{index}].minID");
                return Err(Error::invalid_config(&field, min, "needs maxID beside it"));
            }
            (None, Some(max)) => {
                let field = format!("vlanTrunk[{index}].maxID");
                return Err(Error::invalid_config(&field, max, "needs minID beside it"));
            }
        }
        if let Some(vlan) = entry.id {
            vlans.insert(id("id", vlan)?);
        }
    }
    Ok(vlans)
}

/// 4095 is reserved (IEEE 802.1Q, table 9-2).
const MAX_VLAN: i64 = 4094;

#[cfg(test)]
mod tests;
