//! IPv6: what routers say of a network (RFC 4861, RFC 8106), an address made from a prefix (RFC 4862), or one that a server
//! grants (RFC 8415). `advert` and `message` are the words, `client` decides what to say next and knows neither clock nor
//! socket, `wire` says it.
//!
//! Default routes, prefixes on the link and the MTU are the kernel's work, which keeps them for as long as routers say so.

pub mod advert;
pub mod client;
pub mod lease;
pub mod message;
pub mod wire;
