//! IPv4: a client of DHCP (RFC 2131). `message` and `lease` are its words, `client` decides what to say next and knows
//! neither clock nor socket, `wire` says it.

pub mod client;
pub mod lease;
pub mod message;
pub mod wire;
