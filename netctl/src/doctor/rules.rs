//! The rules, by what they look at.

use super::Rule;

mod addresses;
mod agents;
mod attachments;
mod configuration;
mod flows;
mod host;
mod names;
mod neighbours;
mod routes;
mod tunnels;

/// In the order of their codes.
pub const ALL: &[Rule] = &[
    agents::AGENT_DOWN,
    host::BR_NETFILTER_OFF,
    host::BRIDGE_ADDR_MISMATCH,
    attachments::BRIDGE_PORT_MISSING,
    configuration::CONFIG_INVALID,
    flows::CONNTRACK_STALE,
    routes::CONTAINER_NO_DEFAULT_ROUTE,
    agents::DIRECTORY_UNREACHABLE,
    names::DNS_BLOCKED,
    names::DNS_UNSERVED,
    addresses::DUP_IP,
    addresses::DUP_MAC,
    tunnels::FDB_STALE,
    host::FORWARD_DROP,
    flows::HAIRPIN_NO_MASQ,
    attachments::HAIRPIN_OFF,
    host::IP_FORWARD_OFF,
    addresses::IPAM_EXHAUSTED,
    addresses::IPAM_LEAK,
    host::MACVLAN_HOST_ISOLATION,
    attachments::MASQ_MISSING,
    attachments::MTU_BLACKHOLE,
    tunnels::NEIGH_STALE,
    attachments::NETNS_LEAK,
    configuration::PLUGIN_MISSING,
    flows::PMTUD_BLACKHOLE,
    attachments::PORTMAP_MISSING,
    routes::ROUTE_MISSING,
    routes::RP_FILTER,
    attachments::STALE_ATTACHMENT,
    addresses::SUBNET_OVERLAP,
    tunnels::VNI_MISMATCH,
    tunnels::VTEP_MAC_MISMATCH,
    tunnels::VXLAN_BAD_CSUM,
    tunnels::VXLAN_PATH_BLOCKED,
    tunnels::VXLAN_PORT_BLOCKED,
    tunnels::VXLAN_PORT_CONFLICT,
    tunnels::VXLAN_PORT_MISMATCH,
];

/// The command that takes back what stops packets, as [`crate::facts::firewall::Chain::stops`] names it.
fn undo(rule: &str) -> String {
    match rule.strip_suffix(" policy") {
        Some(chain) => format!("nft chain {chain} '{{ policy accept; }}'"),
        None => format!("nft delete rule {rule}"),
    }
}

/// The rule of that code.
pub fn find(code: &str) -> Option<&'static Rule> {
    ALL.iter().find(|rule| rule.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row for each in the README, as the rule has it.
    #[test]
    fn the_readme_says_who_mends() {
        let readme = include_str!("../../README.md");
        for rule in ALL {
            let (who, what) = rule.remedy.words();
            let row = format!("| `{}` | {who} | {what} |", rule.code);
            assert!(readme.contains(&row), "{row}");
        }
    }

    #[test]
    fn every_rule_says_what_it_is_about() {
        assert!(ALL.is_sorted_by_key(|rule| rule.code));
        for rule in ALL {
            assert!(!rule.summary.is_empty() && rule.text.len() > 80, "{}", rule.code);
            assert_eq!(find(rule.code).map(|found| found.summary), Some(rule.summary));
        }
    }
}
