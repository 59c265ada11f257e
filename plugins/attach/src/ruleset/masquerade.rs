//! Masquerading: connections of a container's addresses leave with the host's, except towards the networks that can
//! answer the container itself, and to multicast.

use std::net::IpAddr;

use cni::error::Error;
use ipnetwork::IpNetwork;
use kernel::nft::{element::Element, value::Value};

use super::{
    owner::Owner,
    plan::{Group, Plan},
    schema::{Feature, Ip, Place},
};

/// Checks `ipMasqBackend`. Both of the reference's backends, and none, mean "masquerade": it is done through nf_tables, which
/// lives beside rules of either. Fails with code 7 for anything else.
pub fn check_backend(name: &str) -> Result<(), Error> {
    if ["", "iptables", "nftables"].contains(&name) {
        return Ok(());
    }
    let why = "is neither \"iptables\" nor \"nftables\"";
    Err(Error::invalid_config("ipMasqBackend", format!("{name:?}"), why))
}

/// What to masquerade for one attachment.
#[derive(Clone, Copy, Debug)]
pub struct Masquerade<'a> {
    /// The host's interface through which the container's packets arrive: the bridge, or where there is none the host's
    /// end of the veth. Part of every key, so that equal addresses behind different interfaces don't meet.
    pub iif: &'a str,
    /// The container's addresses.
    pub addresses: &'a [IpAddr],
    /// Networks towards which the container keeps its address: its own subnets, as the reference has it, or all of a
    /// network that spans hosts. Each counts for the addresses of its family.
    pub exempt: &'a [IpNetwork],
    /// Whose they are.
    pub owner: &'a Owner,
}

impl Masquerade<'_> {
    pub(super) fn plan(&self, plan: &mut Plan) {
        for &address in self.addresses {
            let ip = if address.is_ipv4() { Ip::V4 } else { Ip::V6 };
            let exempt = self.exempt.iter().filter(|network| network.is_ipv4() == address.is_ipv4());
            // One that is exempt towards everything is not masqueraded at all.
            if exempt.clone().any(|network| network.prefix() == 0) {
                continue;
            }
            let key = [Value::Ifname(self.iif.to_owned()), Value::Ip(address)];
            let element = |place, key| (place, Element::new(key).commented(self.owner.comment()));
            let mut elements = vec![element(Place::masq(ip), key.to_vec())];
            plan.features.extend([Feature::Owner, Feature::Masquerade]);
            for network in exempt {
                let mut key = key.to_vec();
                key.push(Value::Ip(network.network()));
                elements.push(element(Place::exempt(ip, network.prefix()), key));
                plan.features.insert(Feature::Exempt(ip, network.prefix()));
            }
            let tag = [Value::Ifname(self.owner.tag().to_owned())];
            let guard = Element::to(key, tag).commented(self.owner.comment());
            plan.groups.push(Group { guard: Some((Place::owner(ip), guard)), elements });
        }
    }
}
