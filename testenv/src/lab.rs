//! A lab of one's own for each test: private network and mount namespaces on a thread of its own, that everything
//! started by the test inherits; at its end nothing may be left that was not there before.

use std::any::Any;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use crate::ns::{Ns, Ran};
use crate::plugin::{PluginCall, built};
use crate::snapshot::{self, Allowed, Snapshot};
use crate::{skip, wait};

pub mod contained;
mod mounts;

/// Where the lab keeps what is its own; no part of any comparison.
const OWN_DIR: &str = "/run/.lab";
const NETNS_DIR: &str = "/run/netns";
/// The kernel takes links and namespaces apart in its own time, an emulated one in more.
const SETTLE: Duration = Duration::from_secs(10);

/// The lab that a test runs in. Shared by all threads of the test.
pub struct Lab {
    name: String,
    host: Ns,
    namespaces: Mutex<Vec<Ns>>,
    files: Mutex<Snapshot>,
    allowed: Mutex<Allowed>,
}

/// What unwinds a test that turns out to be impossible here.
struct Skipped;

/// Runs `body` in a new lab and panics when something is left afterwards. Where namespaces cannot be made, the test
/// is recorded as skipped instead and `body` does not run.
///
/// The namespaces are those of the body's thread: threads and processes that it starts are inside too.
pub fn run(name: &str, body: impl FnOnce(&Lab) + Send + 'static) {
    if let Some(reason) = impossible() {
        return skip::record(name, &reason);
    }
    let (test, lab) = (thread::current().name().unwrap_or(name).to_string(), name.to_string());
    let thread = thread::Builder::new().name(test).spawn(move || live(&lab, body));
    let thread = thread.unwrap_or_else(|cause| panic!("start lab {name}: {cause}"));
    match thread.join() {
        Err(panic) if panic.is::<Skipped>() => {}
        Err(panic) => resume_unwind(panic),
        Ok(()) => {}
    }
}

/// Why no lab can be made by this process, if so.
pub fn impossible() -> Option<String> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap_or(0);
    let has = |capability: u32| effective & (1 << capability) != 0;
    // CAP_NET_ADMIN and CAP_SYS_ADMIN of linux/capability.h.
    (!(has(12) && has(21))).then(|| {
        "needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run it by `cargo testenv test`, or as root".to_string()
    })
}

fn live(name: &str, body: impl FnOnce(&Lab)) {
    let lab = Lab::enter(name).unwrap_or_else(|cause| panic!("make lab {name}: {cause:#}"));
    let ended = catch_unwind(AssertUnwindSafe(|| body(&lab)));
    let left = if ended.is_ok() { lab.leaks() } else { String::new() };
    lab.leave();
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
    assert!(left.is_empty(), "lab {name}: not as it was before:\n{left}");
}

impl Lab {
    /// Moves the calling thread into new namespaces, for good.
    fn enter(name: &str) -> anyhow::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)?;
        mounts::make_private()?;
        fs::create_dir_all(NETNS_DIR)?;
        fs::create_dir_all(Path::new(OWN_DIR).join("files"))?;
        let host = Ns::own("host", &Path::new(OWN_DIR).join("host"))?;
        host.set_up("lo");
        for forwarding in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            host.set_sysctl(forwarding, "0");
        }
        host.rebase();
        let (namespaces, allowed) = (Mutex::default(), Mutex::default());
        Ok(Self { name: name.to_string(), host, namespaces, files: Mutex::new(files()), allowed })
    }

    /// Namespaces go before their lab: a mount that keeps one would outlive it as long as a child does.
    fn leave(&self) {
        for ns in self.namespaces.lock().expect("no panic while held").drain(..) {
            // Already gone when the test removed the file by itself.
            ns.unbind().ok();
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace that stands for the host: plugins run in it.
    pub fn host(&self) -> &Ns {
        &self.host
    }

    /// A directory for the test's own files; nothing in it is compared.
    pub fn dir(&self) -> PathBuf {
        Path::new(OWN_DIR).join("files")
    }

    /// Writes a file, in the lab's own mounts only if it is below one of them: `/run`, `/etc/cni`, `/var/lib/cni`, or
    /// what [`Lab::empty`] hid.
    #[track_caller]
    pub fn write(&self, path: impl AsRef<Path>, text: &str) {
        let path = path.as_ref();
        let written = fs::create_dir_all(path.parent().unwrap_or(path)).and_then(|()| fs::write(path, text));
        written.unwrap_or_else(|cause| panic!("write {}: {cause}", path.display()));
    }

    /// Hides what the host has in `dir` behind an empty directory that only the lab sees.
    #[track_caller]
    pub fn empty(&self, dir: &Path) {
        mounts::empty(dir).unwrap_or_else(|cause| panic!("{cause:#}"));
    }

    /// A plugin directory as on an installed node: ours under `names`, the rest of the names from the Go plugins in
    /// `peers`. Skips the test when those are not installed.
    #[track_caller]
    pub fn plugin_dir(&self, ours: &[&str], peers: &[&str]) -> PathBuf {
        let (dir, go) = (self.dir().join("plugins"), Path::new("/usr/lib/cni"));
        fs::create_dir_all(&dir).unwrap_or_else(|cause| panic!("make {}: {cause}", dir.display()));
        for (from, name) in
            ours.iter().map(|name| (built(), name)).chain(peers.iter().map(|name| (go.into(), name)))
        {
            let file: PathBuf = from.join(name);
            if !file.is_file() && from == go {
                self.skip(&format!("needs {} (package containernetworking-plugins)", file.display()));
            }
            fs::copy(&file, dir.join(name))
                .unwrap_or_else(|cause| panic!("copy {}: {cause}", file.display()));
        }
        dir
    }

    /// Installs in `dir` a plugin of another make, `empty`, which succeeds and gives nothing. Each call of it is a line of the
    /// file returned, by its verb.
    pub fn empty_plugin(&self, dir: &Path) -> PathBuf {
        let (plugin, calls) = (dir.join("empty"), dir.join("empty.calls"));
        let script = format!(
            "#!/bin/sh\necho $CNI_COMMAND >> {}\n[ $CNI_COMMAND != ADD ] || echo '{{}}'\n",
            calls.display()
        );
        self.write(&plugin, &script);
        fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755))
            .unwrap_or_else(|cause| panic!("let {} run: {cause}", plugin.display()));
        calls
    }

    /// Makes the namespace `/run/netns/<name>`, lo up.
    #[track_caller]
    pub fn netns(&self, name: &str) -> Ns {
        let before = files();
        let path = Path::new(NETNS_DIR).join(name);
        let ns = Ns::create(name, &path)
            .unwrap_or_else(|cause| panic!("make namespace {}: {cause}", path.display()));
        self.accept_files(&before);
        self.namespaces.lock().expect("no panic while held").push(ns.clone());
        ns
    }

    /// Unbinds and forgets a namespace, as a runtime does that takes its container away before DEL. It ends once
    /// nothing else holds it: drop `ns` too.
    #[track_caller]
    pub fn remove_netns(&self, ns: Ns) {
        let before = files();
        self.namespaces.lock().expect("no panic while held").retain(|other| other.path() != ns.path());
        ns.unbind().unwrap_or_else(|cause| panic!("remove namespace {}: {cause}", ns.name()));
        self.accept_files(&before);
    }

    /// Runs a command in the host namespace.
    #[track_caller]
    pub fn exec(&self, argv: &[&str]) -> Ran {
        self.host.exec(argv)
    }

    /// A call of one of our plugins, from the directory that cargo built it in.
    pub fn plugin(&self, name: &str) -> PluginCall {
        PluginCall::ours(name, &self.host)
    }

    /// A call of a plugin of another make from `dir`; skips the test when it is not installed.
    pub fn peer(&self, dir: &Path, name: &str) -> PluginCall {
        if !dir.join(name).is_file() {
            self.skip(&format!("needs {}", dir.join(name).display()));
        }
        PluginCall::of(dir, name, &self.host)
    }

    /// Ends the test here, as one that did not run.
    pub fn skip(&self, reason: &str) -> ! {
        skip::record(&self.name, reason);
        resume_unwind(Box::new(Skipped) as Box<dyn Any + Send>)
    }

    /// Skips the test unless `program` is in PATH; `package` is what brings it.
    pub fn needs_program(&self, program: &str, package: &str) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
            self.skip(&format!("needs {program} (package {package})"));
        }
    }

    /// Whether the kernel makes links of a kind, by its own name of it (`ipvlan`).
    pub fn makes_links(&self, kind: &str) -> bool {
        // Known or not, it makes none with the MAC address of a group.
        let words = ["ip", "link", "add", "try0", "address", "01:00:00:00:00:00", "type", kind];
        let said = self.exec(&words).stderr;
        !said.contains("Unknown device type") && !said.contains("Operation not supported")
    }

    /// Skips the test unless the kernel makes links of a kind.
    pub fn needs_link_kind(&self, kind: &str) {
        if !self.makes_links(kind) {
            self.skip(&format!(
                "this kernel makes no links of kind {kind}: `cargo testenv vm test` runs it on others"
            ));
        }
    }

    /// Skips the test on a processor that QEMU emulates; `what` cannot be judged there.
    pub fn needs_real_processor(&self, what: &str) {
        // So QEMU's own translator names itself; under KVM it is the machine's name, or KVM's.
        if fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("QEMU TCG CPU")) {
            self.skip(&format!("needs a processor that is not emulated: {what}"));
        }
    }

    /// Skips the test where root is only root of a user namespace; `why` says what the kernel keeps from that one.
    pub fn needs_machine_root(&self, why: &str) {
        if contained::in_user_namespace() {
            self.skip(&format!("needs the machine's root: {why}"));
        }
    }

    /// Gives the host an uplink `name` with a peer namespace `outside` behind it, and default routes through it:
    /// the host is 198.51.100.1 and 2001:db8:1::1, the outside 198.51.100.254 and 2001:db8:1::254.
    #[track_caller]
    pub fn outside(&self, name: &str) -> Ns {
        let outside = self.netns("outside");
        self.host.add_veth(name, &outside, "in0");
        for (ns, link, host) in [(&self.host, name, 1), (&outside, "in0", 254)] {
            ns.add_address(link, &format!("198.51.100.{host}/24"));
            ns.add_address(link, &format!("2001:db8:1::{host}/64"));
            // Neighbours answer only once the link-local address is certain: a second that no test needs.
            ns.set_sysctl(&format!("net.ipv6.conf.{link}.accept_dad"), "0");
            ns.set_up(link);
        }
        self.host.wait_running(name);
        outside.wait_running("in0");
        let gateways = [("0.0.0.0/0", "198.51.100.254"), ("::/0", "2001:db8:1::254")];
        for (destination, gateway) in gateways {
            let gateway: IpAddr = gateway.parse().expect("an address");
            self.host.add_route(destination, gateway);
        }
        outside
    }

    /// Names what may stay: whole words of a line of the report (`link cni0`, `net.ipv4.ip_forward`,
    /// `dir /var/lib/cni/networks`). Valid for every namespace of the lab.
    pub fn allow(&self, what: &str) {
        self.allowed.lock().expect("no panic while held").words.push(what.to_string());
    }

    /// Lets everything stay: for a bench, whose end is the lab's end.
    pub fn allow_everything(&self) {
        self.allow("");
    }

    /// Names what a mode leaves by design: bridge `name` with its addresses, and forwarding switched on.
    pub fn allow_bridge(&self, name: &str) {
        self.allow(&format!("link {name}"));
        self.allow(&format!("dev {name}"));
        self.allow_forwarding();
    }

    /// Lets the suite's nft tables stay, which are made once, but no element of their sets and maps.
    pub fn allow_tables(&self) {
        self.allowed.lock().expect("no panic while held").tables = true;
    }

    /// Names what leases leave by design: the directory of network `name`, its lock and its last reserved addresses,
    /// and the directories of the suite's own state, though no file in them.
    pub fn allow_state(&self, name: &str) {
        let leases = format!("/var/lib/cni/networks/{name}");
        self.allow("dir /var/lib/cni/networks");
        self.allow(&format!("dir {leases}"));
        self.allow(&format!("file {leases}/lock"));
        for range in 0..4 {
            self.allow(&format!("file {leases}/last_reserved_ip.{range}"));
        }
        self.allow("dir /run/tenon");
    }

    /// Names what switching on forwarding for either family changes.
    pub fn allow_forwarding(&self) {
        for name in ["net.ipv4.ip_forward", "forwarding", "accept_redirects"] {
            self.allow(name);
        }
    }

    /// From here on, what is now is what must be at the end.
    pub fn rebase(&self) {
        self.host.rebase();
        for ns in self.namespaces.lock().expect("no panic while held").iter() {
            ns.rebase();
        }
        *self.files.lock().expect("no panic while held") = files();
    }

    /// What differs from the scene as built, waited for a little; empty when all is as before.
    pub fn leaks(&self) -> String {
        wait::poll(SETTLE, || self.differences().is_empty().then(String::new))
            .unwrap_or_else(|| self.differences())
    }

    /// # Panics
    /// When something is left now that the scene did not have.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let left = self.leaks();
        assert!(left.is_empty(), "lab {}: not as it was before:\n{left}", self.name);
    }

    fn differences(&self) -> String {
        let allowed = self.allowed.lock().expect("no panic while held").clone();
        let mut report = String::new();
        let namespaces = self.namespaces.lock().expect("no panic while held").clone();
        for ns in [self.host.clone()].iter().chain(&namespaces) {
            let change = ns.baseline().until(&ns.snapshot()).without(&allowed);
            if !change.is_empty() {
                let _ = write!(report, " in {}:\n{change}", ns.name());
            }
        }
        let before = self.files.lock().expect("no panic while held").clone();
        let change = before.until(&files()).without(&allowed);
        if !change.is_empty() {
            let _ = write!(report, " files:\n{change}");
        }
        report
    }

    fn accept_files(&self, before: &Snapshot) {
        let change = before.until(&files());
        self.files.lock().expect("no panic while held").apply(change);
    }
}

fn files() -> Snapshot {
    let roots = mounts::STATE_DIRS.map(Path::new);
    snapshot::of_files(&roots, &[PathBuf::from(OWN_DIR)])
}
