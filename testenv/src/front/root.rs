//! Becoming root of a user namespace, so that an ordinary user can have a lab.

use std::fs;

use anyhow::{Context, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use testenv::lab;

/// Makes sure that this process can make a lab. Before any thread exists: the kernel moves only lone threads.
pub(super) fn ensure_root() -> anyhow::Result<()> {
    if lab::impossible().is_none() {
        return Ok(());
    }
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER).context(
        "make a user namespace: this system keeps them from ordinary users; run it as root instead",
    )?;
    // In this order: groups can be mapped only once they can no longer be dropped, user_namespaces(7).
    for (file, text) in [
        ("uid_map", format!("0 {user} 1")),
        ("setgroups", "deny".to_string()),
        ("gid_map", format!("0 {group} 1")),
    ] {
        fs::write(format!("/proc/self/{file}"), text).with_context(|| {
            format!("write /proc/self/{file}: user namespaces are restricted here; run it as root")
        })?;
    }
    let reason = lab::impossible();
    ensure!(reason.is_none(), "no lab in a user namespace: {}", reason.unwrap_or_default());
    Ok(())
}
