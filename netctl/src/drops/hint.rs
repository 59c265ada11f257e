//! What a drop means: the reason and the function together, in words, and the code of the finding that it is. Pure.
//!
//! Measured on Linux 6.18: where a reason is not specified, the function tells.

/// What people should think of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    pub text: &'static str,
    /// The code that `netctl explain` knows; none where a drop alone does not tell.
    pub code: Option<&'static str>,
}

/// None when nothing is known beyond the reason's name. `function` may have an offset.
pub fn hint(reason: &str, function: &str) -> Option<Hint> {
    let function = function.split('+').next().unwrap_or_default();
    let (text, code) = match (reason, function) {
        ("NETFILTER_DROP", _) => ("a rule or a policy dropped it", None),
        ("IP_RPFILTER", _) => ("the way back to its source leads elsewhere (rp_filter)", Some("rp-filter")),
        ("NEIGH_FAILED", _) => ("nobody answers for the address of the next hop", None),
        ("NEIGH_QUEUEFULL", _) => ("too many wait for the address of the next hop", None),
        ("PKT_TOO_BIG", _) => ("larger than the MTU of the next device", None),
        (
            "NOT_SPECIFIED",
            "br_forward" | "__br_forward" | "br_nf_dev_queue_xmit" | "br_dev_queue_push_xmit",
        ) => ("larger than the MTU of the bridge's port", Some("mtu-blackhole")),
        ("NOT_SPECIFIED", "br_handle_frame_finish" | "br_flood") => (
            "a bridge does not send out of the port that a packet came in by: hairpin is off",
            Some("hairpin-off"),
        ),
        ("IP_INADDRERRORS", "ip_error") => ("forwarding is off", Some("ip-forward-off")),
        ("IP_INNOROUTES" | "IP_OUTNOROUTES", _) => ("no route leads there", Some("route-missing")),
        ("NO_SOCKET", _) => ("nobody listens there", None),
        ("UDP_CSUM" | "TCP_CSUM" | "IP_CSUM", _) => ("its checksum is wrong", None),
        _ => return None,
    };
    Some(Hint { text, code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_tells_what_the_reason_does_not() {
        let code = |reason, function| hint(reason, function).and_then(|hint| hint.code);
        assert_eq!(code("NOT_SPECIFIED", "br_handle_frame_finish+0x380"), Some("hairpin-off"));
        assert_eq!(code("NOT_SPECIFIED", "br_nf_dev_queue_xmit+0x526"), Some("mtu-blackhole"));
        assert_eq!(code("NOT_SPECIFIED", "elsewhere"), None);
    }
}
