//! The container's port of the bridge: its flags and VLANs, and the gateway's own port in a VLAN.

use attach::host_bridge::Wishes;
use cni::{error::Error, names::IfName};
use kernel::{
    bridge::{self, PortOptions},
    bridge_vlan::{self, Side, Tagging},
    link::{self, Dev, Link, Mtu},
    netlink::{Netlink, Request},
    veth,
};

use crate::config::{Config, Vlans};

/// The requests that make `port` what the configuration asks for. It is a port of the bridge already.
pub(crate) fn configure(port: &Dev, config: &Config) -> Vec<Request> {
    let mut requests = Vec::new();
    if config.hairpin || config.isolated {
        let on = |flag: bool| flag.then_some(true);
        let options = PortOptions {
            hairpin: on(config.hairpin),
            isolated: on(config.isolated),
            ..PortOptions::default()
        };
        requests.push(bridge::set_port(port, &options));
    }
    requests.extend(join_vlans(port, &config.vlans));
    requests
}

/// A port is born in the bridge's default VLAN, untagged.
fn join_vlans(port: &Dev, vlans: &Vlans) -> Vec<Request> {
    let join = |vlan: u16, tagging| bridge_vlan::add(port, Side::Port, vlan..=vlan, tagging);
    let (keep_default, joins): (_, Vec<_>) = match vlans {
        Vlans::None => return Vec::new(),
        Vlans::Access { vlan, keep_default } => (*keep_default, vec![join(*vlan, Tagging::Native)]),
        Vlans::Trunk { vlans, keep_default } => {
            (*keep_default, vlans.iter().map(|vlan| join(*vlan, Tagging::Tagged)).collect())
        }
    };
    let leave = (!keep_default).then(|| bridge_vlan::remove(port, Side::Port, DEFAULT_VLAN..=DEFAULT_VLAN));
    leave.into_iter().chain(joins).collect()
}

/// The interface that has the gateway addresses of an access VLAN: `<bridge>.<vlan>`, a veth whose other end is a port of
/// the bridge in that VLAN. Made when it is not there. The bridge itself is a member of no VLAN but the default.
pub(crate) fn ensure_vlan_gateway(
    host: &mut Netlink,
    bridge: &Link,
    vlan: u16,
    keep_default: bool,
) -> anyhow::Result<Link> {
    let name = vlan_gateway_name(&bridge.name, vlan)?;
    if let Some(there) = link::find(host, &name)? {
        return Ok(there);
    }
    let port = vlan_gateway_port(vlan, bridge);
    let mtu = Mtu::try_from(bridge.mtu)?;
    let near = link::new(&port).mtu(mtu).master(bridge.index);
    let made = match link::create(host, veth::add(near, link::new(&name).mtu(mtu)), &port) {
        Err(err) if err.is_exists() => return Ok(link::by_name(host, &name)?),
        made => made?,
    };
    let mut requests = join_vlans(&made.dev(), &Vlans::Access { vlan, keep_default });
    requests.extend([link::change(&made.dev()).up().request(), link::change_named(&name).up().request()]);
    host.batch(&requests)?;
    Ok(link::by_name(host, &name)?)
}

/// Fails (code 7) when the name does not fit an interface.
fn vlan_gateway_name(bridge: &str, vlan: u16) -> Result<String, Error> {
    let name = format!("{bridge}.{vlan}");
    let checked = name.parse::<IfName>();
    checked.map(String::from).map_err(|why| {
        Error::invalid_config(
            "bridge",
            bridge,
            format_args!("the gateway's interface {name} of VLAN {vlan} {why}"),
        )
    })
}

/// Short enough for any bridge: the index is unique on the host.
fn vlan_gateway_port(vlan: u16, bridge: &Link) -> String {
    format!("vg{vlan}.{}", bridge.index)
}

/// What the configuration asks of the bridge. `mtu` is what the container's interface gets, if it was named.
pub(crate) fn wishes(config: &Config, named_mtu: Option<Mtu>) -> Wishes {
    Wishes {
        name: config.bridge.clone(),
        mtu: named_mtu,
        promiscuous: config.promiscuous,
        vlan_filtering: config.vlans.is_some(),
    }
}

/// `default_pvid` of a bridge that nobody changed it on.
const DEFAULT_VLAN: u16 = 1;
