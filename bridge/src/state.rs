//! What the bridge plugin writes down of an attachment, so that DEL needs nothing else.

use attach::{
    addresses::of_attachment,
    host_bridge::{Mismatch, Wishes},
    record::Records,
    ruleset::{masquerade::Masquerade, owner::Owner, plan::Plan, spoof_check::SpoofCheck},
};
use cni::{
    error::Error,
    names::{Attachment, NetworkName},
    request::Request,
};
use ipnetwork::IpNetwork;
use kernel::mac::MacAddr;
use serde::{Deserialize, Serialize};

use crate::{config::Config, port};

/// The record's data. Names and keys only: what is behind them is looked up when it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub bridge: String,
    /// The host's end of the veth pair, the bridge's port.
    pub host_link: String,
    /// `CNI_NETNS` to the letter.
    pub netns: String,
    #[serde(with = "mac_text")]
    pub mac: MacAddr,
    /// The container's addresses with their subnets.
    pub addresses: Vec<IpNetwork>,
    pub masquerade: bool,
    pub check_mac_spoofing: bool,
    /// The interface on the host that has the gateway addresses of the container's VLAN.
    pub vlan_gateway: Option<String>,
    /// What the configuration named of the bridge: another network can't have it otherwise meanwhile.
    pub named_mtu: Option<u32>,
    pub named_promiscuous: Option<bool>,
}

impl Attached {
    pub fn new(config: &Config, wishes: &Wishes, host_link: String, netns: &str, mac: MacAddr) -> Self {
        Self {
            bridge: config.bridge.to_string(),
            host_link,
            netns: netns.to_owned(),
            mac,
            addresses: Vec::new(),
            masquerade: config.masquerade,
            check_mac_spoofing: config.check_mac_spoofing,
            vlan_gateway: config.vlan_gateway(),
            named_mtu: wishes.mtu.map(u32::from),
            named_promiscuous: wishes.promiscuous,
        }
    }

    /// What an ADD with this configuration and this `prevResult` would have written down, but for the namespace's path and an MTU
    /// that depends on the host's. For a DEL whose record is lost, and for who writes it again.
    pub fn supposed(request: &Request, attachment: &Attachment) -> Result<Self, Error> {
        let config = Config::without_args(request)?;
        let result = request.prev_result()?.unwrap_or_default();
        let (inside, addresses) = of_attachment(&result, attachment);
        let mac = inside.and_then(|index| result.interfaces[index].mac.parse().ok());
        let mac = mac.unwrap_or_else(|| config.container_mac(attachment));
        let wishes = port::wishes(&config, None);
        let attached = Self::new(&config, &wishes, attachment.host_veth(), "", mac);
        Ok(Self { addresses, ..attached })
    }

    /// What the attachment has in the suite's nftables tables.
    pub fn ruleset(&self, attachment: &Attachment) -> Plan {
        let owner = Owner::of(attachment);
        let mut plan = Plan::new();
        if self.masquerade {
            let addresses: Vec<_> = self.addresses.iter().map(IpNetwork::ip).collect();
            plan = plan.masquerade(&Masquerade {
                // The container's packets come to the host by the interface that has its gateway.
                iif: self.vlan_gateway.as_ref().unwrap_or(&self.bridge),
                addresses: &addresses,
                exempt: &self.addresses,
                owner: &owner,
            });
        }
        if self.check_mac_spoofing {
            plan = plan.spoof_check(&SpoofCheck { port: &self.host_link, mac: self.mac, owner: &owner });
        }
        plan
    }
}

/// A MAC address as text.
mod mac_text {
    use kernel::mac::MacAddr;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(mac: &MacAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(mac)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<MacAddr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The records of a network's attachments by this plugin.
pub fn records(network: &NetworkName) -> Records {
    Records::of("bridge", network)
}

/// Fails (code 7) when a network that lives on the same bridge names another value for what `network` wants changed.
pub fn check_no_other_network_disagrees(
    network: &NetworkName,
    wishes: &Wishes,
    mismatches: &[Mismatch],
) -> anyhow::Result<()> {
    if mismatches.is_empty() {
        return Ok(());
    }
    for records in Records::of_every_network("bridge")? {
        for record in records.all::<Attached>()? {
            let other = &record.attachment.network;
            if other == network || record.data.bridge != wishes.name.as_str() {
                continue;
            }
            if let Some((field, wanted, has)) = mismatches.iter().find_map(|m| disagreement(m, &record.data))
            {
                let why = format!("bridge {} has {has}, which network {other} on it asks for", wishes.name);
                return Err(Error::invalid_config(field, wanted, why).into());
            }
        }
    }
    Ok(())
}

fn disagreement(mismatch: &Mismatch, other: &Attached) -> Option<(&'static str, String, String)> {
    match mismatch {
        Mismatch::Mtu { has: _, wanted } => {
            let named = other.named_mtu.filter(|named| *named != u32::from(*wanted))?;
            Some(("mtu", wanted.to_string(), named.to_string()))
        }
        Mismatch::Promiscuous { wanted } => {
            let named = other.named_promiscuous.filter(|named| named != wanted)?;
            Some(("promiscMode", wanted.to_string(), named.to_string()))
        }
        // Nobody can ask for it to be off.
        Mismatch::VlanFiltering => None,
    }
}
