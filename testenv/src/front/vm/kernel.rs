//! Debian's kernels: found by apt, unpacked into a cache and never installed, with the first root that they boot from.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use nix::unistd::geteuid;

use super::apt::{Apt, numbers};
use super::cpio::Archive;
use super::scratch::Scratch;

/// A kernel that is ready to boot.
pub(super) struct Kernel {
    /// As `uname -r` says it.
    pub(super) release: String,
    pub(super) image: PathBuf,
    /// Its modules, with their dependencies worked out.
    pub(super) modules: PathBuf,
    /// The archive that it begins with, but for the job.
    pub(super) first_root: Vec<u8>,
}

/// What the first root cannot do without: the bus, the host's files, the layer over them. And what nothing in the guest loads by
/// itself: the device that taps are made by, and what shows bridged packets to iptables, as on nodes of Kubernetes.
const MODULES: [&str; 5] = ["virtio_pci", "virtiofs", "overlay", "tun", "br_netfilter"];
const BUSYBOX: &str = "/bin/busybox";
const INIT: &str = include_str!("init.sh");

impl Kernel {
    /// The newest kernel of a series such as `6.1` that apt knows. What is in the cache is not fetched again, and serves
    /// where nothing newer can be had.
    pub(super) fn provide(series: &str) -> anyhow::Result<Self> {
        let plain = !series.is_empty() && series.chars().all(|c| c.is_ascii_digit() || c == '.');
        ensure!(plain, "--kernel {series}: expected a version such as 6.1 or 6.12");
        let cache = cache()?;
        let release = match (fetch(series, &cache), held(series, &cache)) {
            (Ok(release), _) => release,
            (Err(cause), Some(held)) => {
                eprintln!("testenv: taking Linux {held}, which is here: {cause:#}");
                held
            }
            (Err(cause), None) => return Err(cause),
        };
        let root = cache.join(&release);
        let mut kernel = Self {
            image: image(&root, &release).with_context(|| format!("no image in {}", root.display()))?,
            modules: root.join("lib/modules").join(&release),
            first_root: Vec::new(),
            release,
        };
        kernel.first_root = kernel.archive(&root)?;
        Ok(kernel)
    }

    fn archive(&self, root: &Path) -> anyhow::Result<Vec<u8>> {
        let mut archive = Archive::default();
        for dir in ["bin", "proc", "sys", "dev", "host", "layer", "root", "modules"] {
            archive.directory(dir);
        }
        archive.program("bin/busybox", &fs::read(BUSYBOX).with_context(|| format!("read {BUSYBOX}"))?);
        archive.symlink("bin/sh", "busybox");
        archive.program("init", INIT.as_bytes());
        for (place, file) in self.needed(root)?.iter().enumerate() {
            archive.program(&format!("modules/{place:02}.ko"), &module(file)?);
        }
        Ok(archive.finish())
    }

    /// The files of [`MODULES`] and of what they need, in the order of their insertion.
    fn needed(&self, root: &Path) -> anyhow::Result<Vec<PathBuf>> {
        let (mut files, mut seen) = (Vec::new(), BTreeSet::new());
        for module in MODULES {
            let mut modprobe = Command::new("/sbin/modprobe");
            modprobe.arg("-d").arg(root).args(["-S", &self.release, "--show-depends", module]);
            let said = output(&mut modprobe)?;
            // What is built in is on a line of another kind.
            for file in said.lines().filter_map(|line| line.strip_prefix("insmod ")) {
                let file = PathBuf::from(file.trim());
                if seen.insert(file.clone()) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// The bytes of a module, unpacked: the first root has nothing to do it with.
fn module(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file.extension().is_none_or(|extension| extension != "xz") {
        return fs::read(file).with_context(|| format!("read {}", file.display()));
    }
    let xz = Command::new("xz").arg("-dc").arg(file).output().context("start xz")?;
    ensure!(xz.status.success(), "unpack {}: {}", file.display(), String::from_utf8_lossy(&xz.stderr));
    Ok(xz.stdout)
}

/// Old versions leave the archive: which is there is looked up, not known. Fails where apt's lists are older than the archive
/// and can't be renewed.
fn fetch(series: &str, cache: &Path) -> anyhow::Result<String> {
    let fetch = |apt: &Apt| {
        let release = apt.newest(series)?;
        let release = release.with_context(|| format!("apt knows no linux-image-{series}.*-cloud-amd64"))?;
        unpack(apt, &release, cache)?;
        anyhow::Ok(release)
    };
    let renewed = |apt: &Apt| {
        fetch(apt).or_else(|cause| {
            ensure!(geteuid().is_root(), "{cause:#}, and only root may renew its lists");
            apt.update()?;
            fetch(apt)
        })
    };
    renewed(&Apt::own()).or_else(|cause| {
        let others = Apt::of_other_suites(&cache.join("apt"))?;
        renewed(&others).with_context(|| format!("{cause:#}; of other suites"))
    })
}

/// The newest of a series in the cache.
fn held(series: &str, cache: &Path) -> Option<String> {
    let names = fs::read_dir(cache).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("{series}."))).max_by_key(|name| numbers(name))
}

/// Downloads a kernel's package and unpacks it into a directory of its name, which is there only when all of it is.
fn unpack(apt: &Apt, release: &str, cache: &Path) -> anyhow::Result<()> {
    let root = cache.join(release);
    if root.is_dir() {
        return Ok(());
    }
    eprintln!("testenv: fetching Linux {release}");
    let part = Scratch::make(cache, ".part-")?;
    unpack_into(apt, release, part.path())?;
    match fs::rename(part.path(), &root) {
        // Another run was faster.
        Err(_) if root.is_dir() => Ok(()),
        moved => moved.with_context(|| format!("move a kernel to {}", root.display())),
    }
}

fn unpack_into(apt: &Apt, release: &str, dir: &Path) -> anyhow::Result<()> {
    apt.unpack(&format!("linux-image-{release}"), dir)?;
    // From 7.2 on that one is empty and needs these.
    if image(dir, release).is_none() {
        for part in ["base", "binary", "modules"] {
            apt.unpack(&format!("linux-{part}-{release}"), dir)?;
        }
    }
    if !dir.join("lib").exists() {
        symlink("usr/lib", dir.join("lib")).context("link lib to usr/lib")?;
    }
    output(Command::new("/sbin/depmod").arg("-b").arg(dir).arg(release))?;
    Ok(())
}

/// Where Debian has put it over time.
fn image(root: &Path, release: &str) -> Option<PathBuf> {
    let places = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
    places.iter().map(|place| root.join(place)).find(|path| path.is_file())
}

/// What a program prints; fails when it does.
pub(super) fn output(command: &mut Command) -> anyhow::Result<String> {
    let what = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {what}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{what}: {}: {}", output.status, stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where kernels stay between runs and checkouts.
fn cache() -> anyhow::Result<PathBuf> {
    let home = || env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let cache = base.context("neither XDG_CACHE_HOME nor HOME is set")?.join("tenon-vm");
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    Ok(cache)
}
