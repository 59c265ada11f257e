//! `netctl trace`: sends a marked probe from one end to the other and says where it came by and where it ended.

pub mod nftrace;
pub mod probe;
