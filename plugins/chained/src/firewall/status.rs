//! Where the host's filter can't be told by us: what its administrator has to tell it.

use std::fs;

use attach::ruleset::host_forward::commands;
use cni::{
    error::{Code, Error},
    names::NetworkName,
};
use ipnetwork::IpNetwork;
use kernel::nft::{
    Nft,
    table::{Family, Table},
};

use super::{
    config::Config,
    state::{Guarded, records},
};

/// Fails with code 51 where firewalld rejects what the network's containers send, and says the command that mends it. In the
/// log it tells what may be needed where iptables is not of the nft variant: whether it is can't be seen from here.
pub(super) fn check(nft: &mut Nft, config: &Config, network: &NetworkName) -> anyhow::Result<()> {
    let mut subnets: Vec<_> =
        records(network).all::<Guarded>()?.iter().flat_map(|record| record.data.subnets()).collect();
    subnets.sort();
    subnets.dedup();
    for command in legacy(&subnets) {
        log::warn!("{network}: if FORWARD of iptables-legacy drops by default, it needs: {command}");
    }
    if !nft.tables(Family::Inet)?.iter().any(|table| table == FIREWALLD.name) {
        return Ok(());
    }
    let unknown: Vec<_> = subnets.into_iter().filter(|subnet| !is_known(nft, *subnet)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let command = |subnet: &IpNetwork| {
        let zone = &config.zone;
        format!("firewall-cmd --permanent --zone={zone} --add-source={subnet} && firewall-cmd --reload")
    };
    let commands: Vec<_> = unknown.iter().map(command).collect();
    let words = format!("firewalld does not know network {network}; it needs: {}", commands.join("; "));
    Err(Error::new(Code::LimitedConnectivity, words).into())
}

/// A zone's sources are comparisons in rules that lead to it.
fn is_known(nft: &mut Nft, subnet: IpNetwork) -> bool {
    let bytes = match subnet.network() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    let used = usize::from(subnet.prefix()).div_ceil(8);
    // nft leaves out the bytes that a mask of whole bytes clears.
    let is_it = |value: &[u8]| value == bytes || value == &bytes[..used];
    let rules = nft.rules(FIREWALLD.chain("filter_FORWARD_ZONES")).unwrap_or_default();
    let older = nft.rules(FIREWALLD.chain("filter_FORWARD_IN_ZONES")).unwrap_or_default();
    rules.iter().chain(&older).any(|rule| rule.comparisons().any(is_it))
}

/// The tables of iptables-legacy that are in use are listed by the kernel.
fn legacy(subnets: &[IpNetwork]) -> Vec<String> {
    let used =
        |names: &str| fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == "filter"));
    let (v4, v6) = (used("/proc/net/ip_tables_names"), used("/proc/net/ip6_tables_names"));
    let concerned = subnets.iter().filter(|subnet| if subnet.is_ipv4() { v4 } else { v6 });
    concerned.flat_map(|subnet| commands(*subnet)).collect()
}

const FIREWALLD: Table<'static> = Table { family: Family::Inet, name: "firewalld" };
