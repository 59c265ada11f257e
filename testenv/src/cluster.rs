//! Several hosts and the link between them: each host is a holder process with network, mount and host name of its own,
//! empty `/run`, `/etc/tenon` and state directories, and a veth to a bridge that stands for the switch. Knows no plugin.
//!
//! Everything is built by commands from outside the holders, so that a cluster can be found again by another process: see
//! [`Cluster::describe`] and [`Cluster::find`].

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{ns, wait, wiring};

/// What a cluster is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Options {
    pub hosts: u8,
    /// Of the links between the hosts.
    pub mtu: u32,
}

/// Hosts `h1`, `h2`, ... at 10.0.0.1, 10.0.0.2, ... and fd00:10::1, fd00:10::2, ... on one link.
#[derive(Debug, Serialize, Deserialize)]
pub struct Cluster {
    options: Options,
    switch: Holder,
    hosts: Vec<Holder>,
}

/// A process that does nothing but be in namespaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Holder {
    pub name: String,
    pid: u32,
    /// Since when it has run, in ticks: another process of that number is not it.
    started: u64,
}

/// What a command on a host said.
#[derive(Clone, Debug)]
pub struct Said {
    pub argv: Vec<String>,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Cluster {
    /// Builds a cluster. It stays until [`Cluster::down`].
    pub fn up(options: Options) -> anyhow::Result<Self> {
        ensure!((1..=200).contains(&options.hosts), "a cluster has 1 to 200 hosts, not {}", options.hosts);
        let mut cluster = Self { switch: Holder::start("switch")?, hosts: Vec::new(), options };
        // A cluster that is only half there is taken down again.
        match cluster.build() {
            Ok(()) => Ok(cluster),
            Err(cause) => {
                cluster.down()?;
                Err(cause)
            }
        }
    }

    fn build(&mut self) -> anyhow::Result<()> {
        self.switch.inside(|| wiring::add_bridge(SWITCH).and_then(|()| wiring::set_up(SWITCH)))?;
        for number in 1..=self.options.hosts {
            self.hosts.push(Holder::start(&format!("h{number}"))?);
            self.connect(number)?;
        }
        Ok(())
    }

    /// Gives a host its `eth0`, whose other end is a port of the switch, and its addresses.
    fn connect(&self, number: u8) -> anyhow::Result<()> {
        let (host, port, mtu) = (self.host(number), port(number), self.options.mtu);
        let net = host.net()?;
        self.switch.inside(|| {
            wiring::add_veth(&port, &net, "eth0", mtu)?;
            wiring::set_mtu(SWITCH, mtu)?;
            wiring::set_master(&port, SWITCH)?;
            wiring::set_up(&port)
        })?;
        host.inside(|| {
            // Neither the link's own address nor those of tunnels wait for duplicates.
            fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0")?;
            fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
            wiring::add_address("eth0", &format!("10.0.0.{number}/24"))?;
            wiring::add_address("eth0", &format!("fd00:10::{number:x}/64"))?;
            wiring::set_up("eth0")?;
            wiring::wait_running("eth0")
        })?;
        self.switch.inside(|| wiring::wait_running(&port))
    }

    /// Ends all that runs on the hosts, and the hosts.
    pub fn down(&mut self) -> anyhow::Result<()> {
        for holder in self.hosts.drain(..).chain([self.switch.clone()]) {
            holder.stop()?;
        }
        Ok(())
    }

    pub fn hosts(&self) -> &[Holder] {
        &self.hosts
    }

    /// Host number 1, 2, ...
    ///
    /// # Panics
    /// When there is no such host.
    pub fn host(&self, number: u8) -> &Holder {
        &self.hosts[usize::from(number) - 1]
    }

    /// What stands for the switch: bridge `switch0`, ports `port1`, `port2`, ...
    pub fn switch(&self) -> &Holder {
        &self.switch
    }

    /// The host of that name.
    pub fn named(&self, name: &str) -> anyhow::Result<&Holder> {
        self.hosts.iter().find(|host| host.name == name).with_context(|| format!("no host {name:?}"))
    }

    pub fn mtu(&self) -> u32 {
        self.options.mtu
    }

    /// The underlay's address of a host.
    pub fn address(number: u8, v6: bool) -> IpAddr {
        let text = if v6 { format!("fd00:10::{number:x}") } else { format!("10.0.0.{number}") };
        text.parse().expect("an address")
    }

    /// Takes a host off the link, or two hosts from each other.
    pub fn cut(&self, one: u8, other: Option<u8>) -> anyhow::Result<()> {
        let Some(other) = other else {
            return self.switch.inside(|| wiring::set_down(&port(one)));
        };
        self.switch.run(&[
            "nft",
            "add table bridge cut; add chain bridge cut forward { type filter hook forward priority 0; }",
        ])?;
        for (from, to) in [(one, other), (other, one)] {
            let rule =
                format!("add rule bridge cut forward iifname {} oifname {} drop", port(from), port(to));
            self.switch.run(&["nft", &rule])?;
        }
        Ok(())
    }

    /// Whether a host is off the link.
    pub fn is_cut(&self, number: u8) -> anyhow::Result<bool> {
        let path = format!("/sys/class/net/{}/flags", port(number));
        let flags = self.switch.run(&["cat", &path])?;
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).context(path)?;
        Ok(flags & IFF_UP == 0)
    }

    /// The pairs that are cut from each other, the smaller number first.
    pub fn cuts(&self) -> anyhow::Result<Vec<(u8, u8)>> {
        let rules = self.switch.exec(&["nft", "list", "chain", "bridge", "cut", "forward"])?;
        let number = |word: &str| word.trim_matches('"').strip_prefix("port")?.parse::<u8>().ok();
        let pair = |line: &str| {
            let mut numbers = line.split_whitespace().filter_map(number);
            Some((numbers.next()?, numbers.next()?))
        };
        // Each cut is two rules; no table is no cut.
        let mut pairs: Vec<_> =
            rules.stdout.lines().filter_map(pair).filter(|(one, other)| one < other).collect();
        pairs.sort_unstable();
        pairs.dedup();
        Ok(pairs)
    }

    /// Undoes every [`Cluster::cut`].
    pub fn heal(&self) -> anyhow::Result<()> {
        self.switch.run(&["nft", "add table bridge cut; delete table bridge cut"])?;
        for number in 1..=self.options.hosts {
            self.switch.inside(|| wiring::set_up(&port(number)))?;
        }
        Ok(())
    }

    /// Enough to find the cluster again.
    pub fn describe(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// The cluster that [`Cluster::describe`] wrote down.
    pub fn find(description: &str) -> anyhow::Result<Self> {
        Ok(serde_json::from_str(description)?)
    }
}

impl Holder {
    fn start(name: &str) -> anyhow::Result<Self> {
        let script = format!("{MOUNTS}\nhostname {name}\ntouch /run/ready\nexec sleep infinity");
        let flags = ["--net", "--mount", "--uts", "--propagation", "private"];
        let child = Command::new("unshare")
            .args(flags)
            .args(["setsid", "sh", "-ec", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start unshare (needs root)")?;
        let pid = child.id();
        let ready = PathBuf::from(format!("/proc/{pid}/root/run/ready"));
        let own = || {
            fs::read_link(format!("/proc/{pid}/ns/net")).ok()
                != fs::read_link("/proc/thread-self/ns/net").ok()
        };
        wait::poll(Duration::from_secs(10), || (own() && ready.exists()).then_some(()))
            .with_context(|| format!("host {name} does not come up"))?;
        let holder = Self { name: name.to_string(), pid, started: started(pid)? };
        holder.inside(|| wiring::set_up("lo"))?;
        Ok(holder)
    }

    fn net(&self) -> anyhow::Result<File> {
        let path = format!("/proc/{}/ns/net", self.pid);
        File::open(&path).with_context(|| format!("open {path} of {}", self.name))
    }

    /// Runs `act` in the host's network namespace; files are the caller's.
    fn inside<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> anyhow::Result<T> {
        inside(&self.net()?, act).with_context(|| format!("build {}", self.name))
    }

    /// Makes a network namespace for a container on the host, bound to `/run/netns/<container>`, with lo up.
    pub fn add_netns(&self, container: &str) -> anyhow::Result<()> {
        let path = format!("/run/netns/{container}");
        self.write(&path, "")?;
        self.run(&["unshare", &format!("--net={path}"), "true"])?;
        self.in_netns(container, || wiring::set_up("lo"))
    }

    /// Runs `act` in a container's network namespace; files are the caller's.
    pub fn in_netns<T: Send>(
        &self,
        container: &str,
        act: impl FnOnce() -> io::Result<T> + Send,
    ) -> anyhow::Result<T> {
        let path = self.file(&format!("/run/netns/{container}"));
        let net = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        inside(&net, act).with_context(|| format!("in {container} on {}", self.name))
    }

    pub fn remove_netns(&self, container: &str) -> anyhow::Result<()> {
        let path = format!("/run/netns/{container}");
        self.run(&["umount", &path])?;
        self.run(&["rm", &path]).map(drop)
    }

    /// Whether the process is there and is ours.
    pub fn is_alive(&self) -> bool {
        started(self.pid).is_ok_and(|started| started == self.started)
    }

    fn stop(&self) -> anyhow::Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        // All that is in its network namespace: agents, servers, and the holder itself.
        let net = fs::read_link(format!("/proc/{}/ns/net", self.pid))?;
        for pid in processes()? {
            if fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|other| other == net) {
                end(pid)?;
            }
        }
        let gone = wait::poll(Duration::from_secs(5), || (!self.is_alive()).then_some(()));
        gone.with_context(|| format!("host {} does not end", self.name))
    }

    /// A command line that runs `argv` on the host.
    pub fn command_line(&self, argv: &[&str]) -> Vec<String> {
        let pid = self.pid.to_string();
        let enter = ["nsenter", "--target", &pid, "--net", "--mount", "--uts", "--wd=/"];
        enter.iter().chain(argv).map(ToString::to_string).collect()
    }

    /// Runs a command on the host to its end.
    pub fn exec(&self, argv: &[&str]) -> anyhow::Result<Said> {
        let line = self.command_line(argv);
        let output = Command::new(&line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("start {} on {}", argv.join(" "), self.name))?;
        Ok(Said {
            argv: argv.iter().map(ToString::to_string).collect(),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command on the host, which must succeed; its standard output.
    pub fn run(&self, argv: &[&str]) -> anyhow::Result<String> {
        let said = self.exec(argv)?;
        if said.code != Some(0) {
            bail!(
                "{}: {} exited with {:?}: {}",
                self.name,
                said.argv.join(" "),
                said.code,
                said.stderr.trim()
            );
        }
        Ok(said.stdout)
    }

    /// Starts a command that goes on; what it says goes to `log`, a file of the caller's.
    pub fn start_command(&self, argv: &[&str], log: &Path) -> anyhow::Result<Child> {
        let line = self.command_line(argv);
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new(&line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {} on {}", argv.join(" "), self.name))?;
        Ok(child)
    }

    /// Its network namespace, for work from this process.
    pub fn ns(&self) -> anyhow::Result<ns::Ns> {
        let path = PathBuf::from(format!("/proc/{}/ns/net", self.pid));
        ns::Ns::open(&self.name, &path).with_context(|| format!("open the namespace of {}", self.name))
    }

    /// A file of the host as this process can open it.
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    /// Writes a file on the host, whole.
    pub fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let (file, beside) = (self.file(path), self.file(&format!("{path}.new")));
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("make {} on {}", parent.display(), self.name))?;
        }
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &file))
            .with_context(|| format!("write {path} on {}", self.name))
    }
}

fn inside<T: Send>(net: &File, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    ns::on_own_thread(|| {
        ns::enter(net)?;
        act()
    })
}

/// In clock ticks since the boot (proc_pid_stat(5), field 22; the name in field 2 may hold anything).
fn started(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let mut fields = rest.split_whitespace();
    let state = fields.next().unwrap_or_default();
    if state == "Z" {
        return Err(io::ErrorKind::NotFound.into());
    }
    fields.nth(18).and_then(|field| field.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn processes() -> io::Result<Vec<u32>> {
    let names = fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name());
    Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
}

fn end(pid: u32) -> anyhow::Result<()> {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid)?);
    match nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(err) => Err(err).with_context(|| format!("end process {pid}")),
    }
}

fn port(number: u8) -> String {
    format!("port{number}")
}

const SWITCH: &str = "switch0";
const IFF_UP: u32 = 1;
/// State of its own for each host, and a /sys of its own network.
const MOUNTS: &str = "mkdir -p /var/lib/tenon /var/lib/cni /etc/tenon /etc/cni
mount -t sysfs sysfs /sys
for dir in /run /var/lib/tenon /var/lib/cni /etc/tenon /etc/cni; do mount -t tmpfs tmpfs $dir; done
mkdir -p /run/netns";
