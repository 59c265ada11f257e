//! The other kinds of links that Debian's package of the Go plugins makes, with addresses of both families: for a guest whose kernel
//! has them.

use serde_json::json;

use super::{Subject, dual};

pub(super) const IPVLAN: Subject = Subject {
    title: "ipvlan, both families",
    programs: &[("ipvlan", "ipvlan"), ("ipam", "host-local")],
    prepare: dual::wire,
    needs: Some("ipvlan"),
    beside: false,
    chain: |network, _| {
        Ok(vec![json!({ "type": "ipvlan", "master": network.name, "ipam": dual::ipam(network) })])
    },
    floor: None,
    cases: &[(0, &[1])],
    budgets: &[],
};

/// Each attachment has a VLAN of its own.
pub(super) const VLAN: Subject = Subject {
    title: "vlan, both families",
    programs: &[("ipam", "host-local"), ("vlan", "vlan")],
    prepare: dual::wire,
    needs: Some("vlan"),
    beside: false,
    chain: |network, slot| {
        let (master, ipam) = (&network.name, dual::ipam(network));
        Ok(vec![json!({ "type": "vlan", "master": master, "vlanId": slot + 1, "ipam": ipam })])
    },
    floor: None,
    cases: &[(0, &[1])],
    budgets: &[],
};
