//! The suite's own nftables tables, `inet tenon` and `bridge tenon`: what is in them, and how an attachment comes in and
//! goes out.
//!
//! Chains, rules and empty sets are made once, feature by feature, when an element first finds them missing; they stay,
//! as the bridge does. An attachment is nothing but elements of hash sets and maps, each added and removed by a key that
//! the attachment's record holds: no element is shared, nothing is counted, no lock is held, and the thousandth
//! attachment costs what the first did. Sets of networks would be shorter to read, but the kernel copies such a set
//! whole at each change, and their elements belong to many attachments at once.
//!
//! Where a key may pass from one attachment to the next (an address that is given out again), a map beside the sets says
//! whose it is; see [`plan`].

pub mod condition;
pub mod guard;
pub mod host_forward;
pub mod legacy;
pub mod masquerade;
pub mod owner;
pub mod plan;
pub mod publish;
mod schema;
pub mod spoof_check;
pub mod sweep;
