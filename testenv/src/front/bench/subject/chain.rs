//! What podman and containerd ask for: a masqueraded bridge, a published port, a firewall.

use serde_json::json;

use super::{Subject, bridge, nothing, peer};
use crate::front::bench::MANY;

pub(super) const PUBLISHED: Subject = Subject {
    title: "bridge + ipMasq + portmap + firewall",
    programs: &[
        ("bridge", "bridge"),
        ("ipam", "host-local"),
        ("chained", "portmap"),
        ("chained", "firewall"),
    ],
    prepare: nothing,
    needs: None,
    beside: false,
    chain: |network, slot| {
        let port = 10_000 + 100 * usize::from(network.number) + slot;
        let ports = json!([{ "hostPort": port, "containerPort": 80, "protocol": "tcp" }]);
        Ok(vec![
            bridge::conf(network, true),
            json!({
                "type": "portmap", "capabilities": { "portMappings": true },
                "runtimeConfig": { "portMappings": ports },
            }),
            json!({ "type": "firewall" }),
        ])
    },
    floor: None,
    cases: &[(0, &[1, MANY])],
    budgets: &[peer("ADD", 1, 10.0), peer("DEL", 1, 5.0), peer("ADD", MANY, 10.0), peer("DEL", MANY, 10.0)],
};

/// The network's first and last attachment make and remove what all share, such as the accepts in the host's filter.
pub(super) const BESIDE: Subject = Subject {
    title: "bridge + ipMasq + portmap + firewall, beside another",
    needs: None,
    beside: true,
    cases: &[(0, &[1])],
    budgets: &[peer("ADD", 1, 10.0), peer("DEL", 1, 5.0)],
    ..PUBLISHED
};
