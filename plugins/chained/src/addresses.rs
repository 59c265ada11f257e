//! The addresses of a result that belong to the attachment's own interface.

use cni::{names::IfName, result::AddResult};
use ipnetwork::IpNetwork;

/// As the reference finds them: those that name no interface, or one of the attachment's name.
pub(crate) fn of_interface(result: &AddResult, ifname: &IfName) -> Vec<IpNetwork> {
    let is_own =
        |index: usize| result.interfaces.get(index).is_none_or(|interface| interface.name == ifname.as_str());
    let own = result.ips.iter().filter(|ip| ip.interface.is_none_or(is_own));
    own.map(|ip| ip.address).collect()
}
