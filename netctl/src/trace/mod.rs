//! `netctl trace`: sends a marked probe from one end to the other and says where it came by and where it ended.

pub mod counters;
pub mod explain;
pub mod finding;
pub mod nftrace;
pub mod observe;
pub mod passage;
pub mod path;
pub mod probe;
pub mod run;
pub mod save;
pub mod send;
pub mod show;
pub mod told;
pub mod verdict;
