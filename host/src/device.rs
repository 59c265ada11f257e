//! A device of the host as it was before it went into a container, and how it becomes that again.
//!
//! Moved to another namespace, a link loses its addresses, its routes, its settings and the bridge it is a port of, and goes
//! down; its name, MAC address, MTU and flags are the container's to change. While away it carries its old name as
//! `ifalias`, as the reference's plugin has it, so that either suite gives back what the other took.

use std::time::{Duration, Instant};

use kernel::{
    error::Result,
    link::{self, Dev, Link, Mtu},
    mac::MacAddr,
    netlink::{Netlink, Request},
    route::Family,
    saved::{self, Saved},
    sysctl,
};
use serde::{Deserialize, Serialize};

/// What the device was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    pub name: String,
    pub altnames: Vec<String>,
    pub alias: Option<String>,
    pub mac: Option<[u8; 6]>,
    /// Burnt in, so that no one can have changed it.
    pub permanent_mac: Option<[u8; 6]>,
    pub mtu: u32,
    pub txqlen: u32,
    pub group: u32,
    pub up: bool,
    pub promiscuous: bool,
    pub allmulticast: bool,
    /// The name of the bridge or bond that it was a port of.
    pub master: Option<String>,
    /// Hardware: it outlives the namespace that it is in, from which the kernel moves it back
    /// (`default_device_exit_net`, net/core/dev.c).
    pub hardware: bool,
    /// Settings below /proc/sys.
    pub settings: Vec<(String, String)>,
    pub addresses: Vec<Saved>,
    pub routes: Vec<Saved>,
}

impl Before {
    /// Reads it from the host, in whose namespace the calling thread is. Changes nothing.
    pub fn of(host: &mut Netlink, device: &Link) -> Result<Self> {
        let dev = device.dev();
        let master = device.master.map(|master| link::by_index(host, master)).transpose()?;
        Ok(Self {
            name: device.name.clone(),
            altnames: device.altnames.clone(),
            alias: device.alias.clone(),
            mac: device.mac.map(|mac| mac.0),
            permanent_mac: device.permanent_mac.map(|mac| mac.0),
            mtu: device.mtu,
            txqlen: device.txqlen,
            group: device.group,
            up: device.is_up(),
            promiscuous: device.is_promiscuous(),
            allmulticast: device.is_allmulticast(),
            master: master.map(|master| master.name),
            hardware: device.kind.is_none(),
            settings: settings(&device.name),
            addresses: saved::addresses(host, &dev)?,
            routes: saved::routes(host, &dev)?,
        })
    }

    /// Whether `link`, of the host or of the container, is the device: it says the old name, and has its address.
    pub fn is(&self, link: &Link) -> bool {
        let same_hardware = match (self.permanent_mac, link.permanent_mac) {
            (Some(before), Some(now)) => before == now.0,
            // The address may be another by now; a link that goes by the old name has no better sign.
            _ => true,
        };
        link.alias.as_deref() == Some(self.name.as_str()) && same_hardware
    }

    /// The device in a namespace, whatever it is called there.
    pub fn find(&self, nl: &mut Netlink) -> Result<Option<Link>> {
        Ok(link::list(nl)?.into_iter().find(|link| self.is(link)))
    }

    /// As [`Before::find`] on the host, for a device that the kernel is about to move back: the end of a namespace is not
    /// waited for by whoever ends it.
    pub fn wait(&self, host: &mut Netlink) -> Result<Option<Link>> {
        let deadline = Instant::now() + COMES_BACK;
        host.subscribe(RTNLGRP_LINK)?;
        let found = loop {
            if let Some(link) = self.find(host)? {
                break Some(link);
            }
            if !host.wait_readable(deadline)? {
                break None;
            }
        };
        host.unsubscribe(RTNLGRP_LINK)?;
        Ok(found)
    }

    /// Makes a link of the host what the device was, whatever name it has there; doing it again is fine. A name that somebody
    /// else took meanwhile is let go, with a warning. The mark goes last.
    pub fn restore(&self, host: &mut Netlink, link: &Link) -> Result<()> {
        let dev = link.dev();
        let never_left = self.up && link.is_up() && link.name == self.name;
        if !never_left {
            host.execute(link::change(&dev).down().request())?;
        }
        let dev = if link.name == self.name { dev } else { self.rename(host, &dev)? };
        let name = dev.name.as_str();
        for (path, value) in self.settings_of(name) {
            if let Err(err) = sysctl::ensure(&path, value) {
                log::warn!("{name}: {err}");
            }
        }
        host.batch(&self.attributes(&dev, link)?)?;
        self.rejoin(host, &dev)?;
        let mut requests = Vec::new();
        for address in &self.addresses {
            requests.push(saved::restore(address, &dev)?);
        }
        host.batch(&requests)?;
        if self.up {
            host.execute(link::change(&dev).up().request())?;
        }
        self.restore_routes(host, &dev)?;
        host.execute(link::change(&dev).alias(self.alias.as_deref().unwrap_or_default()).request())
    }

    fn rename(&self, host: &mut Netlink, dev: &Dev) -> Result<Dev> {
        match host.execute(link::change(dev).name(&self.name).request()) {
            Ok(()) => Ok(Dev { index: dev.index, name: self.name.clone() }),
            Err(err) if err.is_exists() => {
                log::warn!(
                    "{}: the host has another interface of that name now; it stays {}",
                    self.name,
                    dev.name
                );
                Ok(dev.clone())
            }
            Err(err) => Err(err),
        }
    }

    fn attributes(&self, dev: &Dev, link: &Link) -> Result<Vec<Request>> {
        let mut change = link::change(dev).promiscuous(self.promiscuous).allmulticast(self.allmulticast);
        if let Some(mac) = self.mac.map(MacAddr).filter(|mac| link.mac != Some(*mac)) {
            change = change.mac(mac);
        }
        if link.mtu != self.mtu
            && let Ok(mtu) = Mtu::try_from(self.mtu)
        {
            change = change.mtu(mtu);
        }
        if link.txqlen != self.txqlen {
            change = change.txqlen(self.txqlen);
        }
        if link.group != self.group {
            change = change.group(self.group);
        }
        let missing = self.altnames.iter().filter(|name| !link.altnames.contains(name));
        let extra = link.altnames.iter().filter(|name| !self.altnames.contains(name));
        let names = extra.map(|name| link::remove_altname(dev, name));
        let names = names.chain(missing.map(|name| link::add_altname(dev, name).ok_if_exists()));
        Ok(std::iter::once(change.request()).chain(names).collect())
    }

    fn rejoin(&self, host: &mut Netlink, dev: &Dev) -> Result<()> {
        let Some(name) = &self.master else { return Ok(()) };
        match link::find(host, name)? {
            Some(master) => host.execute(link::change(dev).master(&master.dev()).request()),
            None => {
                log::warn!("{}: {name}, which it was a port of, is gone", dev.name);
                Ok(())
            }
        }
    }

    /// A route whose way is gone otherwise, such as one of several next hops, is let go with a warning: the device is back.
    fn restore_routes(&self, host: &mut Netlink, dev: &Dev) -> Result<()> {
        for route in &self.routes {
            if let Err(err) = host.execute(saved::restore(route, dev)?) {
                log::warn!("{err}");
            }
        }
        Ok(())
    }

    fn settings_of(&self, name: &str) -> impl Iterator<Item = (String, &String)> {
        SETTINGS.iter().filter_map(move |(family, key)| {
            let (_, value) = self.settings.iter().find(|(saved, _)| saved == &label(*family, key))?;
            Some((sysctl::conf(*family, name, key), value))
        })
    }
}

fn settings(name: &str) -> Vec<(String, String)> {
    let read = |(family, key): &(Family, &str)| {
        let value = sysctl::read(&sysctl::conf(*family, name, key)).ok()?;
        Some((label(*family, key), value))
    };
    SETTINGS.iter().filter_map(read).collect()
}

fn label(family: Family, key: &str) -> String {
    match family {
        Family::V4 => format!("ipv4.{key}"),
        Family::V6 => format!("ipv6.{key}"),
    }
}

/// Of those that administrators set for one interface, in the order in which they are set again.
const SETTINGS: [(Family, &str); 14] = [
    (Family::V6, "disable_ipv6"),
    (Family::V6, "addr_gen_mode"),
    (Family::V6, "accept_ra"),
    (Family::V6, "accept_dad"),
    (Family::V6, "autoconf"),
    (Family::V6, "use_tempaddr"),
    (Family::V6, "forwarding"),
    (Family::V6, "keep_addr_on_down"),
    (Family::V4, "forwarding"),
    (Family::V4, "rp_filter"),
    (Family::V4, "proxy_arp"),
    (Family::V4, "arp_ignore"),
    (Family::V4, "arp_announce"),
    (Family::V4, "arp_notify"),
];
const RTNLGRP_LINK: u32 = 1;
/// The kernel ends namespaces one batch after another, within milliseconds on a quiet machine.
const COMES_BACK: Duration = Duration::from_secs(5);
