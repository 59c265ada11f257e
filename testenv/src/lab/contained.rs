//! A lab in a process tree of its own, for daemons and container runtimes: whatever they started ends with it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::{Lab, impossible, run};
use crate::skip;

/// Set in the process inside, to the name of the test.
const INSIDE: &str = "TENON_CONTAINED";

/// Runs `body` in a new lab, as process 1's child of a new process namespace with a /proc of its own. The test's binary
/// is run once more for that, with this test alone: `test` must be its full name in the binary.
///
/// Container runtimes write cgroups: skipped where root is only root of a user namespace.
///
/// # Panics
/// When the test fails inside.
pub fn run_contained(test: &'static str, body: impl FnOnce(&Lab) + Send + 'static) {
    if env::var(INSIDE).is_ok_and(|inside| inside == test) {
        return run(test, body);
    }
    let writes =
        || in_user_namespace().then(|| "needs the machine's root: runtimes write cgroups".to_string());
    if let Some(reason) = impossible().or_else(writes) {
        return skip::record(test, &reason);
    }
    let program = env::current_exe().expect("a running program has a path");
    let before = runtime_cgroups();
    let output = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .output()
        .unwrap_or_else(|cause| panic!("start unshare: {cause}"));
    for cgroup in runtime_cgroups().iter().rev().filter(|cgroup| !before.contains(*cgroup)) {
        // Deepest first. One that another test uses stays, and goes with that.
        fs::remove_dir(cgroup).ok();
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    let ran = said.contains("test result: ok. 1 passed");
    assert!(output.status.success() && ran, "{test}, contained: {}\n{said}\n{complained}", output.status);
}

/// Whether this process's root is not the machine's, user_namespaces(7).
pub(super) fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The cgroups that runtimes leave behind when their last container is gone: directories that no namespace hides.
fn runtime_cgroups() -> BTreeSet<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let controllers = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found = BTreeSet::new();
    for parent in controllers.chain([root.to_path_buf()]) {
        for name in ["k8s.io", "libpod_parent"] {
            directories(&parent.join(name), &mut found);
        }
    }
    found
}

fn directories(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    found.insert(dir.to_path_buf());
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        directories(&entry.path(), found);
    }
}
