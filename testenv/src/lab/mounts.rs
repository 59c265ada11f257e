//! The lab's private mounts: empty state directories, a /sys of its own namespace, nothing seen outside.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::mount::{MsFlags, mount};

/// What plugins and runtimes write to; each begins empty.
pub(super) const STATE_DIRS: [&str; 3] = ["/run", "/var/lib/cni", "/etc/cni"];

pub(super) fn make_private() -> anyhow::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make mounts private")?;
    tmpfs(Path::new("/run"))?;
    fs::create_dir_all("/run/lock").context("make /run/lock")?;
    for dir in &STATE_DIRS[1..] {
        empty(Path::new(dir))?;
    }
    fresh_sys();
    Ok(())
}

/// Mounts an empty directory on `dir`, which need not exist on the host.
pub(super) fn empty(dir: &Path) -> anyhow::Result<()> {
    if !dir.is_dir() {
        make_room(dir)?;
    }
    tmpfs(dir)
}

fn tmpfs(on: &Path) -> anyhow::Result<()> {
    mount(Some("tmpfs"), on, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("mount tmpfs on {}", on.display()))
}

fn bind(from: &Path, to: &Path) -> anyhow::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
        .with_context(|| format!("bind {} on {}", from.display(), to.display()))
}

/// Makes the directory `dir` without touching the host's: its parent becomes a tmpfs of links into the old one.
/// In a user namespace the host's directories cannot be written at all.
fn make_room(dir: &Path) -> anyhow::Result<()> {
    let parent = dir.parent().context("a state directory has a parent")?;
    let old: PathBuf =
        Path::new(super::OWN_DIR).join(parent.to_string_lossy().trim_matches('/').replace('/', "-"));
    fs::create_dir_all(&old).with_context(|| format!("make {}", old.display()))?;
    bind(parent, &old)?;
    tmpfs(parent)?;
    for entry in fs::read_dir(&old).with_context(|| format!("read {}", old.display()))? {
        let name = entry?.file_name();
        symlink(old.join(&name), parent.join(&name))
            .with_context(|| format!("link {} in {}", name.display(), parent.display()))?;
    }
    fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))
}

/// A /sys that shows the lab's links, with the cgroups kept. The old one does where the kernel refuses a new one:
/// everything but /sys/class/net is the same.
fn fresh_sys() {
    let cgroups = Path::new(super::OWN_DIR).join("cgroup");
    let kept = fs::create_dir_all(&cgroups).is_ok() && bind(Path::new("/sys/fs/cgroup"), &cgroups).is_ok();
    let fresh = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).is_ok();
    if kept && fresh {
        // Without cgroups only the tests with container runtimes cannot work, and they say so.
        bind(&cgroups, Path::new("/sys/fs/cgroup")).ok();
    }
}
