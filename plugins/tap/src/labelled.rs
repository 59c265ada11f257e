//! A tap with a label of SELinux.
//!
//! The kernel gives a tap the label of the process that makes it (`selinux_tun_dev_alloc_security`, security/selinux/hooks.c),
//! whatever is said to it of sockets, and a process with threads gets another label by execve(2) alone. So this is the one
//! thing for which the plugin starts a process: itself, which makes the tap and ends.

use std::{
    env, fs,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, bail};
use cni::error::Error;
use kernel::{
    netns::Netns,
    tun::{self, Tap},
};
use serde::{Deserialize, Serialize};

/// What the started process is to make in its namespace.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    name: String,
    multi_queue: bool,
    owner: Option<u32>,
    group: Option<u32>,
}

/// As [`tun::add_tap`], under a label. Code 2 where the kernel does not run SELinux, code 7 where its policy does not know the
/// label.
pub(crate) fn add_tap(netns: &Netns, name: &str, tap: &Tap, label: &str) -> anyhow::Result<()> {
    require_selinux(label)?;
    let Tap { multi_queue, owner, group } = *tap;
    let order = Order { name: name.to_owned(), multi_queue, owner, group };
    let order = serde_json::to_string(&order).context("write the order for a tap")?;
    let program = env::current_exe().context("find this program")?;
    // The label is for what this thread executes next; namespace and label end with the thread.
    let output = netns.run(|| {
        fs::write(NEXT_LABEL, label)
            .map_err(|why| Error::invalid_config("selinuxContext", format!("{label:?}"), why))?;
        let mut process = Command::new(&program);
        process.args([ORDER, &order]).stdin(Stdio::null()).stdout(Stdio::null());
        process.output().with_context(|| format!("run {} as {label}", program.display()))
    })??;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("as {label}: {}", said.trim());
    }
    Ok(())
}

/// For STATUS too: a kernel without SELinux has no such file system.
pub(crate) fn require_selinux(label: &str) -> Result<(), Error> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.split_whitespace().any(|name| name == "selinuxfs") {
        return Ok(());
    }
    let why = "this kernel does not run SELinux";
    Err(Error::unsupported_field("selinuxContext", format!("{label:?}"), why))
}

/// Carries an order out, if this process was started for one.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut arguments = env::args().skip(1);
    if arguments.next()? != ORDER {
        return None;
    }
    let carried_out = carry_out(&arguments.next().unwrap_or_default());
    if let Err(err) = &carried_out {
        // Nobody configured a log: this is what the one who started it reads.
        let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{err:#}\n"));
    }
    Some(if carried_out.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn carry_out(order: &str) -> anyhow::Result<()> {
    let Order { name, multi_queue, owner, group } =
        serde_json::from_str(order).with_context(|| format!("read the order {order:?}"))?;
    let netns = Netns::current().map_err(anyhow::Error::msg)?;
    Ok(tun::add_tap(&tun::open(&netns)?, &name, &Tap { multi_queue, owner, group })?)
}

const ORDER: &str = "make-tap";
const NEXT_LABEL: &str = "/proc/thread-self/attr/exec";
