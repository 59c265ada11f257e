//! Connections that the kernel remembers, and that would go on to where a port led before.
//!
//! A flow of UDP or SCTP is pinned by its first packet, and lives as long as the sender goes on: to a container that is
//! gone, or to the host itself if it began before the port was published. Connections of others to ports of the same
//! number are left alone, and so are those of the host's other addresses.

use std::{collections::BTreeSet, fs, net::IpAddr};

use attach::ruleset::publish::Port;
use kernel::{
    address,
    conntrack::{Conntrack, Filter, Flow},
    error::Result,
    netlink::Netlink,
};

use super::config::TCP;

/// Forgets the connections that were led to these ports of a container.
pub(super) fn forget_own(ports: &[&Port]) -> Result<()> {
    if ports.is_empty() || nothing_is_tracked() {
        return Ok(());
    }
    let mut conntrack = Conntrack::open()?;
    let (few, many) = split(ports, 1);
    for port in few {
        conntrack.delete(&Filter {
            reply_source: Some(port.container),
            reply_source_port: Some(port.container_port),
            ..to_port(port, specified(port.host))
        })?;
    }
    let leads = |port: &Port, flow: &Flow| {
        (flow.reply.source, flow.reply.source_port) == (port.container, port.container_port)
            && (port.host.is_unspecified() || flow.original.destination == port.host)
    };
    let narrowed = |port: &Port| Filter { reply_source: Some(port.container), ..of_protocol(port) };
    forget(&mut conntrack, &many, narrowed, leads)
}

/// Forgets the connections to these ports that are led elsewhere, or nowhere. TCP begins anew by itself.
pub(super) fn forget_foreign(host: &mut Netlink, ports: &[&Port]) -> Result<()> {
    let ports: Vec<_> = ports.iter().copied().filter(|port| port.protocol != TCP).collect();
    if ports.is_empty() || nothing_is_tracked() {
        return Ok(());
    }
    let local: BTreeSet<IpAddr> =
        address::list_all(host)?.into_iter().map(|address| address.network.ip()).collect();
    let mut conntrack = Conntrack::open()?;
    let v4 = local.iter().filter(|address| address.is_ipv4());
    let (few, many) = split(&ports, v4.clone().count());
    for port in few {
        match specified(port.host) {
            Some(host) => conntrack.delete(&to_port(port, Some(host)))?,
            None => v4.clone().try_for_each(|&address| conntrack.delete(&to_port(port, Some(address))))?,
        }
    }
    let strays = |port: &Port, flow: &Flow| {
        let destination = flow.original.destination;
        let is_to =
            if port.host.is_unspecified() { local.contains(&destination) } else { destination == port.host };
        is_to && flow.reply.source != port.container
    };
    forget(&mut conntrack, &many, of_protocol, strays)
}

/// Those that the kernel can flush by a filter in a bearable number of requests (it walks its table in each), and the
/// others, for which the table is read. It can't filter by IPv6 addresses.
fn split<'a>(ports: &[&'a Port], requests_each: usize) -> (Vec<&'a Port>, Vec<&'a Port>) {
    let (v4, v6): (Vec<_>, Vec<_>) = ports.iter().copied().partition(|port| port.container.is_ipv4());
    if v4.len() * requests_each <= MOST_REQUESTS { (v4, v6) } else { (vec![], ports.to_vec()) }
}

/// Reads the table once for each protocol and family, and forgets what `is_stale` says of a port that it was sent to.
fn forget(
    conntrack: &mut Conntrack,
    ports: &[&Port],
    filter: impl Fn(&Port) -> Filter,
    is_stale: impl Fn(&Port, &Flow) -> bool,
) -> Result<()> {
    let mut kinds: Vec<Filter> = Vec::new();
    for port in ports {
        let filter = filter(port);
        if !kinds.contains(&filter) {
            kinds.push(filter);
        }
    }
    let mut by_key: Vec<_> = ports.iter().map(|port| (key(port), *port)).collect();
    by_key.sort();
    for kind in kinds {
        for flow in conntrack.list(&kind)? {
            let wanted = (flow.protocol, flow.original.destination_port, flow.original.destination.is_ipv4());
            let first = by_key.partition_point(|(key, _)| *key < wanted);
            let mut candidates = by_key[first..].iter().take_while(|(key, _)| *key == wanted);
            if candidates.any(|(_, port)| is_stale(port, &flow)) {
                conntrack.forget(&flow)?;
            }
        }
    }
    Ok(())
}

fn key(port: &Port) -> (u8, u16, bool) {
    (port.protocol, port.host_port, port.container.is_ipv4())
}

fn to_port(port: &Port, host: Option<IpAddr>) -> Filter {
    Filter::to_port(port.protocol, host, port.host_port)
}

fn of_protocol(port: &Port) -> Filter {
    Filter { protocol: Some(port.protocol), ..Filter::default() }
}

fn specified(host: IpAddr) -> Option<IpAddr> {
    Some(host).filter(|host| !host.is_unspecified())
}

fn nothing_is_tracked() -> bool {
    fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").is_ok_and(|count| count.trim() == "0")
}

const MOST_REQUESTS: usize = 16;
