//! One guest: a machine that QEMU emulates, without KVM, over this host's files; it runs one job and is gone. Knows no tests.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use testenv::wait;

use super::cpio::Archive;
use super::kernel::Kernel;

/// How a job ended.
pub(super) struct Ended {
    /// Exit status, as its shell had it.
    pub(super) code: u8,
    /// What it wrote to [`REPORT`].
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
/// How much of the kernel's last words to show when there is nothing else.
const LAST_WORDS: usize = 4000;

/// Boots `kernel`, runs the shell script `job`, and passes each line of its output to `out`, without its end; its standard
/// error goes to ours.
pub(super) fn run(
    kernel: &Kernel,
    job: &str,
    patience: Duration,
    out: impl FnMut(&[u8]) -> io::Result<()> + Send,
) -> anyhow::Result<Ended> {
    let dir = Scratch::make()?;
    let initrd = dir.0.join("initrd");
    let mut bytes = fs::read(&kernel.initramfs).context("read the first root")?;
    let mut archive = Archive::default();
    archive.program("job", job.as_bytes());
    bytes.extend(archive.finish());
    fs::write(&initrd, bytes).with_context(|| format!("write {}", initrd.display()))?;
    let _daemon = share_files(&dir.0)?;
    let mut machine = Process(start_machine(kernel, &dir.0)?);
    let (stdout, stderr) = (machine.0.stdout.take(), machine.0.stderr.take());
    let ended = thread::scope(|scope| {
        let output = scope.spawn(move || stdout.map_or(Ok(()), |from| pass_on(from, out)));
        scope.spawn(move || stderr.map(|mut from| io::copy(&mut from, &mut io::stderr())));
        let ended = wait::poll(patience, || machine.0.try_wait().ok().flatten());
        machine.0.kill().ok();
        output.join().unwrap_or_else(|_| bail!("reading the guest's output failed"))?;
        anyhow::Ok(ended)
    })?;
    let report = fs::read(dir.0.join("report")).unwrap_or_default();
    let report = String::from_utf8_lossy(&report).into_owned();
    let code = report.lines().find_map(|line| line.strip_prefix("exit ")?.trim().parse().ok());
    match (code, ended) {
        (Some(code), _) => Ok(Ended { code, report }),
        (None, Some(status)) => {
            bail!("the guest ended before the job did ({status}); its kernel: {}", dir.last_words())
        }
        (None, None) => bail!("not done after {} s; its kernel: {}", patience.as_secs(), dir.last_words()),
    }
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

fn start_machine(kernel: &Kernel, dir: &Path) -> anyhow::Result<Child> {
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
    command.arg("-kernel").arg(&kernel.image).args(["-initrd", &path("initrd"), "-append", &append]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("start qemu-system-x86_64")
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

/// A directory that goes with its handle.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("tenon-vm-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
        Ok(Self(dir))
    }

    fn last_words(&self) -> String {
        let mut words = String::new();
        for file in ["console", "files.log"] {
            let bytes = fs::read(self.0.join(file)).unwrap_or_default();
            let from = bytes.len().saturating_sub(LAST_WORDS);
            words.push_str(&String::from_utf8_lossy(&bytes[from..]));
        }
        words
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}
