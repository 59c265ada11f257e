//! What runs on each node, here and behind a peer's command, and the lines it speaks.

pub mod hex;
pub mod known;
pub mod node;
pub mod nodes;
pub mod peers;
pub mod place;
pub mod protocol;
pub mod serve;
