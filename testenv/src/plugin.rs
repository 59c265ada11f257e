//! Calling a plugin as a runtime does: environment, configuration on stdin, JSON on stdout. One plugin a call;
//! chains are netctl's job.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, thread};

use serde_json::Value;

use crate::ns::Ns;

/// A call that is being put together. Clone it to ask DEL what was asked of ADD.
#[derive(Clone)]
pub struct PluginCall {
    program: PathBuf,
    host: Ns,
    config: String,
    container: String,
    netns: String,
    ifname: String,
    args: String,
    path: Vec<PathBuf>,
    environment: Vec<(String, String)>,
    through: Vec<String>,
}

/// What a plugin answered.
#[derive(Debug)]
pub struct Reply {
    pub what: String,
    /// None when a signal ended it.
    pub code: Option<i32>,
    /// None when stdout was no JSON, or empty.
    pub json: Option<Value>,
    pub stdout: String,
    pub stderr: String,
}

/// The directory that cargo put the running test's binaries in.
///
/// # Panics
/// When the running program has no path.
pub fn built() -> PathBuf {
    let program = env::current_exe().expect("a running program has a path");
    let dir = program.parent().expect("a program is in a directory");
    let dir = if dir.ends_with("deps") { dir.parent().expect("deps is in a directory") } else { dir };
    dir.to_path_buf()
}

impl PluginCall {
    pub(crate) fn ours(name: &str, host: &Ns) -> Self {
        let dir = built();
        assert!(
            dir.join(name).is_file(),
            "{} is not built: run `cargo testenv test`, or `cargo build --workspace` first",
            dir.join(name).display()
        );
        Self::of(&dir, name, host)
    }

    pub(crate) fn of(dir: &Path, name: &str, host: &Ns) -> Self {
        Self {
            program: dir.join(name),
            host: host.clone(),
            config: "{}".to_string(),
            container: "c1".to_string(),
            netns: String::new(),
            ifname: "eth0".to_string(),
            args: String::new(),
            path: vec![dir.to_path_buf()],
            environment: Vec::new(),
            through: Vec::new(),
        }
    }

    pub fn config(mut self, config: &Value) -> Self {
        self.config = config.to_string();
        self
    }

    /// A configuration as text, which need not be JSON.
    pub fn raw_config(mut self, config: &str) -> Self {
        self.config = config.to_string();
        self
    }

    /// CNI_CONTAINERID; `c1` when not said.
    pub fn container(mut self, id: &str) -> Self {
        self.container = id.to_string();
        self
    }

    /// CNI_NETNS: the path of `ns`.
    pub fn netns(self, ns: &Ns) -> Self {
        let path = ns.path().to_string_lossy().into_owned();
        self.netns_path(&path)
    }

    /// CNI_NETNS as written; empty is a DEL without one, and the default.
    pub fn netns_path(mut self, path: &str) -> Self {
        self.netns = path.to_string();
        self
    }

    /// CNI_IFNAME; `eth0` when not said.
    pub fn ifname(mut self, ifname: &str) -> Self {
        self.ifname = ifname.to_string();
        self
    }

    /// CNI_ARGS.
    pub fn args(mut self, args: &str) -> Self {
        self.args = args.to_string();
        self
    }

    /// CNI_PATH; the plugin's own directory when not said.
    pub fn path(mut self, dirs: &[&Path]) -> Self {
        self.path = dirs.iter().map(|dir| dir.to_path_buf()).collect();
        self
    }

    /// Sets a variable over those that the call makes.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_string(), value.to_string()));
        self
    }

    /// Runs the plugin by another program, such as `["strace", "-f", "-e", "inject=sendto:error=EPERM:when=2"]`.
    pub fn through(mut self, argv: &[&str]) -> Self {
        self.through = argv.iter().map(ToString::to_string).collect();
        self
    }

    /// Runs the plugin in another namespace than the lab's host.
    pub fn inside(mut self, host: &Ns) -> Self {
        self.host = host.clone();
        self
    }

    pub fn add(&self) -> Reply {
        self.call("ADD")
    }

    pub fn del(&self) -> Reply {
        self.call("DEL")
    }

    pub fn check(&self) -> Reply {
        self.call("CHECK")
    }

    pub fn gc(&self) -> Reply {
        self.call("GC")
    }

    pub fn status(&self) -> Reply {
        self.call("STATUS")
    }

    pub fn version(&self) -> Reply {
        self.call("VERSION")
    }

    /// Runs the plugin with CNI_COMMAND `verb` to its end.
    #[track_caller]
    pub fn call(&self, verb: &str) -> Reply {
        self.start(verb).wait()
    }

    /// Starts the plugin and gives it its configuration; to kill it, or to run several at once.
    #[track_caller]
    pub fn start(&self, verb: &str) -> Running {
        let what = format!("{} {verb}", self.program.display());
        let mut command = self.command(verb);
        let mut child =
            self.host.run(move || command.spawn()).unwrap_or_else(|cause| panic!("start {what}: {cause}"));
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        let config = self.config.clone();
        // A plugin need not read its configuration, and a long one does not fit into the pipe.
        thread::spawn(move || stdin.write_all(config.as_bytes()).ok());
        Running { what, child }
    }

    fn command(&self, verb: &str) -> Command {
        let argv: Vec<&str> = self.through.iter().map(String::as_str).collect();
        let mut command = match argv.split_first() {
            None => Command::new(&self.program),
            Some((program, rest)) => {
                let mut command = Command::new(program);
                command.args(rest).arg(&self.program);
                command
            }
        };
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CNI_")) {
            command.env_remove(name);
        }
        let path = env::join_paths(&self.path).expect("no colon in a directory's name");
        command.env("CNI_COMMAND", verb).env("CNI_PATH", path);
        if ["ADD", "DEL", "CHECK"].contains(&verb) {
            command.env("CNI_CONTAINERID", &self.container).env("CNI_NETNS", &self.netns);
            command.env("CNI_IFNAME", &self.ifname).env("CNI_ARGS", &self.args);
        }
        command.envs(self.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A plugin at work. Dropped, it goes on by itself.
pub struct Running {
    what: String,
    child: Child,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGKILL; one that has already ended is left alone.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()
    }

    pub fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    #[track_caller]
    pub fn wait(self) -> Reply {
        let Self { what, child } = self;
        let output = child.wait_with_output().unwrap_or_else(|cause| panic!("wait for {what}: {cause}"));
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Reply { what, code: output.status.code(), json: serde_json::from_str(&stdout).ok(), stdout, stderr }
    }
}

impl Reply {
    pub fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// The result; Null where the verb has none.
    ///
    /// # Panics
    /// When the plugin failed, or when what it printed is neither JSON nor nothing.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.succeeded(), "{self}");
        match self.json {
            Some(json) => json,
            None if self.stdout.trim().is_empty() => Value::Null,
            None => panic!("{self}"),
        }
    }

    /// The error object, which must carry the CNI error code `code`.
    ///
    /// # Panics
    /// When the plugin succeeded or failed in another way.
    #[track_caller]
    pub fn err(self, code: u64) -> Value {
        let said = self.json.as_ref().and_then(|json| json.get("code")).and_then(Value::as_u64);
        let failed = matches!(self.code, Some(exit) if exit != 0);
        assert!(failed && said == Some(code), "expected error code {code}: {self}");
        self.json.unwrap_or_default()
    }
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, code, stdout, stderr, .. } = self;
        write!(f, "{what} exited with {code:?}\nstdout: {stdout}\nstderr: {stderr}")
    }
}
