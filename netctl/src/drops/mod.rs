//! `netctl drops`: dropped packets as they happen, with the kernel's reason and the container's name.

pub mod hint;
pub mod tally;
pub mod watch;
