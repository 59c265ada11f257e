//! The demo as an ordinary user sees it: no root, no package, nothing left.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testenv::{plugin, skip};

/// The uid and gid that Debian gives to nobody.
const NOBODY: [&str; 5] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];

#[test]
fn the_demo_works_for_an_ordinary_user() {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|most| most.trim() == "0") {
        return skip::record("the_demo_works_for_an_ordinary_user", "needs user namespaces");
    }
    // A directory that anybody may enter: the workspace need not be one.
    let dir = std::env::temp_dir().join(format!("tenon-demo-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    for name in ["testenv", "bridge", "host-local", "overlay", "overlayd"] {
        fs::copy(plugin::built().join(name), dir.join(name)).unwrap();
    }
    let program = dir.join("testenv");
    // Root of a user namespace cannot become somebody else, and is an ordinary user already.
    let as_user: Vec<&str> = if whole && is_root() { NOBODY.to_vec() } else { vec!["env"] };
    // All is built: whoever runs the demo gets a cargo that has nothing to do.
    let output = Command::new(as_user[0])
        .args(&as_user[1..])
        .arg(&program)
        .arg("demo")
        .env("CARGO", "true")
        .current_dir(&dir)
        .output()
        .unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
    for part in [
        "┌──┴─ c3 ─",
        "cni0  10.88.0.1/16  fd00:88::1/64",
        "seen as 198.51.100.1\n",
        "seen as 2001:db8:1::1\n",
        "left  nothing",
        "three hosts with one peers file",
        "ping  c1 on h1 → 10.244.3.2         1450 bytes pass, 1451 do not",
        "TCP   c1 on h1 → fd00:244:0:3::2    and UDP: answered, seen with its own address",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(!Path::new("/run/netns/c1").exists(), "the host is as it was");
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}
