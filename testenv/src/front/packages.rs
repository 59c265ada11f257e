//! The Debian packages that tests need, and installing them where that is allowed.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use nix::unistd::geteuid;

/// Package, and what the tests do with it.
const PACKAGES: &[(&str, &str)] = &[
    ("busybox-static", "what runs in containers: images are made from it, none is fetched"),
    ("conntrack", "connections as an administrator lists them"),
    ("containernetworking-plugins", "the Go plugins: taking over from them, handing back, being compared"),
    ("containerd", "a runtime to serve, through its CRI"),
    ("dnsmasq-base", "a DHCP server and router of a network outside"),
    ("etcd-client", "a second opinion on what hosts write into etcd, and mischief in it"),
    ("etcd-server", "the directory of an overlay of many hosts"),
    ("ethtool", "a second opinion on offload features"),
    ("iperf3", "the overlay against a tunnel made by hand, and rates that are limited"),
    ("iproute2", "a second opinion on links, routes and rules"),
    ("iptables", "hosts whose FORWARD chain drops, and rules that Go plugins left"),
    ("iputils-ping", "packets of an exact size between containers on several hosts"),
    ("jq", "configurations as an administrator reads them"),
    ("linux-perf", "dropped packets as an administrator watches them"),
    ("netcat-openbsd", "a connection as an administrator tries it"),
    ("nftables", "a second opinion on rulesets, in every comparison of before and after"),
    ("openssl", "certificates for an etcd with TLS"),
    ("podman", "a runtime to serve, by its CNI backend"),
    ("procps", "sysctls as an administrator sets them"),
    ("runc", "what both runtimes run containers with"),
    ("strace", "failing or killing a plugin at a chosen system call, counting its children"),
    ("systemd", "its socket activation, and its opinion on units"),
    ("tcpdump", "packets as an administrator watches them"),
    ("tshark", "a second opinion on what captures hold"),
];

/// What guests are started with.
const OF_GUESTS: &[(&str, &str)] = &[
    ("busybox-static", "what a guest has until it has this host's files"),
    ("kmod", "which modules need which, here and in the guest"),
    ("qemu-system-x86", "the machine, and the daemon that shows it this host's files"),
    ("xz-utils", "modules that come packed"),
];

/// Installs what is missing when this is Debian and the user is root. Otherwise the tests concerned skip themselves.
pub(super) fn provide() -> anyhow::Result<()> {
    provide_all(PACKAGES).map(drop)
}

/// Installs what guests need; fails where it can't.
pub(super) fn provide_for_guests() -> anyhow::Result<()> {
    ensure!(provide_all(OF_GUESTS)?, "a guest needs packages that are not installed");
    Ok(())
}

/// Whether all are installed now.
fn provide_all(packages: &[(&'static str, &str)]) -> anyhow::Result<bool> {
    let missing: Vec<&str> =
        packages.iter().map(|(name, _)| *name).filter(|name| !is_installed(name)).collect();
    if missing.is_empty() {
        return Ok(true);
    }
    if !geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        eprintln!(
            "testenv: not installed, and not mine to install (needs root and apt): {}",
            missing.join(" ")
        );
        return Ok(false);
    }
    eprintln!("testenv: installing {}", missing.join(" "));
    let _quiet = NoServices::enforce()?;
    // Lists may be absent or name versions that are gone by now: look again, then try again.
    if install(&missing).is_err() {
        apt(&["update"])?;
        install(&missing)?;
    }
    Ok(true)
}

fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f", "${db:Status-Status}", package])
        .stderr(Stdio::null())
        .output();
    query.is_ok_and(|output| output.stdout == b"installed")
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
}

/// Runs apt-get quietly.
pub(super) fn apt(arguments: &[&str]) -> anyhow::Result<()> {
    let status = apt_get()
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("start apt-get")?;
    ensure!(status.success(), "apt-get {}: {status}", arguments.join(" "));
    Ok(())
}

/// apt-get, quiet, and done soon where nothing answers.
pub(super) fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("-qq");
    for option in ["Retries=1", "http::Timeout=20", "https::Timeout=20"] {
        command.arg("-o").arg(format!("Acquire::{option}"));
    }
    command
}

/// While it lives, no package starts its service: 101 is "forbidden by policy" of invoke-rc.d(8).
struct NoServices {
    ours: Option<PathBuf>,
}

impl NoServices {
    fn enforce() -> anyhow::Result<Self> {
        let policy = PathBuf::from("/usr/sbin/policy-rc.d");
        if policy.exists() {
            return Ok(Self { ours: None });
        }
        fs::write(&policy, "#!/bin/sh\nexit 101\n").with_context(|| format!("write {}", policy.display()))?;
        fs::set_permissions(&policy, Permissions::from_mode(0o755))?;
        Ok(Self { ours: Some(policy) })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = &self.ours {
            fs::remove_file(policy).ok();
        }
    }
}
