//! Which boot this is.

use crate::{error::Result, sysctl};

/// The identity of the running boot, a UUID (random(4)). The same in every namespace, new after every start.
pub fn id() -> Result<String> {
    sysctl::read("kernel/random/boot_id")
}
