//! A network namespace of the lab, by name: running things in it. What is built in it is in `links.rs`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::snapshot::{self, Snapshot};

/// One network namespace. Clones are the same namespace; it ends with the lab, or by `Lab::remove_netns`.
#[derive(Clone, Debug)]
pub struct Ns {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    path: PathBuf,
    file: File,
    baseline: Mutex<Snapshot>,
}

/// What a command inside a namespace said.
#[derive(Debug)]
pub struct Ran {
    pub argv: Vec<String>,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The standard output.
    ///
    /// # Panics
    /// When the command failed.
    #[track_caller]
    pub fn ok(self) -> String {
        if self.code != Some(0) {
            panic!(
                "{} exited with {:?}\nstdout: {}\nstderr: {}",
                self.argv.join(" "),
                self.code,
                self.stdout,
                self.stderr
            );
        }
        self.stdout
    }

    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

impl Ns {
    /// Makes a namespace bound to `path`, with lo up.
    pub(crate) fn create(name: &str, path: &Path) -> io::Result<Self> {
        File::create_new(path)?;
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            bind_own_namespace(path)
        })?;
        let ns = Self::open(name, path)?;
        ns.set_up("lo");
        ns.rebase();
        Ok(ns)
    }

    /// The calling thread's own namespace, bound to `path`.
    pub(crate) fn own(name: &str, path: &Path) -> io::Result<Self> {
        File::create_new(path)?;
        bind_own_namespace(path)?;
        Self::open(name, path)
    }

    /// The namespace that is bound to `path`, made by whomever.
    pub fn open(name: &str, path: &Path) -> io::Result<Self> {
        let (name, file) = (name.to_string(), File::open(path)?);
        let inner = Inner { name, path: path.to_path_buf(), file, baseline: Mutex::default() };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub(crate) fn unbind(&self) -> io::Result<()> {
        umount2(self.path(), MntFlags::MNT_DETACH)?;
        fs::remove_file(self.path())
    }

    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What CNI_NETNS says: `/run/netns/<name>`.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.inner.file
    }

    /// Runs `body` on a thread of its own inside the namespace; files are the caller's. A panic goes on in the caller.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        on_own_thread(|| {
            enter(&self.inner.file)
                .unwrap_or_else(|cause| panic!("enter namespace {}: {cause}", self.name()));
            body()
        })
    }

    /// Runs a command inside to its end. Only a command that cannot be started panics; see [`Ran::ok`].
    #[track_caller]
    pub fn exec(&self, argv: &[&str]) -> Ran {
        let output = self
            .run(|| Command::new(argv[0]).args(&argv[1..]).stdin(Stdio::null()).output())
            .unwrap_or_else(|cause| panic!("start {} in {}: {cause}", argv.join(" "), self.name()));
        let Output { status, stdout, stderr } = output;
        Ran {
            argv: argv.iter().map(ToString::to_string).collect(),
            code: status.code(),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// What is in the namespace now: links, addresses, routes, rules, neighbours, nft, sysctls.
    pub fn snapshot(&self) -> Snapshot {
        self.run(snapshot::of_namespace)
            .unwrap_or_else(|cause| panic!("take stock of namespace {}: {cause}", self.name()))
    }

    /// The sysctl `name` (dots or slashes) as this namespace sees it, trimmed.
    #[track_caller]
    pub fn sysctl(&self, name: &str) -> String {
        let path = sysctl_path(name);
        let value = self.run(|| fs::read_to_string(&path));
        value.unwrap_or_else(|cause| panic!("read {path}: {cause}")).trim().to_string()
    }

    /// Sets a sysctl as part of the scene: the leak check takes the new value for the old.
    #[track_caller]
    pub fn set_sysctl(&self, name: &str, value: &str) {
        let path = sysctl_path(name);
        self.build(&format!("write {value} to {path}"), || fs::write(&path, value));
    }

    /// The addresses now on link `link`, as `10.0.0.1/24`; empty where there is no such link.
    pub fn addresses(&self, link: &str) -> Vec<String> {
        self.snapshot().addresses(link)
    }

    /// The names of the links now in the namespace, lo included.
    pub fn links(&self) -> BTreeSet<String> {
        let lines = self.snapshot().lines;
        let names = lines.iter().filter_map(|line| line.strip_prefix("link ")?.split(' ').next());
        names.map(ToString::to_string).collect()
    }

    pub fn has_link(&self, link: &str) -> bool {
        self.links().contains(link)
    }

    /// Changes the scene inside the namespace: whatever `act` adds or takes away is no leak.
    #[track_caller]
    pub(crate) fn build<T: Send>(&self, what: &str, act: impl FnOnce() -> io::Result<T> + Send) -> T {
        let before = self.snapshot();
        let made = self.run(act);
        let value = made.unwrap_or_else(|cause| panic!("{}: {what}: {cause}", self.name()));
        self.accept(&before);
        value
    }

    /// Takes what changed since `before` into the baseline.
    pub(crate) fn accept(&self, before: &Snapshot) {
        let change = before.until(&self.snapshot());
        self.inner.baseline.lock().expect("no panic while held").apply(change);
    }

    /// From here on, what is now is what must be at the end.
    pub fn rebase(&self) {
        let now = self.snapshot();
        *self.inner.baseline.lock().expect("no panic while held") = now;
    }

    pub(crate) fn baseline(&self) -> Snapshot {
        self.inner.baseline.lock().expect("no panic while held").clone()
    }
}

fn sysctl_path(name: &str) -> String {
    if name.contains('/') {
        format!("/proc/sys/{name}")
    } else {
        format!("/proc/sys/{}", name.replace('.', "/"))
    }
}

/// A namespace has no name of its own; it is the thread's, not the process's (`/proc/self` is the main thread).
fn bind_own_namespace(path: &Path) -> io::Result<()> {
    Ok(mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

#[expect(clippy::disallowed_methods, reason = "called on a thread that ends with its closure")]
pub(crate) fn enter(namespace: &File) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

pub(crate) fn on_own_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(body).join()).unwrap_or_else(|panic| resume_unwind(panic))
}
