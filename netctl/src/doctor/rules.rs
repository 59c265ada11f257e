//! The rules, by what they look at.

use super::Rule;

mod addresses;
mod attachments;
mod configuration;
mod host;
mod routes;

/// In the order of their codes.
pub const ALL: &[Rule] = &[
    host::BR_NETFILTER_OFF,
    host::BRIDGE_ADDR_MISMATCH,
    attachments::BRIDGE_PORT_MISSING,
    configuration::CONFIG_INVALID,
    routes::CONTAINER_NO_DEFAULT_ROUTE,
    addresses::DUP_IP,
    addresses::DUP_MAC,
    host::FORWARD_DROP,
    attachments::HAIRPIN_OFF,
    host::IP_FORWARD_OFF,
    addresses::IPAM_EXHAUSTED,
    addresses::IPAM_LEAK,
    host::MACVLAN_HOST_ISOLATION,
    attachments::MASQ_MISSING,
    attachments::MTU_BLACKHOLE,
    attachments::NETNS_LEAK,
    configuration::PLUGIN_MISSING,
    attachments::PORTMAP_MISSING,
    routes::ROUTE_MISSING,
    routes::RP_FILTER,
    attachments::STALE_ATTACHMENT,
    addresses::SUBNET_OVERLAP,
];

/// The rule of that code.
pub fn find(code: &str) -> Option<&'static Rule> {
    ALL.iter().find(|rule| rule.code == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_says_what_it_is_about() {
        assert!(ALL.is_sorted_by_key(|rule| rule.code));
        for rule in ALL {
            assert!(!rule.summary.is_empty() && rule.text.len() > 80, "{}", rule.code);
            assert_eq!(find(rule.code).map(|found| found.summary), Some(rule.summary));
        }
    }
}
