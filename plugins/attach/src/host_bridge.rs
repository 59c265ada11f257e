//! The bridge on the host: made when it is not there, reconciled with what a network asks of it, its addresses.

use std::{fmt::Display, fs};

use cni::{error::Error, names::IfName};
use ipnetwork::IpNetwork;
use kernel::{
    address::{self, Dad},
    bridge::{self, Options},
    link::{self, Kind, Link, Mtu},
    mac::MacAddr,
    netlink::{Netlink, Request},
};

use crate::link_local;

/// What a network asks of its bridge. `None` is no wish: it stays as it is, or as the kernel makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wishes {
    pub name: IfName,
    pub mtu: Option<Mtu>,
    pub promiscuous: Option<bool>,
    pub vlan_filtering: bool,
}

/// A wish that the bridge does not fulfil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    Mtu { has: u32, wanted: Mtu },
    Promiscuous { wanted: bool },
    VlanFiltering,
}

/// The bridge, as it is, if there is one. A link of that name that is no bridge is an error (code 7).
pub fn find(host: &mut Netlink, name: &IfName) -> anyhow::Result<Option<Link>> {
    let Some(link) = link::find(host, name.as_str())? else { return Ok(None) };
    if link.is_bridge() {
        return Ok(Some(link));
    }
    Err(Error::invalid_config("bridge", name, "is a link on the host, but no bridge").into())
}

/// Makes the bridge. Whoever comes second finds the one that the first made.
pub fn create(host: &mut Netlink, wishes: &Wishes) -> anyhow::Result<Link> {
    let Wishes { name, mtu, promiscuous, vlan_filtering } = wishes;
    let mut new = link::new(name.as_str());
    if let Some(mtu) = mtu {
        new = new.mtu(*mtu);
    }
    let options = Options { vlan_filtering: vlan_filtering.then_some(true), ..Options::default() };
    let mut made = match link::create(host, bridge::add(new, &options), name.as_str()) {
        Err(err) if err.is_exists() => return find(host, name)?.ok_or_else(|| err.into()),
        Err(err) if err.is_unsupported() && *vlan_filtering => return Err(no_vlan_filtering(name).into()),
        made => made?,
    };
    // Routes advertised by a container are not the host's (as in the reference); nothing listens where IPv6 is off.
    if let Err(err) = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_ra"), "0") {
        log::debug!("switch accept_ra off on {name}: {err}");
    }
    // A bridge without an address of its own takes the lowest of its ports', and changes it as they come and go. It gets one
    // that differs from the kernel's random choice: Linux 5.10 passes over the one that is there, and then floods what is sent
    // to it instead of taking it in (br_set_mac_address in net/bridge/br_device.c).
    made.mac = made.mac.map(|MacAddr([a, b, c, d, e, f])| MacAddr([a, b, c, d, e, f ^ 1]));
    let mut change = link::change(&made.dev()).up();
    if let Some(mac) = made.mac {
        change = change.mac(mac);
    }
    if *promiscuous == Some(true) {
        change = change.promiscuous(true);
    }
    host.execute(change.request())?;
    Ok(made)
}

/// What of the wishes a bridge does not fulfil.
pub fn mismatches(bridge: &Link, wishes: &Wishes) -> Vec<Mismatch> {
    let Wishes { name: _, mtu, promiscuous, vlan_filtering } = wishes;
    let mtu = mtu.filter(|wanted| u32::from(*wanted) != bridge.mtu);
    let promiscuous = promiscuous.filter(|wanted| *wanted != bridge.is_promiscuous());
    [
        mtu.map(|wanted| Mismatch::Mtu { has: bridge.mtu, wanted }),
        promiscuous.map(|wanted| Mismatch::Promiscuous { wanted }),
        (*vlan_filtering && !filters_vlans(bridge)).then_some(Mismatch::VlanFiltering),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Changes the bridge so that it fulfils the wishes.
pub fn reconcile(host: &mut Netlink, bridge: &Link, mismatches: &[Mismatch]) -> anyhow::Result<()> {
    let dev = bridge.dev();
    for mismatch in mismatches {
        let request = match mismatch {
            Mismatch::Mtu { has: _, wanted } => link::change(&dev).mtu(*wanted).request(),
            Mismatch::Promiscuous { wanted } => link::change(&dev).promiscuous(*wanted).request(),
            Mismatch::VlanFiltering => {
                bridge::set(&dev, &Options { vlan_filtering: Some(true), ..Options::default() })
            }
        };
        match host.execute(request) {
            Err(err) if err.is_unsupported() && *mismatch == Mismatch::VlanFiltering => {
                return Err(no_vlan_filtering(&bridge.name).into());
            }
            done => done?,
        }
    }
    Ok(())
}

fn filters_vlans(bridge: &Link) -> bool {
    matches!(bridge.kind, Some(Kind::Bridge { vlan_filtering: true, .. }))
}

fn no_vlan_filtering(bridge: impl Display) -> Error {
    Error::unsupported_field(
        "vlan",
        format_args!("on bridge {bridge}"),
        "this kernel has no bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)",
    )
}

/// What gives `link`, the bridge or its VLAN interface, the gateway addresses `wanted`.
///
/// Another IPv4 address on it, or an IPv6 one in an overlapping subnet, is an error (code 7) unless `force`, which
/// replaces it: the reference's rule, but that the gateways of one network don't count as strangers to each other.
pub fn address_changes(
    host: &mut Netlink,
    link: &Link,
    wanted: &[IpNetwork],
    force: bool,
) -> anyhow::Result<Vec<Request>> {
    let dev = &link.dev();
    let present: Vec<_> = address::list(host, dev)?
        .into_iter()
        .filter(|address| address.scope == kernel::route::SCOPE_UNIVERSE)
        .map(|address| address.network)
        .collect();
    let missing: Vec<_> = wanted.iter().filter(|address| !present.contains(address)).collect();
    let strangers = present.iter().filter(|address| !wanted.contains(address));
    let in_the_way: Vec<_> =
        strangers.filter(|there| missing.iter().any(|new| excludes(there, new))).collect();
    if let (Some(there), false) = (in_the_way.first(), force) {
        let why =
            format!("has the address {there} already, and this network's gateway is {}", join(&missing));
        return Err(
            Error::invalid_config("bridge", &dev.name, format_args!("{why}; see forceAddress")).into()
        );
    }
    let removals = in_the_way.into_iter().map(|there| address::remove(dev, *there));
    // Another ADD of the network may be just as far.
    let link_local = link.mac.filter(|_| missing.iter().any(|new| new.is_ipv6()));
    let link_local = link_local.map(|mac| link_local::usable_at_once(dev, mac)).into_iter().flatten();
    let gateways = missing.into_iter().map(|new| address::add(dev, *new, Dad::Skip).ok_if_exists());
    Ok(removals.chain(link_local).chain(gateways).collect())
}

fn excludes(there: &IpNetwork, new: &IpNetwork) -> bool {
    match (there, new) {
        (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
        (IpNetwork::V6(there), IpNetwork::V6(new)) => there.contains(new.ip()) || new.contains(there.ip()),
        _ => false,
    }
}

fn join(addresses: &[&IpNetwork]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
