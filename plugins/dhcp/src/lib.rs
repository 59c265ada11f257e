//! The `dhcp` address plugin: addresses from whoever hands them out on the network outside, for containers that are on it
//! by a macvlan, a bridge's uplink or a device of their own.
//!
//! A lease has to be renewed for as long as the container lives, so an agent (`dhcp daemon`) keeps it; the plugin asks the
//! agent over a socket. `config` reads what is asked for, `plugin` is the verbs, `protocol` is what the two say to each
//! other. `v4` and `v6` are the clients, which decide what to say next and know neither clock nor socket; `client` is either
//! of them, `exchange` what they have in common. `place` is the link in the container, `store` remembers leases over a
//! restart of the agent.

pub mod agent;
pub mod client;
pub mod config;
pub mod exchange;
pub mod lease;
pub mod moment;
pub mod place;
pub mod plugin;
pub mod protocol;
pub mod store;
pub mod v4;
pub mod v6;
