//! The `dhcp` address plugin: addresses from whoever hands them out on the network outside, for containers that are on it
//! by a macvlan, a bridge's uplink or a device of their own.
//!
//! A lease has to be renewed for as long as the container lives, so an agent (`dhcp daemon`) keeps it; the plugin asks the
//! agent over a socket. `config` reads what is asked for, `plugin` is the verbs, `protocol` is what the two say to each
//! other, `message` and `lease` are DHCP's words, `client` decides what to say next and knows neither clock nor socket,
//! `wire` says it, `store` remembers leases over a restart of the agent.

pub mod agent;
pub mod client;
pub mod config;
pub mod lease;
pub mod message;
pub mod moment;
pub mod plugin;
pub mod protocol;
pub mod store;
pub mod wire;
