//! Building the scene of a test inside a namespace: links, addresses, routes. None of it counts as a leak.

use std::net::IpAddr;

use crate::ns::Ns;
use crate::wiring;

impl Ns {
    /// A veth pair from `name` here to `peer` in `other`, both down.
    #[track_caller]
    pub fn add_veth(&self, name: &str, other: &Self, peer: &str) {
        let there = other.snapshot();
        let add = || wiring::add_veth(name, other.file(), peer, ETHERNET_MTU);
        self.build(&format!("add veth {name}"), add);
        other.accept(&there);
    }

    /// A bridge, up. Stands in for a physical uplink too, where the kernel has no dummy device.
    #[track_caller]
    pub fn add_bridge(&self, name: &str) {
        self.build(&format!("add bridge {name}"), || wiring::add_bridge(name));
    }

    #[track_caller]
    pub fn set_up(&self, link: &str) {
        self.build(&format!("set {link} up"), || wiring::set_up(link));
    }

    /// Waits until `link`, which is up, has carrier and its routes work.
    #[track_caller]
    pub fn wait_running(&self, link: &str) {
        self.build(&format!("wait for {link}"), || wiring::wait_running(link));
    }

    #[track_caller]
    pub fn set_down(&self, link: &str) {
        self.build(&format!("set {link} down"), || wiring::set_down(link));
    }

    #[track_caller]
    pub fn set_mtu(&self, link: &str, mtu: u32) {
        self.build(&format!("set mtu {mtu} on {link}"), || wiring::set_mtu(link, mtu));
    }

    /// Makes `link` a port of `bridge`.
    #[track_caller]
    pub fn set_master(&self, link: &str, bridge: &str) {
        self.build(&format!("set master {bridge} on {link}"), || wiring::set_master(link, bridge));
    }

    /// A veth's other end goes too: call `rebase` where that one is in another namespace.
    #[track_caller]
    pub fn remove_link(&self, link: &str) {
        self.build(&format!("remove {link}"), || wiring::remove_link(link));
    }

    /// Adds an address such as `10.0.0.1/24`, without duplicate address detection: usable at once.
    #[track_caller]
    pub fn add_address(&self, link: &str, address: &str) {
        self.build(&format!("add address {address} to {link}"), || wiring::add_address(link, address));
    }

    /// Adds a route to `destination` (`0.0.0.0/0` is the default route) by `gateway`.
    #[track_caller]
    pub fn add_route(&self, destination: &str, gateway: IpAddr) {
        let what = format!("add route {destination} via {gateway}");
        self.build(&what, || wiring::add_route(destination, gateway));
    }

    /// Adds a route to `destination` straight out of `link`.
    #[track_caller]
    pub fn add_device_route(&self, destination: &str, link: &str) {
        let what = format!("add route {destination} dev {link}");
        self.build(&what, || wiring::add_device_route(destination, link));
    }
}

const ETHERNET_MTU: u32 = 1500;
