//! What one namespace would do with a packet, asked of its kernel and not tried: which route, which neighbour, behind which port
//! of a bridge or end of a tunnel. Knows no other namespace but the far ends of its veth devices. Rules of nftables are not
//! simulated: their chains are listed.

use std::net::IpAddr;

use anyhow::Context;
use kernel::{
    fdb,
    link::{self, Kind, Link},
    mac::MacAddr,
    netlink::Netlink,
    netns::Netns,
    nft::{Nft, table::Hook},
    route::Route,
};
use serde::{Deserialize, Serialize};

use super::probe::Protocol;
use crate::{
    agent::place::{Place, number_of},
    facts::space::Space,
};

mod answers;

/// A packet as routes see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: Protocol,
    /// Of the IP packet, bytes.
    pub len: u32,
}

/// What a frame is addressed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// None where it is not known yet and would be asked for.
    pub mac: Option<[u8; 6]>,
    /// Whose it is.
    pub next: IpAddr,
}

/// A tunnel's packet around the flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wrap {
    pub vni: u32,
    pub outer: Flow,
    /// The frame inside.
    pub inner: Frame,
}

/// A packet that comes into a namespace, or begins there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Passing {
    pub place: Place,
    pub flow: Flow,
    pub wrap: Option<Wrap>,
    /// None for a packet that begins there.
    pub arrival: Option<Arrival>,
    /// Namespaces that veth devices may be followed into.
    pub places: Vec<Place>,
    /// Follow them into all that they lead to, but for `foreign` ones.
    pub neighbours: bool,
    pub foreign: Vec<u32>,
}

/// By which device a frame comes in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// None for the one that has the address that the frame is for.
    pub device: Option<String>,
    pub frame: Frame,
}

/// What became of it there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Passage {
    pub answers: Vec<Answered>,
    pub next: Next,
    /// As it leaves.
    pub wrap: Option<Wrap>,
}

/// One answer of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    pub device: String,
    /// `rx`, `route`, `neighbour`, `fdb`, `nft`, `tx`, `drop`.
    pub event: String,
    pub text: String,
    /// Whether a tunnel wraps the packet here.
    pub wrapped: bool,
}

/// Where it goes from there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    /// It is for this namespace.
    Here,
    /// Through a veth device.
    Into { place: Place, arrival: Arrival },
    /// Out of a device that leads out of the node, or nobody knows where.
    Out { device: String, frame: Frame },
    /// By what the kernel calls `reason`, in `function`.
    Dropped { device: String, reason: String, function: Option<String>, why: String },
}

/// Follows a packet through its namespace. `others` are the namespaces that veth devices may lead to.
pub fn pass(passing: &Passing, others: &[Place]) -> anyhow::Result<Passage> {
    let netns = Netns::open(&passing.place.path)?;
    let mut walk = Walk {
        space: Space::look(passing.place.clone())?,
        netlink: Netlink::open_in(&netns)?,
        nft: Nft::open_in(&netns)?,
        flow: passing.flow,
        wrap: passing.wrap,
        others,
        answers: Vec::new(),
    };
    let next = match &passing.arrival {
        None => walk.send(),
        Some(arrival) => walk.receive(arrival),
    }?;
    Ok(Passage { answers: walk.answers, next, wrap: walk.wrap })
}

struct Walk<'a> {
    space: Space,
    netlink: Netlink,
    nft: Nft,
    flow: Flow,
    wrap: Option<Wrap>,
    others: &'a [Place],
    answers: Vec<Answered>,
}

impl Walk<'_> {
    /// What is on the wire here.
    fn on_wire(&self) -> Flow {
        self.wrap.map_or(self.flow, |wrap| wrap.outer)
    }

    fn say(&mut self, device: &str, event: &str, text: impl Into<String>) {
        let wrapped = self.wrap.is_some();
        self.answers.push(Answered {
            device: device.to_owned(),
            event: event.to_owned(),
            text: text.into(),
            wrapped,
        });
    }

    fn drop(&self, device: &str, (reason, function): (&str, Option<&str>), why: impl Into<String>) -> Next {
        let function = function.map(ToOwned::to_owned);
        Next::Dropped { device: device.to_owned(), reason: reason.to_owned(), function, why: why.into() }
    }

    /// A frame that comes in.
    fn receive(&mut self, arrival: &Arrival) -> anyhow::Result<Next> {
        let frame = arrival.frame;
        let link = match &arrival.device {
            Some(name) => self.space.link(name),
            None => self.owner(frame.next),
        };
        let link = link
            .cloned()
            .with_context(|| format!("{} has no device for {}", self.space.place.name, frame.next))?;
        self.say(&link.name, "rx", "");
        if !link.is_up() {
            return Ok(self.drop(&link.name, ("DEV_READY", None), "the device is down"));
        }
        match link.master.and_then(|master| self.space.link_at(master)).filter(|it| it.is_bridge()).cloned() {
            Some(bridge) if self.takes(&bridge, frame) || link.mac.map(|mac| mac.0) == frame.mac => {
                self.say(&bridge.name, "rx", "for the bridge itself");
                self.deliver_or_forward(&bridge)
            }
            Some(bridge) => self.bridge(&bridge, Some(&link), frame),
            None if self.takes(&link, frame) => self.deliver_or_forward(&link),
            None => {
                let why = format!("the frame is for {}, the device is another", answers::mac(frame.mac));
                Ok(self.drop(&link.name, ("OTHERHOST", None), why))
            }
        }
    }

    /// The device with this address.
    fn owner(&self, address: IpAddr) -> Option<&Link> {
        let owner = self.space.addresses.iter().find(|it| it.network.ip() == address)?;
        self.space.link_at(owner.link)
    }

    /// Whether a frame is for this device; without a MAC address, whether the address is its.
    fn takes(&self, link: &Link, frame: Frame) -> bool {
        match frame.mac {
            Some(mac) => link.mac.is_none_or(|its| its.0 == mac),
            None => self.owner(frame.next).is_some_and(|owner| owner.index == link.index),
        }
    }

    /// A packet that came in by `link`, for this namespace or through it.
    fn deliver_or_forward(&mut self, link: &Link) -> anyhow::Result<Next> {
        self.chains(Hook::Prerouting, &link.name)?;
        let route = match self.route(Some(link))? {
            Ok(route) => route,
            Err(dropped) => return Ok(dropped),
        };
        if route.kind == LOCAL {
            self.chains(Hook::Input, &link.name)?;
            return self.deliver(link);
        }
        if let Some(dropped) = self.not_forwarded(link)? {
            return Ok(dropped);
        }
        self.chains(Hook::Forward, &link.name)?;
        self.chains(Hook::Postrouting, &link.name)?;
        self.leave_by(&route, Some(link))
    }

    /// A packet that begins here, or a tunnel's.
    fn send(&mut self) -> anyhow::Result<Next> {
        let route = match self.route(None)? {
            Ok(route) => route,
            Err(dropped) => return Ok(dropped),
        };
        self.chains(Hook::Output, "")?;
        self.chains(Hook::Postrouting, "")?;
        if route.kind == LOCAL {
            return Ok(Next::Here);
        }
        self.leave_by(&route, None)
    }

    fn deliver(&mut self, link: &Link) -> anyhow::Result<Next> {
        let Some(wrap) = self.wrap else { return Ok(Next::Here) };
        let Protocol::Udp(port) = wrap.outer.protocol else { return Ok(Next::Here) };
        let is_end = |it: &&Link| matches!(it.kind, Some(Kind::Vxlan { vni, port: its, .. }) if vni == wrap.vni && its == port);
        match self.space.links.iter().find(is_end).filter(|it| it.is_up()) {
            Some(tunnel) => {
                let arrival = Arrival { device: Some(tunnel.name.clone()), frame: wrap.inner };
                self.wrap = None;
                self.receive(&arrival)
            }
            None => {
                let why = format!("no VXLAN device with number {} is up at port {port}", wrap.vni);
                Ok(self.drop(&link.name, ("NO_SOCKET", None), why))
            }
        }
    }

    /// Out of a device as a frame for the next hop; `iif` is what it came in by.
    fn leave_by(&mut self, route: &Route, iif: Option<&Link>) -> anyhow::Result<Next> {
        let link = route
            .dev
            .and_then(|dev| self.space.link_at(dev))
            .cloned()
            .context("the route names no device")?;
        let destination = self.on_wire().destination;
        let frame = self.neighbour(&link, route.gateway.unwrap_or(destination));
        let (device, function) = match iif {
            Some(iif) => (&iif.name, Some(FORWARD)),
            None => (&link.name, None),
        };
        if let Some(dropped) = self.unfit(&link, device, ("PKT_TOO_BIG", function)) {
            return Ok(dropped);
        }
        match link.kind {
            Some(Kind::Bridge { .. }) => {
                self.say(&link.name, "tx", "");
                self.bridge(&link, None, frame)
            }
            _ => self.leave(&link, frame),
        }
    }

    /// Why a device does not take it; what is too large is dropped at `device` as `too_large` says.
    fn unfit(&self, link: &Link, device: &str, too_large: (&str, Option<&str>)) -> Option<Next> {
        if !link.is_up() {
            return Some(self.drop(&link.name, ("DEV_READY", None), "the device is down"));
        }
        let len = self.on_wire().len;
        let why = || format!("{len} bytes do not fit into the MTU of {}, {}", link.name, link.mtu);
        (len > link.mtu).then(|| self.drop(device, too_large, why()))
    }

    /// Through a bridge; `from` is the port it came in by.
    fn bridge(&mut self, bridge: &Link, from: Option<&Link>, frame: Frame) -> anyhow::Result<Next> {
        if from.is_some() {
            self.bridge_chains(bridge)?;
        }
        let table = fdb::list_all(&mut self.netlink)?;
        let is_port = |it: &Link| it.master == Some(bridge.index);
        let known = table.iter().filter(|it| Some(it.mac.0) == frame.mac && it.table == fdb::Table::Master);
        let mut known =
            known.filter_map(|it| Some((self.space.link_at(it.link).filter(|it| is_port(it))?.clone(), it)));
        let shown = answers::mac(frame.mac);
        if let Some((port, entry)) = known.next_back() {
            let state = if entry.permanent { "permanent" } else { "learned" };
            self.say(&port.name, "fdb", format!("{shown} is behind it ({state})"));
            let is_back = from.is_some_and(|from| from.index == port.index);
            if is_back && !port.port.is_some_and(|it| it.hairpin) {
                let why = "the bridge does not send out of the port it came in by (hairpin off)";
                return Ok(self.drop(&port.name, ("NOT_SPECIFIED", Some("br_handle_frame_finish")), why));
            }
            return self.leave_port(&port, frame);
        }
        let ports = self
            .space
            .links
            .iter()
            .filter(|it| is_port(it) && from.is_none_or(|from| from.index != it.index));
        let ports: Vec<Link> = ports.filter(|it| it.is_up()).cloned().collect();
        let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
        self.say(&bridge.name, "fdb", format!("{shown} is not known, to all ports: {}", names.join(", ")));
        let mut unknown = None;
        for port in &ports {
            match self.far(port)? {
                Some((place, far)) if fits(&place, &far, frame)? => return self.leave_port(port, frame),
                Some(_) => {}
                None => unknown = unknown.or(Some(port)),
            }
        }
        match unknown {
            Some(port) => self.leave_port(port, frame),
            None => Ok(self.drop(
                &bridge.name,
                ("NOT_SPECIFIED", Some("br_flood")),
                "nobody behind its ports takes it",
            )),
        }
    }

    fn leave_port(&mut self, port: &Link, frame: Frame) -> anyhow::Result<Next> {
        if let Some(dropped) = self.unfit(port, &port.name, ("NOT_SPECIFIED", Some("br_forward"))) {
            return Ok(dropped);
        }
        self.leave(port, frame)
    }

    /// Out of a device that is no bridge.
    fn leave(&mut self, link: &Link, frame: Frame) -> anyhow::Result<Next> {
        self.say(&link.name, "tx", "");
        if let Some(Kind::Vxlan { vni, port, local, .. }) = link.kind {
            return self.wrap_up(link, Wrap { vni, outer: self.outer(local, port), inner: frame });
        }
        Ok(match self.far(link)? {
            Some((place, far)) => Next::Into { place, arrival: Arrival { device: Some(far.name), frame } },
            None => Next::Out { device: link.name.clone(), frame },
        })
    }

    /// A tunnel's packet; its destination is not known yet.
    fn outer(&self, local: Option<IpAddr>, port: u16) -> Flow {
        let any: IpAddr = std::net::Ipv4Addr::UNSPECIFIED.into();
        let source = local.unwrap_or(any);
        // Ethernet, VXLAN, UDP and IP headers.
        let headers = 14 + 8 + 8 + if source.is_ipv4() { 20 } else { 40 };
        Flow { source, destination: any, protocol: Protocol::Udp(port), len: self.flow.len + headers }
    }

    fn wrap_up(&mut self, tunnel: &Link, mut wrap: Wrap) -> anyhow::Result<Next> {
        if self.wrap.is_some() {
            anyhow::bail!("{} would wrap a tunnel's packet, which is not simulated", tunnel.name);
        }
        let table = fdb::list(&mut self.netlink, tunnel.index)?;
        let behind = |mac: [u8; 6]| table.iter().find_map(|it| it.remote.filter(|_| it.mac.0 == mac));
        let shown = answers::mac(wrap.inner.mac);
        let Some(remote) = wrap.inner.mac.and_then(behind).or_else(|| behind([0; 6])) else {
            let why = format!("{shown} is behind no known end of the tunnel");
            return Ok(self.drop(&tunnel.name, ("NO_TX_TARGET", None), why));
        };
        self.say(&tunnel.name, "fdb", format!("{shown} is behind {remote}, VXLAN {}", wrap.vni));
        wrap.outer.destination = remote;
        self.wrap = Some(wrap);
        self.send()
    }

    /// The other end of a veth device, where it may be followed.
    fn far(&mut self, link: &Link) -> anyhow::Result<Option<(Place, Link)>> {
        let Some(index) = link.parent.filter(|_| link.is_veth()) else { return Ok(None) };
        let Some(number) = link.peer_netnsid else {
            let near = self.space.link_at(index).cloned();
            return Ok(near.map(|far| (self.space.place.clone(), far)));
        };
        for place in self.others {
            let netns = Netns::open(&place.path)?;
            if number_of(&mut self.netlink, &netns)? == Some(number) {
                let far = link::by_index(&mut Netlink::open_in(&netns)?, index)?;
                return Ok(Some((place.clone(), far)));
            }
        }
        Ok(None)
    }
}

/// Whether a flooded frame is for the far end, or what is behind it.
fn fits(place: &Place, far: &Link, frame: Frame) -> anyhow::Result<bool> {
    Ok(match frame.mac.map(MacAddr) {
        Some(mac) => far.mac == Some(mac) || far.master.is_some(),
        None => far.master.is_some() || place.addresses()?.contains(&frame.next),
    })
}

/// Where the kernel drops what is too large to be forwarded, and tells the sender.
pub const FORWARD: &str = "ip_forward";
/// `RTN_LOCAL`.
const LOCAL: u8 = 2;
