//! The finding that a drop is, in the shape of `netctl doctor`'s. Pure; says only what a drop proves by itself.

use serde_json::{Value, json};

use super::verdict::{Drop, Evidence, Outcome, Spot, Verdict};
use crate::drops::hint::hint;

/// At most one: a probe dies once.
pub fn findings(evidence: &Evidence, outcome: &Outcome) -> Vec<Value> {
    let Some(drop) = &outcome.drop else { return Vec::new() };
    let function = drop.function.as_deref().unwrap_or_default();
    let hint = hint(&drop.reason, function);
    let code = match drop.reason.as_str() {
        "NETFILTER_DROP" => filtered(evidence, drop),
        // An error told the sender the MTU, so there is no hole.
        "PKT_TOO_BIG" if outcome.verdict != Verdict::Rejected => Some("mtu-blackhole"),
        "UDP_CSUM" | "TCP_CSUM" if drop.wrapped => Some("vxlan-bad-csum"),
        _ => hint.and_then(|hint| hint.code),
    };
    let Some(code) = code else { return Vec::new() };
    let cause = drop.rule.clone().or_else(|| hint.map(|hint| hint.text.to_owned()));
    vec![json!({
        "code": code,
        "severity": "error",
        "where": {
            "node": drop.node, "netns": drop.netns, "device": drop.device, "file": null, "rule": drop.rule,
        },
        "message": format!("{} drops the probe", drop.node),
        "cause": cause,
        "fix": fix(code, drop),
        "evidence": [format!("{} in {function}", drop.reason)],
    })]
}

/// Tunnel packets are blocked at the tunnel's port; what neither end dropped was on its way through.
fn filtered(evidence: &Evidence, drop: &Drop) -> Option<&'static str> {
    if drop.wrapped {
        return Some("vxlan-port-blocked");
    }
    let is_at = |spot: &Spot| evidence.nodes.get(spot.node) == Some(&drop.node) && spot.netns == drop.netns;
    let at_an_end = is_at(&evidence.source) || evidence.destination.as_ref().is_some_and(is_at);
    (!at_an_end).then_some("forward-drop")
}

/// One command, to be run on the node; none where it takes a decision.
fn fix(code: &str, drop: &Drop) -> Option<String> {
    let device = &drop.device;
    match code {
        "rp-filter" => Some(format!("sysctl -w net.ipv4.conf.{device}.rp_filter=2")),
        "hairpin-off" => Some(format!("bridge link set dev {device} hairpin on")),
        "ip-forward-off" => Some("sysctl -w net.ipv4.ip_forward=1".to_owned()),
        _ => None,
    }
}
