//! The kernel's answers in words: the route and the rule that leads to it, the neighbour, the chains that would be met.

use std::net::IpAddr;

use kernel::{
    error::Error,
    link::Link,
    mac::MacAddr,
    neighbour,
    nft::table::{Family, Hook},
    route::{self, Packet, Route},
    rule::{self, Rule},
    sysctl,
};
use nix::errno::Errno;

use super::{Frame, Next, Walk};
use crate::trace::{nftrace, probe::Protocol};

impl Walk<'_> {
    /// The route of what is on the wire, by `iif` or from here, or why there is none.
    pub(super) fn route(&mut self, iif: Option<&Link>) -> anyhow::Result<Result<Route, Next>> {
        let flow = self.on_wire();
        let (number, port) = match flow.protocol {
            Protocol::Icmp if flow.destination.is_ipv4() => (1, None),
            Protocol::Icmp => (58, None),
            Protocol::Tcp(port) => (6, Some(port)),
            Protocol::Udp(port) => (17, Some(port)),
        };
        let packet = Packet {
            source: Some(flow.source).filter(|source| !source.is_unspecified()),
            iif: iif.map(|link| link.index),
            protocol: Some(number),
            port,
            ..Packet::to(flow.destination)
        };
        let name = iif.map(|link| link.name.clone()).unwrap_or_default();
        let taken = match route::taken(&mut self.netlink, &packet) {
            Ok(taken) => taken,
            Err(err) => {
                let Some(mut reason) = refusal(err.raw_os_error(), iif.is_some()) else {
                    return Err(err.into());
                };
                if self.is_source_refused(&err, &packet, iif)? {
                    reason = RPFILTER;
                }
                self.say(&name, "route", format!("none to {}: {err}", flow.destination));
                return Ok(Err(self.drop(&name, reason, format!("no route from here: {err}"))));
            }
        };
        let matched = route::matched(&mut self.netlink, &packet)?;
        let text = self.worded(&taken, &matched, &name)?;
        let device = taken.dev.and_then(|dev| self.space.link_at(dev)).map(|link| link.name.clone());
        self.say(&device.unwrap_or_default(), "route", text);
        Ok(match taken.kind {
            BLACKHOLE | UNREACHABLE | PROHIBIT => {
                Err(self.drop(&name, ("IP_INNOROUTES", None), "the route refuses it"))
            }
            _ => Ok(taken),
        })
    }

    /// Whether the reverse path filter refuses a packet that comes in. Linux from 6.13 on says EINVAL of that as of a route
    /// that swallows packets (inet_rtm_getroute); but then nobody can send there.
    fn is_source_refused(
        &mut self,
        err: &Error,
        packet: &Packet,
        iif: Option<&Link>,
    ) -> anyhow::Result<bool> {
        let Some(iif) = iif.filter(|_| err.raw_os_error() == Some(Errno::EINVAL as i32)) else {
            return Ok(false);
        };
        let sendable =
            route::taken(&mut self.netlink, &Packet { source: None, iif: None, ..*packet }).is_ok();
        let paths = ["all", &iif.name].map(|link| sysctl::conf(route::Family::V4, link, "rp_filter"));
        let is_on = |path: &String| sysctl::read(path).is_ok_and(|value| value != "0");
        Ok(sendable && self.space.place.run(|| paths.iter().any(is_on))?)
    }

    /// `10.244.2.0/24 via 10.244.2.0 dev ovl, table 254, rule 32766`
    fn worded(&mut self, taken: &Route, matched: &Route, iif: &str) -> anyhow::Result<String> {
        let mut text = matched.dst.to_string();
        if taken.kind == super::LOCAL {
            text.insert_str(0, "local ");
        }
        if let Some(gateway) = taken.gateway {
            text += &format!(" via {gateway}");
        }
        if let Some(link) = taken.dev.and_then(|dev| self.space.link_at(dev)) {
            text += &format!(" dev {}", link.name);
        }
        // The table of this host's own addresses is one with the main table as long as nobody adds rules (fib_unmerge).
        if taken.kind == super::LOCAL {
            return Ok(text);
        }
        text += &format!(", table {}", matched.table);
        let flow = self.on_wire();
        let family = if flow.destination.is_ipv4() { route::Family::V4 } else { route::Family::V6 };
        let rules = rule::list(&mut self.netlink, family)?;
        let leads =
            |rule: &&Rule| rule.table == matched.table && applies(rule, flow.source, flow.destination, iif);
        if let Some(priority) = rules.iter().find(leads).and_then(|rule| rule.priority) {
            text += &format!(", rule {priority}");
        }
        Ok(text)
    }

    /// Why nothing is forwarded. Of IPv4 the route tells; IPv6 looks at the setting only when it forwards.
    pub(super) fn not_forwarded(&self, iif: &Link) -> anyhow::Result<Option<Next>> {
        let path = sysctl::conf(route::Family::V6, "all", "forwarding");
        let is_off = || sysctl::read(&path).is_ok_and(|value| value == "0");
        let is_refused = self.on_wire().destination.is_ipv6() && self.space.place.run(is_off)?;
        let reason = ("NOT_SPECIFIED", Some("ip6_forward"));
        Ok(is_refused.then(|| self.drop(&iif.name, reason, "forwarding of IPv6 is off")))
    }

    /// Which MAC address the next hop has, as far as that is known.
    pub(super) fn neighbour(&mut self, link: &Link, next: IpAddr) -> Frame {
        let entry = self.space.neighbours.iter().find(|it| it.link == link.index && it.address == next);
        let known = entry.and_then(|it| it.mac.filter(|_| it.state & neighbour::FAILED == 0));
        let text = match (known, entry) {
            (Some(mac), Some(entry)) if entry.state == neighbour::PERMANENT => {
                format!("{next} has {mac} (permanent)")
            }
            (Some(mac), _) => format!("{next} has {mac}"),
            (None, Some(_)) => format!("{next} did not answer last, it would be asked for again"),
            (None, None) => format!("{next} is not known, it would be asked for"),
        };
        self.say(&link.name, "neighbour", text);
        Frame { mac: known.map(|mac| mac.0), next }
    }

    /// The chains of a hook that a packet would meet.
    pub(super) fn chains(&mut self, hook: Hook, device: &str) -> anyhow::Result<()> {
        let of_family =
            if self.on_wire().destination.is_ipv4() { (Family::Ip, "ip") } else { (Family::Ip6, "ip6") };
        self.chains_of(&[(Family::Inet, "inet"), of_family], hook, device)
    }

    /// Those that a frame meets in a bridge; with br_netfilter IP's too.
    pub(super) fn bridge_chains(&mut self, bridge: &Link) -> anyhow::Result<()> {
        let key = if self.on_wire().destination.is_ipv4() { "iptables" } else { "ip6tables" };
        let path = format!("net/bridge/bridge-nf-call-{key}");
        // Without br_netfilter there is no such file.
        let is_on = self.space.place.run(|| sysctl::read(&path))?.is_ok_and(|value| value == "1");
        for hook in [Hook::Prerouting, Hook::Forward, Hook::Postrouting] {
            self.chains_of(&[(Family::Bridge, "bridge")], hook, &bridge.name)?;
            if is_on {
                self.chains(hook, &bridge.name)?;
            }
        }
        Ok(())
    }

    fn chains_of(&mut self, families: &[(Family, &str)], hook: Hook, device: &str) -> anyhow::Result<()> {
        let mut met = Vec::new();
        for (family, name) in families {
            let bases = self.nft.bases(*family, hook)?;
            let bases = bases.into_iter().filter(|base| !base.table.starts_with(nftrace::TABLE));
            met.extend(bases.map(|base| {
                let policy = if base.drops { " (policy drop)" } else { "" };
                format!("{name} {} {}{policy}", base.table, base.chain)
            }));
        }
        if !met.is_empty() {
            let hook = format!("{hook:?}").to_lowercase();
            self.say(device, "nft", format!("not simulated, {hook}: {}", met.join(", ")));
        }
        Ok(())
    }
}

/// `02:00:00:00:00:01`
pub(super) fn mac(mac: Option<[u8; 6]>) -> String {
    mac.map_or_else(|| "an address not known yet".to_owned(), |mac| MacAddr(mac).to_string())
}

/// Whether a rule is about such packets; marks are not known here.
fn applies(rule: &Rule, source: IpAddr, destination: IpAddr, iif: &str) -> bool {
    let iif = if iif.is_empty() { "lo" } else { iif };
    let fits = rule.src.is_none_or(|net| net.contains(source))
        && rule.dst.is_none_or(|net| net.contains(destination))
        && rule.iif.as_deref().is_none_or(|name| name == iif);
    rule.mark.is_none() && rule.oif.is_none() && fits != rule.invert
}

/// The reason that the kernel would give for the drop, and where (net/ipv4/route.c, ip_route_input_slow).
fn refusal(errno: Option<i32>, is_input: bool) -> Option<(&'static str, Option<&'static str>)> {
    Some(match (errno.map(Errno::from_raw)?, is_input) {
        (Errno::EXDEV, _) => RPFILTER,
        (Errno::EHOSTUNREACH, true) => ("IP_INADDRERRORS", Some("ip_error")),
        (Errno::ENETUNREACH | Errno::EACCES | Errno::EINVAL, true) => ("IP_INNOROUTES", None),
        (Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EACCES | Errno::EINVAL, false) => {
            ("IP_OUTNOROUTES", None)
        }
        _ => return None,
    })
}

const RPFILTER: (&str, Option<&str>) = ("IP_RPFILTER", Some("ip_rcv_finish_core"));

/// `RTN_*`.
const BLACKHOLE: u8 = 6;
const UNREACHABLE: u8 = 7;
const PROHIBIT: u8 = 8;
