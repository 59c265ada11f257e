//! Container images made from the host's busybox: no registry is asked.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::lab::Lab;

impl Lab {
    /// A file in `docker save`'s format with one image of a busybox system, which podman and containerd load. `name` is
    /// as in `localhost/busybox:test`; `command` is what runs when no other is asked for.
    ///
    /// Skips the test when there is no static busybox.
    #[track_caller]
    pub fn image(&self, name: &str, command: &[&str]) -> PathBuf {
        if !Path::new("/bin/busybox").is_file() {
            self.skip("needs /bin/busybox (package busybox-static)");
        }
        let dir = self.dir().join(format!("image-{}", name.replace(['/', ':'], "-")));
        archive(&dir, name, command).unwrap_or_else(|cause| panic!("make image {name}: {cause}"))
    }
}

fn archive(dir: &Path, name: &str, command: &[&str]) -> io::Result<PathBuf> {
    let (root, parts) = (dir.join("root"), dir.join("parts"));
    root_file_system(&root)?;
    fs::create_dir_all(&parts)?;
    tar(&root, &parts.join("layer.tar"))?;
    let layer = digest(&fs::read(parts.join("layer.tar"))?);
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["PATH=/bin:/sbin"], "Cmd": command, "WorkingDir": "/" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer}")] },
    })
    .to_string();
    let config_name = format!("{}.json", digest(config.as_bytes()));
    let manifest = json!([{ "Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"] }]);
    fs::write(parts.join(&config_name), config)?;
    fs::write(parts.join("manifest.json"), manifest.to_string())?;
    let archive = dir.join("image.tar");
    tar(&parts, &archive)?;
    Ok(archive)
}

/// What a program needs: busybox under all its names, users, and the places that a runtime mounts on.
fn root_file_system(root: &Path) -> io::Result<()> {
    for dir in ["bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "var/tmp"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    let names = Command::new("/bin/busybox").arg("--list").output()?;
    for name in String::from_utf8_lossy(&names.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")
}

fn tar(from: &Path, to: &Path) -> io::Result<()> {
    let status = Command::new("tar")
        .args(["--create", "--owner=0", "--group=0", "--numeric-owner", "--file"])
        .arg(to)
        .arg("--directory")
        .arg(from)
        .arg(".")
        .status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("tar: {status}"))) }
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
