//! Directories that go with their handle, or, when its process was killed, with the next handle that is made beside them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

/// An empty directory of one's own. Its lock, flock(2), says that somebody lives who needs it.
pub(super) struct Scratch {
    path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Makes one in `base`, named `prefix` and a number; removes those of that prefix that nobody holds.
    pub(super) fn make(base: &Path, prefix: &str) -> anyhow::Result<Self> {
        // Nobody else looks at a directory between its making and its lock.
        let _turn = locked(base)?;
        clear(base, prefix).with_context(|| format!("clear up in {}", base.display()))?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{prefix}{}-{number}", process::id()));
        fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { _lock: locked(&path)?, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok();
    }
}

fn locked(dir: &Path) -> anyhow::Result<File> {
    let file = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    file.lock().with_context(|| format!("lock {}", dir.display()))?;
    Ok(file)
}

fn clear(base: &Path, prefix: &str) -> anyhow::Result<()> {
    for entry in fs::read_dir(base)? {
        let entry = entry?;
        let is_one = entry.file_name().to_string_lossy().starts_with(prefix) && entry.file_type()?.is_dir();
        // Gone meanwhile, with its handle, is as well.
        if is_one && File::open(entry.path()).is_ok_and(|dir| dir.try_lock().is_ok()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
    Ok(())
}

static COUNT: AtomicU32 = AtomicU32::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_goes_with_the_next() {
        let scratch = Scratch::make(&std::env::temp_dir(), "tenon-scratch-test-").unwrap();
        let base = scratch.path().join("base");
        for dir in ["a-1-1/deep", "b-1-1"] {
            fs::create_dir_all(base.join(dir)).unwrap();
        }
        let held = Scratch::make(&base, "a-").unwrap();
        let other = Scratch::make(&base, "a-").unwrap();
        assert!(held.path().exists() && base.join("b-1-1").exists() && !base.join("a-1-1").exists());
        let path = other.path().to_path_buf();
        drop(other);
        assert!(!path.exists());
    }
}
