//! The overlay device: made, kept as it should be, made anew where the kernel can't change it. Knows no peer.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use kernel::{
    address::{self, Dad},
    error::Result,
    link::{self, Kind, Link, LinkIndex, Mtu, change::AddrGenMode},
    netlink::Netlink,
    route::Family,
    sysctl, vxlan,
};

use super::port;
use crate::machine::DeviceSpec;

/// A device that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    #[error(transparent)]
    Kernel(#[from] kernel::error::Error),
    #[error("{name} exists and is no VXLAN device: remove or rename it")]
    Foreign { name: String },
    #[error("{source}: UDP port {port} belongs to {owner}")]
    PortClash { port: u16, owner: String, source: kernel::error::Error },
    #[error("{source}: {owner} has network identifier {vni} on UDP port {port} already")]
    VniClash { vni: u32, port: u16, owner: String, source: kernel::error::Error },
}

/// Makes the device so, or takes it as it is where it is so already. The calling thread must be in the namespace of `nl`,
/// since sysctls are files.
pub fn ensure(nl: &mut Netlink, spec: &DeviceSpec) -> Result<LinkIndex, DeviceError> {
    let link = match link::find(nl, &spec.name)? {
        Some(link) if !matches!(link.kind, Some(Kind::Vxlan { .. })) => {
            return Err(DeviceError::Foreign { name: spec.name.clone() });
        }
        Some(link) if is_right_kind(&link, spec) => link,
        Some(link) => {
            nl.execute(link::remove(&link.dev()))?;
            create(nl, spec)?
        }
        None => create(nl, spec)?,
    };
    adjust(nl, spec, &link)?;
    Ok(link.index)
}

/// Removes the device of a network, with all that hangs on it; accepts that there is none.
pub fn remove(nl: &mut Netlink, name: &str) -> Result<(), DeviceError> {
    match link::find(nl, name)? {
        None => Ok(()),
        Some(link) if matches!(link.kind, Some(Kind::Vxlan { .. })) => {
            Ok(nl.execute(link::remove(&link.dev()))?)
        }
        Some(_) => Err(DeviceError::Foreign { name: name.to_owned() }),
    }
}

/// Whether the device is in every respect as it should be.
pub fn is_right(link: &Link, spec: &DeviceSpec) -> bool {
    is_right_kind(link, spec) && !needs_change(link, spec)
}

/// What is fixed at creation.
fn is_right_kind(link: &Link, spec: &DeviceSpec) -> bool {
    let right = Kind::Vxlan {
        vni: spec.vni.into(),
        port: spec.port.into(),
        local: Some(spec.local),
        dev: Some(spec.link.into()),
        learning: false,
    };
    link.kind.as_ref() == Some(&right)
}

fn needs_change(link: &Link, spec: &DeviceSpec) -> bool {
    link.mac != Some(spec.mac.0) || link.mtu != u32::from(spec.mtu) || !link.is_up()
}

fn create(nl: &mut Netlink, spec: &DeviceSpec) -> Result<Link, DeviceError> {
    let options = vxlan::Options {
        vni: spec.vni.into(),
        port: spec.port.into(),
        local: Some(spec.local),
        dev: Some(spec.link.into()),
        learning: false,
    };
    let new = link::new(&spec.name).mac(spec.mac.0);
    let request = vxlan::add(new, &options);
    match link::create(nl, request, &spec.name) {
        Err(source) if source.is_exists() => {
            let (vni, port) = (options.vni, options.port);
            let twin = |link: &Link| matches!(link.kind, Some(Kind::Vxlan { vni: v, port: p, .. }) if v == vni && p == port);
            let owner = link::list(nl)?
                .into_iter()
                .find(twin)
                .map_or_else(|| "another device".into(), |link| link.name);
            Err(DeviceError::VniClash { vni, port, owner, source })
        }
        made => Ok(made?),
    }
}

/// MTU, MAC, addresses and settings, then up. The kernel reports a taken UDP port only at that last step (`vxlan_open`).
fn adjust(nl: &mut Netlink, spec: &DeviceSpec, link: &Link) -> Result<(), DeviceError> {
    let dev = link.dev();
    if !link.is_up() {
        nl.execute(link::change(&dev).addr_gen_mode(AddrGenMode::None).request())?;
        nl.execute(link::change(&dev).alias(ALIAS).request())?;
        settings(&spec.name)?;
    }
    if needs_change(link, spec) {
        let mut change = link::change(&dev).up();
        if link.mac != Some(spec.mac.0) {
            change = change.mac(spec.mac.0);
        }
        if let Ok(mtu) = Mtu::try_from(u32::from(spec.mtu)) {
            change = change.mtu(mtu);
        }
        nl.execute(change.request()).map_err(|source| clash(nl, spec, source))?;
    }
    addresses(nl, spec, link)
}

fn clash(nl: &mut Netlink, spec: &DeviceSpec, source: kernel::error::Error) -> DeviceError {
    if !source.is_busy() {
        return source.into();
    }
    let port = spec.port.into();
    DeviceError::PortClash { port, owner: port::owner(nl, port, &spec.name), source }
}

fn addresses(nl: &mut Netlink, spec: &DeviceSpec, link: &Link) -> Result<(), DeviceError> {
    let dev = link.dev();
    let there: BTreeSet<IpNetwork> =
        address::list(nl, &dev)?.into_iter().map(|address| address.network).collect();
    let wanted: BTreeSet<IpNetwork> = spec.addresses.iter().copied().collect();
    let add = wanted.difference(&there).map(|network| address::add(&dev, *network, Dad::Skip));
    let remove = there.difference(&wanted).map(|network| address::remove(&dev, *network));
    let requests: Vec<_> = add.chain(remove).collect();
    Ok(nl.batch(&requests)?)
}

/// Traffic between hosts may come in by the tunnel and go out by a plain route, so a strict reverse-path filter would eat
/// it; 2 (loose) wins over a strict `all` (Documentation/networking/ip-sysctl.rst: the maximum counts).
fn settings(name: &str) -> Result<()> {
    sysctl::ensure(&sysctl::conf(Family::V4, name, "rp_filter"), "2")?;
    for (key, value) in [("accept_ra", "0"), ("accept_dad", "0")] {
        // A kernel without IPv6 has no such file.
        sysctl::ensure(&sysctl::conf(Family::V6, name, key), value)
            .map(drop)
            .or_else(|err| if err.is_missing() { Ok(()) } else { Err(err) })?;
    }
    Ok(())
}

/// Whose the device is, for `ip link`.
const ALIAS: &str = "tenon:overlay";
