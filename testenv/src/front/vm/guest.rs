//! One guest: a machine that QEMU emulates, without KVM, over this host's files; it runs one job and is gone. Knows no tests.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use testenv::wait;

use super::cpio::Archive;
use super::kernel::Kernel;
use super::scratch::Scratch;

/// How a job ended.
pub(super) struct Ended {
    /// Exit status, as its shell had it; or why there is none.
    pub(super) code: anyhow::Result<u8>,
    /// What it wrote to [`REPORT`], to its end or as far as it came.
    pub(super) report: String,
}

/// The guest's file that ends up in [`Ended::report`]: a serial line.
pub(super) const REPORT: &str = "/dev/ttyS3";

/// Boot and shutdown need no more than 200 MB; the rest is for what the job writes and runs.
const MEMORY: &str = "1G";
/// Measured as fastest and steadiest without KVM; the kernel's self-tests and calibrations take seconds there.
const PARAMETERS: &str = "console=ttyS0 quiet panic=-1 cryptomgr.notests random.trust_cpu=on mitigations=off \
                          tsc=reliable no_timer_check";
/// Debian 12 has it in QEMU's package, later ones in its own.
const DAEMONS: [&str; 2] = ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd"];
/// How soon the other machine opens its end of a wire.
const LINKED: Duration = Duration::from_secs(20);
/// How much of the kernel's last words to show when there is nothing else.
const LAST_WORDS: usize = 4000;

/// What a guest is for.
pub(super) struct Job<'a> {
    /// For its shell.
    pub(super) script: &'a str,
    /// How long it may take.
    pub(super) limit: Duration,
    pub(super) wire: Option<Wire<'a>>,
    /// Ends it before that, once true.
    pub(super) over: &'a AtomicBool,
}

impl<'a> Job<'a> {
    /// One that has no part in anything.
    pub(super) fn alone(script: &'a str, limit: Duration) -> Self {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Self { script, limit, wire: None, over: &NEVER }
    }
}

/// A wire to one other guest, and to nothing else: the machine's only network device.
#[derive(Clone, Copy)]
pub(super) struct Wire<'a> {
    pub(super) end: End,
    /// Where the two machines meet.
    pub(super) socket: &'a Path,
}

/// The first end makes the socket, the second looks for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    First,
    Second,
}

/// Boots `kernel`, runs the job, and passes each line of its output to `out`, without its end; its standard error goes to
/// ours. Fails where no guest can be started.
pub(super) fn run(
    kernel: &Kernel,
    job: &Job<'_>,
    out: impl FnMut(&[u8]) -> io::Result<()> + Send,
) -> anyhow::Result<Ended> {
    let scratch = Scratch::make(&std::env::temp_dir(), "tenon-guest-")?;
    let dir = scratch.path();
    let mut archive = Archive::default();
    archive.program("job", job.script.as_bytes());
    let initrd = [kernel.first_root.as_slice(), &archive.finish()].concat();
    fs::write(dir.join("initrd"), initrd)
        .with_context(|| format!("write the first root in {}", dir.display()))?;
    let _daemon = share_files(dir)?;
    let mut machine = Process(start_machine(kernel, dir, job.wire)?);
    let (stdout, stderr) = (machine.0.stdout.take(), machine.0.stderr.take());
    let ended = thread::scope(|scope| {
        let output = scope.spawn(move || stdout.map_or(Ok(()), |from| pass_on(from, out)));
        scope.spawn(move || stderr.map(|mut from| io::copy(&mut from, &mut io::stderr())));
        let ended = wait::poll(job.limit, || {
            let ended = machine.0.try_wait().ok().flatten();
            (ended.is_some() || job.over.load(Ordering::Relaxed)).then_some(ended)
        });
        machine.0.kill().ok();
        output.join().unwrap_or_else(|_| bail!("reading the guest's output failed"))?;
        anyhow::Ok(ended)
    })?;
    let report = fs::read(dir.join("report")).unwrap_or_default();
    let report = String::from_utf8_lossy(&report).into_owned();
    let code = report.lines().find_map(|line| line.strip_prefix("exit ")?.trim().parse().ok());
    let code = match (code, ended.flatten()) {
        (Some(code), _) => Ok(code),
        (None, Some(status)) => {
            Err(anyhow!("the guest ended before the job did ({status}); {}", last_words(dir)))
        }
        (None, None) => Err(anyhow!("not done after {} s; {}", job.limit.as_secs(), last_words(dir))),
    };
    Ok(Ended { code, report })
}

/// What there is to know of a guest that did not end by itself.
fn last_words(dir: &Path) -> String {
    let mut words = String::from("its kernel: ");
    for file in ["console", "files.log"] {
        let bytes = fs::read(dir.join(file)).unwrap_or_default();
        let from = bytes.len().saturating_sub(LAST_WORDS);
        words.push_str(&String::from_utf8_lossy(&bytes[from..]));
    }
    words
}

fn pass_on(from: impl io::Read, mut to: impl FnMut(&[u8]) -> io::Result<()>) -> anyhow::Result<()> {
    for line in BufReader::new(from).split(b'\n') {
        to(&line.context("read the guest's output")?).context("pass on the guest's output")?;
    }
    Ok(())
}

/// Starts the daemon that gives the machine this host's files. It ends with the machine's connection.
fn share_files(dir: &Path) -> anyhow::Result<Process> {
    let daemon = DAEMONS.iter().find(|path| Path::new(path).is_file());
    let daemon = daemon.with_context(|| format!("no virtiofsd: looked for {}", DAEMONS.join(", ")))?;
    // Bound by us and inherited as its standard input: it is there before the machine looks for it.
    let listener = UnixListener::bind(dir.join("files")).context("listen for the machine")?;
    let mut command = ending_with_us(daemon);
    command.args(["--fd=0", "-o", "source=/", "-o", "sandbox=chroot", "-o", "cache=always"]);
    let log = File::create(dir.join("files.log")).context("make the daemon's log")?;
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(log);
    Ok(Process(command.spawn().with_context(|| format!("start {daemon}"))?))
}

fn start_machine(kernel: &Kernel, dir: &Path, wire: Option<Wire<'_>>) -> anyhow::Result<Child> {
    let path = |name: &str| dir.join(name).display().to_string();
    let append = format!("{PARAMETERS} release={} modules={}", kernel.release, kernel.modules.display());
    let mut command = ending_with_us("qemu-system-x86_64");
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-smp", "1"]);
    command.args(["-machine", "q35,memory-backend=memory", "-accel", "tcg,tb-size=256", "-cpu", "max"]);
    // The daemon reads and writes the machine's memory.
    command.args(["-m", MEMORY, "-object"]);
    command.arg(format!("memory-backend-memfd,id=memory,size={MEMORY},share=on"));
    command.args(["-chardev", &format!("socket,id=files,path={}", path("files"))]);
    command.args(["-device", "vhost-user-fs-pci,chardev=files,tag=host"]);
    for line in ["console", "/dev/stdout", "/dev/stderr", "report"] {
        // What has a directory of its own stays what it is.
        command.args(["-serial", &format!("file:{}", path(line))]);
    }
    if let Some(wire) = wire {
        command.args(network(wire)?);
    }
    command.arg("-kernel").arg(&kernel.image).args(["-initrd", &path("initrd"), "-append", &append]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("start qemu-system-x86_64")
}

/// The arguments that give a machine its end of a wire.
fn network(Wire { end, socket }: Wire<'_>) -> anyhow::Result<[String; 4]> {
    let (server, number) = if end == End::First { ("on", 1) } else { ("off", 2) };
    if end == End::Second {
        let there = wait::poll(LINKED, || socket.exists().then_some(()));
        there.with_context(|| format!("{} does not appear", socket.display()))?;
    }
    let path = socket.display();
    Ok([
        "-netdev".to_string(),
        format!("stream,id=wire,server={server},addr.type=unix,addr.path={path}"),
        "-device".to_string(),
        format!("virtio-net-pci,netdev=wire,romfile=,mac=02:00:00:00:00:0{number}"),
    ])
}

/// A program that the kernel kills when we end, however we do.
fn ending_with_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// A process that goes with its handle.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
