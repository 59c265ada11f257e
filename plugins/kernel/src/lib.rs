//! What the plugins ask of Linux: namespaces, links, addresses, routes, neighbours, sysctls. Knows no CNI.
//!
//! One noun a module. A verb that changes something (`link::remove`, `address::add`, `route::replace`) is pure and
//! returns a [`netlink::Request`]; [`netlink::Netlink::execute`] sends one, [`netlink::Netlink::batch`] sends many in
//! one system call. A verb that reads (`link::by_name`, `route::list`) takes the socket and answers at once. So what
//! an attachment will do to the kernel is data first, and costs one round trip when it is done.
//!
//! Every [`netlink::Netlink`] belongs to the namespace it was opened in, and never leaves it; threads enter another
//! namespace only inside [`netns::Netns::run`].

pub mod address;
pub mod announce;
pub mod boot;
pub mod bridge;
pub mod bridge_vlan;
pub mod conntrack;
pub mod error;
pub mod fdb;
pub mod features;
pub mod forwarding;
pub mod frames;
pub mod ipvlan;
pub mod link;
pub mod listener;
pub mod mac;
pub mod macvlan;
pub mod neighbour;
mod netfilter;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod probe;
pub mod qdisc;
pub mod route;
pub mod routers;
pub mod rule;
pub mod saved;
pub mod sysctl;
pub mod tun;
pub mod veth;
pub mod vlan;
pub mod vrf;
pub mod vxlan;
