//! The container's side of an attachment: its namespace, opened once, and what is configured in it.

use std::{net::IpAddr, time::Duration};

use cni::{
    error::{Code, Error},
    names::{IfName, NetnsPath},
    result::{AddResult, Route},
};
use kernel::{
    address::{self, Dad},
    announce,
    error::Result,
    link::{self, Dev},
    mac::MacAddr,
    netlink::{Netlink, Request},
    netns::{Netns, OpenError},
    route::{self, Family, SCOPE_HOST, SCOPE_LINK, SCOPE_UNIVERSE, TABLE_MAIN},
    sysctl,
};

/// A container's namespace and a netlink socket in it.
#[derive(Debug)]
pub struct Container {
    pub netns: Netns,
    pub netlink: Netlink,
}

impl Container {
    /// Opens `CNI_NETNS`. Fails with code 8 where the path is no network namespace.
    pub fn open(path: &NetnsPath) -> anyhow::Result<Self> {
        let netns = Netns::open(path).map_err(|err| not_a_namespace(path, &err))?;
        let netlink = Netlink::open_in(&netns)?;
        Ok(Self { netns, netlink })
    }

    /// As [`Container::open`] for DEL: `None` when there is no namespace to clean up.
    pub fn open_if_there(path: Option<&NetnsPath>) -> anyhow::Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        match Netns::open(path) {
            Ok(netns) => Ok(Some(Self { netlink: Netlink::open_in(&netns)?, netns })),
            Err(err) if err.is_missing() || err.is_not_netns() => Ok(None),
            Err(err) => Err(err.into()),
        }
    }

    /// The interface's name must be free, before anything is changed (CNI 1.1.0, section 2, "ADD"). Code 7.
    pub fn require_free(&mut self, ifname: &IfName) -> anyhow::Result<()> {
        if link::find(&mut self.netlink, ifname.as_str())?.is_none() {
            return Ok(());
        }
        Err(Error::invalid_config(
            "CNI_IFNAME",
            ifname,
            "the container has an interface of that name already",
        )
        .into())
    }
}

fn not_a_namespace(path: &NetnsPath, err: &OpenError) -> anyhow::Error {
    if err.is_missing() || err.is_not_netns() {
        return Error::new(Code::InvalidNetns, format!("CNI_NETNS: {:?}: {err}", path.as_str())).into();
    }
    anyhow::anyhow!("{err}")
}

impl Container {
    /// Sets the interface up, before it has addresses, and waits until packets pass: an address plugin asks through it.
    pub fn let_through(&mut self, dev: &Dev) -> Result<()> {
        self.netlink.execute(link::change(dev).up().request())?;
        link::wait_running(&mut self.netlink, dev, CARRIER_TIMEOUT).map(drop)
    }
}

/// An interface that was just made in the container.
#[derive(Debug, Clone, Copy)]
pub struct NewInterface<'a> {
    pub dev: &'a Dev,
    pub mac: MacAddr,
    /// Where it stands among the result's interfaces.
    pub index: usize,
}

/// How the neighbours are told whose the addresses are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// The kernel does it when the interface, which is up, is given its own MAC address: see [`announce`].
    ByMac,
    /// It does it when the interface goes up with its addresses; for one whose MAC address nobody can give it.
    GoingUp,
    /// There are no neighbours.
    None,
}

impl Container {
    /// Sets the interface up, with its addresses and routes of `result`.
    ///
    /// With [`Dad::Skip`] the addresses are usable at once: an allocator gave them out. With [`Dad::Probe`] this waits until
    /// nobody on the link has claimed them, and fails if somebody has. Then tell the neighbours: [`Container::announce`].
    pub fn bring_up(
        &mut self,
        interface: &NewInterface<'_>,
        result: &AddResult,
        dad: Dad,
    ) -> anyhow::Result<()> {
        self.bring_up_with(interface, result, dad, Vec::new())
    }

    /// As [`Container::bring_up`], with requests of the mode's own after the addresses and before the result's routes.
    pub fn bring_up_with(
        &mut self,
        interface: &NewInterface<'_>,
        result: &AddResult,
        dad: Dad,
        between: Vec<Request>,
    ) -> anyhow::Result<()> {
        // The link must be up before the routes, so that comes first.
        let mut up = link::change(interface.dev).up();
        if families(interface, result).contains(&Family::V4) {
            up = up.arp_notify();
        }
        let mut requests = vec![up.request()];
        requests.extend(addresses(interface, result, dad));
        requests.extend(between);
        self.configure(interface, result, requests)?;
        if dad == Dad::Probe {
            address::wait_settled(&mut self.netlink, interface.dev, DAD_TIMEOUT)?;
        }
        Ok(())
    }

    /// Sets the interface up, with its addresses and routes of `result`, which an allocator gave out; has the neighbours told, and
    /// carries out the mode's own requests before the routes.
    pub fn bring_up_announced(
        &mut self,
        interface: &NewInterface<'_>,
        result: &AddResult,
        announcement: Announcement,
        between: Vec<Request>,
    ) -> anyhow::Result<()> {
        match announcement {
            Announcement::ByMac => {
                self.bring_up_with(interface, result, Dad::Skip, between)?;
                self.announce(interface, result)
            }
            Announcement::GoingUp => {
                // Down: it may be up for the address plugin's sake, or from a try without IPv6.
                let mut requests = vec![
                    link::change(interface.dev).down().request(),
                    link::change(interface.dev).arp_notify().request(),
                ];
                requests.extend(addresses(interface, result, Dad::Skip));
                requests.push(link::change(interface.dev).up().request());
                requests.extend(between);
                self.configure(interface, result, requests)
            }
            Announcement::None => self.bring_up_with(interface, result, Dad::Skip, between),
        }
    }

    /// Carries out `requests`, which bring the interface up, then those for the routes.
    fn configure(
        &mut self,
        interface: &NewInterface<'_>,
        result: &AddResult,
        mut requests: Vec<Request>,
    ) -> anyhow::Result<()> {
        let families = families(interface, result);
        if families.contains(&Family::V6) {
            self.netns.visit(|| prepare_v6(interface.dev))?;
        }
        requests.extend(
            result.routes.iter().map(|route| route::append(&kernel_route(interface.dev, route, result))),
        );
        if let Err(err) = self.netlink.batch(&requests) {
            // IPv6 may be off by default in the container; the network says that it has it.
            if !(err.is_permission() && families.contains(&Family::V6)) {
                return Err(err.into());
            }
            self.netns.visit(|| switch_on_ipv6(interface.dev))??;
            self.netlink.batch(&requests.into_iter().map(Request::ok_if_exists).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Tells the neighbours whose the interface's addresses are now. Its other end, if it has one that must listen, listens.
    pub fn announce(&mut self, interface: &NewInterface<'_>, result: &AddResult) -> anyhow::Result<()> {
        if families(interface, result).is_empty() {
            return Ok(());
        }
        Ok(self.netlink.execute(announce::now(interface.dev, interface.mac))?)
    }

    /// As [`Container::announce`], once the host's end of a veth pair listens.
    pub fn announce_to(
        &mut self,
        host: &mut Netlink,
        end: &Dev,
        interface: &NewInterface<'_>,
        result: &AddResult,
    ) -> anyhow::Result<()> {
        if !families(interface, result).is_empty() {
            link::wait_running(host, end, CARRIER_TIMEOUT)?;
        }
        self.announce(interface, result)
    }
}

/// The families of the addresses that are the interface's.
fn families(interface: &NewInterface<'_>, result: &AddResult) -> Vec<Family> {
    let own = |v4: bool| {
        result.ips.iter().any(|ip| ip.interface == Some(interface.index) && ip.address.is_ipv4() == v4)
    };
    [(Family::V4, true), (Family::V6, false)]
        .into_iter()
        .filter(|(_, v4)| own(*v4))
        .map(|(family, _)| family)
        .collect()
}

/// Settings that the reference makes too. They need no more than to be there: a container whose /proc/sys is read-only works
/// without.
fn prepare_v6(dev: &Dev) {
    // Going down and up again does not lose the addresses.
    let keep = sysctl::write(&sysctl::conf(Family::V6, &dev.name, "keep_addr_on_down"), "1");
    for err in [announce::switch_on_v6(dev).err(), keep.err()].into_iter().flatten() {
        log::debug!("{err}");
    }
}

fn switch_on_ipv6(dev: &Dev) -> Result<()> {
    for link in ["lo", &dev.name] {
        sysctl::ensure(&sysctl::conf(Family::V6, link, "disable_ipv6"), "0")?;
    }
    Ok(())
}

fn addresses(interface: &NewInterface<'_>, result: &AddResult, dad: Dad) -> Vec<Request> {
    let own = result.ips.iter().filter(|ip| ip.interface == Some(interface.index));
    own.map(|ip| address::add(interface.dev, ip.address, dad)).collect()
}

/// A result's route as the kernel gets it.
///
/// As in the reference (`pkg/ipam/ipam_linux.go`) a route without a gateway goes through the first gateway of its family,
/// unless its scope says that none is needed; unlike there, `mtu` and `advmss` reach the kernel.
pub fn kernel_route(dev: &Dev, route: &Route, result: &AddResult) -> route::Route {
    let Route { dst, gw, mtu, advmss, priority, table, scope } = route;
    let direct = matches!(*scope, Some(SCOPE_LINK | SCOPE_HOST));
    let set = |attribute: &Option<u32>| attribute.filter(|value| *value != 0);
    route::Route {
        gateway: gw.or_else(|| if direct { None } else { first_gateway(result, dst.is_ipv4()) }),
        dev: Some(dev.index),
        mtu: set(mtu),
        advmss: set(advmss),
        priority: set(priority),
        table: table.filter(|table| *table != 0).unwrap_or(TABLE_MAIN),
        scope: scope.unwrap_or(SCOPE_UNIVERSE),
        ..route::Route::to(*dst)
    }
}

fn first_gateway(result: &AddResult, v4: bool) -> Option<IpAddr> {
    result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4)
}

/// RFC 4862 sends one probe and waits a second; up to a second more passes before it (section 5.4.2).
const DAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel takes note of a carrier within a millisecond, a network card after some seconds; more is a host in trouble.
pub const CARRIER_TIMEOUT: Duration = Duration::from_secs(5);
