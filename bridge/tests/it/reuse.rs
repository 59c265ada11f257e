//! An address that another container has now is reached at once, whoever still knows the old one.

use std::{net::IpAddr, time::Duration};

use serde_json::json;
use testenv::{ns::Ns, wait};

use crate::net::{attach, fixed, layer2, run};

/// The kernel trusts an old neighbour entry for 5 seconds and more (neigh_timer_handler): within this, packets for it are
/// never answered.
const PATIENCE: Duration = Duration::from_secs(3);
/// A container takes an IPv6 address for its own from a work queue on (addrconf_dad_work), which a busy machine runs late.
const ONE_PING: Duration = Duration::from_millis(200);

/// Whether the address is reached long before old neighbour entries go by themselves.
fn reaches(from: &Ns, address: IpAddr) -> bool {
    wait::poll(PATIENCE, || from.ping(address, ONE_PING).ok()).is_some()
}

#[test]
fn a_reused_address_is_reachable_at_once() {
    run("reuse", |lab| {
        let addresses = ["10.1.0.50/16", "fd00:1::50/64"];
        let config = fixed(&addresses, json!({}));
        let sibling = fixed(&["10.1.0.9/16", "fd00:1::9/64"], json!({}));
        let sibling = attach(lab, &sibling, "sibling");
        // The outside is a machine on the bridge's segment that knows nothing of us.
        let outside = lab.netns("outside");
        lab.host().add_veth("wire", &outside, "wire0");
        lab.host().set_master("wire", "cni0");
        for address in ["10.1.0.8/16", "fd00:1::8/64"] {
            outside.add_address("wire0", address);
        }
        outside.set_sysctl("net.ipv6.conf.wire0.accept_dad", "0");
        lab.host().set_up("wire");
        outside.set_up("wire0");
        for name in ["first", "second", "third"] {
            let one = attach(lab, &config, name);
            for from in [&sibling.ns, &outside] {
                for index in [0, 1] {
                    let address = one.ip(index);
                    assert!(reaches(from, address), "{name} from {}: {address}", from.name());
                }
            }
            one.detach();
        }
        sibling.detach();
        lab.host().remove_link("wire");
        outside.rebase();
    });
}

/// The host itself has an old entry too, as the router.
#[test]
fn the_gateway_learns_of_it() {
    run("reuse_gateway", |lab| {
        let addresses = ["10.1.0.50/16", "fd00:1::50/64"];
        let config = fixed(&addresses, json!({"isGateway": true}));
        for name in ["first", "second", "third"] {
            let one = attach(lab, &config, name);
            for index in [0, 1] {
                assert!(reaches(lab.host(), one.ip(index)), "{name}: {}", one.ip(index));
            }
            one.detach();
        }
        attach(lab, &layer2(json!({})), "last").detach();
    });
}
