//! Debian's kernels: found by apt, unpacked into a cache and never installed, with the first root that they boot from.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use nix::unistd::geteuid;

use super::cpio::Archive;
use super::scratch::Scratch;
use crate::front::packages;

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
/// itself: the device that taps are made by.
const MODULES: [&str; 4] = ["virtio_pci", "virtiofs", "overlay", "tun"];
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
            image: root.join(format!("boot/vmlinuz-{release}")),
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
    let fetch = || {
        let release = known(series)?;
        let release = release.with_context(|| format!("apt knows no linux-image-{series}.*-cloud-amd64"))?;
        unpack(&release, cache)?;
        Ok(release)
    };
    fetch().or_else(|cause: anyhow::Error| {
        ensure!(geteuid().is_root(), "{cause:#}, and only root may renew its lists");
        packages::apt(&["update"])?;
        fetch()
    })
}

/// The newest of a series in the cache.
fn held(series: &str, cache: &Path) -> Option<String> {
    let names = fs::read_dir(cache).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("{series}."))).max_by_key(|name| numbers(name))
}

fn known(series: &str) -> anyhow::Result<Option<String>> {
    let pattern = format!("^linux-image-{}\\.[0-9].*-cloud-amd64$", series.replace('.', "\\."));
    let said = output(Command::new("apt-cache").args(["search", "--names-only", &pattern]))?;
    let names = said.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("linux-image-"));
    Ok(names.max_by_key(|name| numbers(name)).map(String::from))
}

/// The numbers of a release, to order releases by: `6.1.0-9` is before `6.1.0-50`.
fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Downloads a kernel's package and unpacks it into a directory of its name, which is there only when all of it is.
fn unpack(release: &str, cache: &Path) -> anyhow::Result<()> {
    let root = cache.join(release);
    if root.is_dir() {
        return Ok(());
    }
    eprintln!("testenv: fetching Linux {release}");
    let part = Scratch::make(cache, ".part-")?;
    unpack_into(release, part.path())?;
    match fs::rename(part.path(), &root) {
        // Another run was faster.
        Err(_) if root.is_dir() => Ok(()),
        moved => moved.with_context(|| format!("move a kernel to {}", root.display())),
    }
}

fn unpack_into(release: &str, dir: &Path) -> anyhow::Result<()> {
    let mut download = packages::apt_get();
    output(download.args(["download", &format!("linux-image-{release}")]).current_dir(dir))?;
    let mut packages = fs::read_dir(dir)?.filter_map(Result::ok).map(|entry| entry.path());
    let package = packages.find(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let Some(package) = package else { bail!("apt-get download left no package in {}", dir.display()) };
    output(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(dir))?;
    fs::remove_file(&package)?;
    output(Command::new("/sbin/depmod").arg("-b").arg(dir).arg(release))?;
    Ok(())
}

/// What a program prints; fails when it does.
fn output(command: &mut Command) -> anyhow::Result<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        let newest = ["6.1.0-9-cloud-amd64", "6.1.0-56-cloud-amd64", "6.1.0-50-cloud-amd64"]
            .into_iter()
            .max_by_key(|release| numbers(release));
        assert_eq!(newest, Some("6.1.0-56-cloud-amd64"));
    }
}
