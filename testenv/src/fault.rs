//! The plugin under a tracer (ptrace(2)) that counts the system calls by which it changes anything, over all its threads,
//! and at one of them kills it or has the call refused. Between two of them nothing changes, so that every state in
//! which the plugin can die is seen.
//!
//! Not strace: its `when=` counts each system call for itself and each thread anew, so most calls are out of its reach.

use std::{panic::resume_unwind, thread};

use crate::plugin::{PluginCall, Reply};
use nix::{
    errno::Errno,
    libc::{self, c_long, user_regs_struct},
    sys::{
        ptrace::{self, Event, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// What happens to the plugin at the system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is killed before the call.
    Killed,
    /// The call does nothing and fails with this.
    Refused(Errno),
}

/// How a call went, and the system call that was struck, if there were so many.
pub struct Struck {
    pub reply: Reply,
    pub at: Option<&'static str>,
}

/// Calls the plugin with `verb`; its `number`th change, from 1, meets `fate`.
///
/// # Panics
/// When the plugin can't be traced.
#[track_caller]
pub fn strike(call: &PluginCall, verb: &str, number: usize, fate: Fate) -> Struck {
    // It waits for its tracer, and is the plugin only then.
    let running = call.clone().through(&["sh", "-c", "kill -STOP $$; exec \"$0\""]).start(verb);
    let pid = Pid::from_raw(i32::try_from(running.pid()).expect("the kernel's process ids are positive"));
    // A thread's tracees are let go when it ends.
    let traced = thread::scope(|scope| scope.spawn(|| Tracer::new(pid, number, fate).run()).join());
    let traced = traced.unwrap_or_else(|panic| resume_unwind(panic));
    let at = traced.unwrap_or_else(|cause| panic!("trace {verb}: {cause}"));
    Struck { reply: running.wait(), at }
}

/// Strikes every change of the call in turn, `then` after each, until it gets through without one. Says how many there were.
///
/// # Panics
/// When the plugin can't be traced.
#[track_caller]
pub fn strike_each(call: &PluginCall, verb: &str, fate: Fate, mut then: impl FnMut(&str, &Reply)) -> usize {
    for number in 1..1000 {
        let Struck { reply, at } = strike(call, verb, number, fate);
        then(&format!("{verb} {fate:?} at change {number}, {}", at.unwrap_or("none")), &reply);
        if at.is_none() {
            return number - 1;
        }
    }
    panic!("no end of changes");
}

struct Tracer {
    pid: Pid,
    number: usize,
    fate: Fate,
    /// Nothing counts before the plugin itself runs.
    executing: bool,
    /// The thread whose call has to come back as refused.
    refused: Option<Pid>,
    at: Option<&'static str>,
}

impl Tracer {
    fn new(pid: Pid, number: usize, fate: Fate) -> Self {
        Self { pid, number, fate, executing: false, refused: None, at: None }
    }

    /// Returns what was struck; the plugin goes on by itself, or dies.
    fn run(mut self) -> nix::Result<Option<&'static str>> {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACEEXIT;
        ptrace::seize(self.pid, options)?;
        loop {
            // Others in this process wait for children of their own.
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))? {
                WaitStatus::PtraceSyscall(thread) => {
                    if self.syscall(thread)? {
                        return Ok(self.at);
                    }
                    ptrace::syscall(thread, None)?;
                }
                WaitStatus::PtraceEvent(thread, signal, event) => {
                    if event == Event::PTRACE_EVENT_EXEC as i32 {
                        self.executing = true;
                    }
                    if event == Event::PTRACE_EVENT_EXIT as i32 && thread == self.pid {
                        return Ok(self.at);
                    }
                    if event == Event::PTRACE_EVENT_STOP as i32 && signal == Signal::SIGSTOP {
                        // Else it would stop again when it is let go.
                        kill(self.pid, Signal::SIGCONT)?;
                    }
                    ptrace::syscall(thread, None)?;
                }
                // The stop of the beginning is over with its tracer there.
                WaitStatus::Stopped(thread, Signal::SIGSTOP) => ptrace::syscall(thread, None)?,
                WaitStatus::Stopped(thread, signal) => ptrace::syscall(thread, signal)?,
                _ => {}
            }
        }
    }

    /// True when there is nothing more to do.
    fn syscall(&mut self, thread: Pid) -> nix::Result<bool> {
        let mut registers = ptrace::getregs(thread)?;
        let entering = ptrace::syscall_info(thread)?.op == libc::PTRACE_SYSCALL_INFO_ENTRY;
        if let (Fate::Refused(errno), false, true) = (self.fate, entering, self.refused == Some(thread)) {
            registers.rax = (-i64::from(errno as i32)).cast_unsigned();
            ptrace::setregs(thread, registers)?;
            return Ok(true);
        }
        let name = change(&registers).or_else(|| match self.fate {
            // What makes no difference to others may still fail.
            Fate::Refused(_) => name(&OTHERS, &registers),
            Fate::Killed => None,
        });
        let Some(name) = name.filter(|_| entering && self.executing && self.at.is_none()) else {
            return Ok(false);
        };
        self.number -= 1;
        if self.number > 0 {
            return Ok(false);
        }
        self.at = Some(name);
        match self.fate {
            Fate::Killed => kill(self.pid, Signal::SIGKILL)?,
            Fate::Refused(_) => {
                // No such call: the kernel does nothing.
                registers.orig_rax = u64::MAX;
                ptrace::setregs(thread, registers)?;
                self.refused = Some(thread);
            }
        }
        Ok(self.fate == Fate::Killed)
    }
}

/// The name of the system call if it may change something that outlives the process.
fn change(registers: &user_regs_struct) -> Option<&'static str> {
    let writing = u64::try_from(libc::O_CREAT | libc::O_WRONLY | libc::O_RDWR).ok()?;
    match name(&CHANGES, registers)? {
        "openat" => (registers.rdx & writing != 0).then_some("openat"),
        "open" => (registers.rsi & writing != 0).then_some("open"),
        name => Some(name),
    }
}

fn name(of: &[(c_long, &'static str)], registers: &user_regs_struct) -> Option<&'static str> {
    let number = c_long::try_from(registers.orig_rax).ok()?;
    of.iter().find(|(call, _)| *call == number).map(|(_, name)| *name)
}

const CHANGES: [(c_long, &str); 24] = [
    (libc::SYS_openat, "openat"),
    (libc::SYS_open, "open"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_sendmmsg, "sendmmsg"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_rmdir, "rmdir"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_link, "link"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_symlink, "symlink"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_utimensat, "utimensat"),
    (libc::SYS_setxattr, "setxattr"),
    (libc::SYS_fsetxattr, "fsetxattr"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_ioctl, "ioctl"),
];
const OTHERS: [(c_long, &str); 8] = [
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_socket, "socket"),
    (libc::SYS_bind, "bind"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_clone, "clone"),
    (libc::SYS_clone3, "clone3"),
    (libc::SYS_setns, "setns"),
];
