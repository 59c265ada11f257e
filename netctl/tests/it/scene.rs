//! A lab with netctl's state in it, and the calls of netctl.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use testenv::{lab::Lab, ns::Ns};

/// netctl's `--root`, and a plugin directory of its own.
pub(crate) struct Scene {
    pub(crate) root: PathBuf,
    pub(crate) plugins: PathBuf,
    /// Directories of CNI_PATH, `plugins` among them.
    pub(crate) path: Vec<PathBuf>,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Scene {
    pub(crate) fn new(lab: &Lab) -> Self {
        let root = lab.dir().join("root");
        let plugins = lab.dir().join("plugins");
        fs::create_dir_all(root.join("net.d")).expect("make net.d");
        fs::create_dir_all(plugins.join("log")).expect("make log");
        let path = vec![plugins.clone()];
        Self { root, plugins, path }
    }

    /// A scene whose plugins are those in `dirs`.
    pub(crate) fn of(lab: &Lab, dirs: &[PathBuf]) -> Self {
        Self { path: dirs.to_vec(), ..Self::new(lab) }
    }

    pub(crate) fn conf(&self, file: &str, conf: &Value) {
        fs::write(self.root.join("net.d").join(file), conf.to_string()).expect("write a configuration");
    }

    /// The command line, split at spaces.
    pub(crate) fn netctl(&self, line: &str) -> Said {
        self.netctl_with(&[], line)
    }

    pub(crate) fn netctl_with(&self, environment: &[(&str, &str)], line: &str) -> Said {
        self.call(environment, &line.split(' ').collect::<Vec<_>>())
    }

    /// Words that may have spaces in them.
    pub(crate) fn netctl_words(&self, words: &[&str]) -> Said {
        self.call(&[], words)
    }

    fn call(&self, environment: &[(&str, &str)], words: &[&str]) -> Said {
        let output = Command::new(env!("CARGO_BIN_EXE_netctl"))
            .args(words)
            .arg("--root")
            .arg(&self.root)
            .env("CNI_PATH", std::env::join_paths(&self.path).expect("no colon in a directory"))
            .envs(environment.iter().copied())
            .output()
            .expect("run netctl");
        Said {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    pub(crate) fn results(&self) -> Vec<String> {
        names(&self.root.join("results"))
    }

    /// Installs a plugin that writes down what it is told, answers from [`Self::answer`] and else succeeds silently.
    pub(crate) fn recorder(&self, name: &str) {
        let file = self.plugins.join(name);
        fs::write(&file, RECORDER).expect("write a recorder");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("make it executable");
    }

    /// What the recorder `name` prints for `verb`, failing after it when `fails`.
    pub(crate) fn answer(&self, name: &str, verb: &str, fails: bool, answer: &Value) {
        let suffix = if fails { "fail" } else { "ok" };
        fs::write(self.plugins.join(format!("{name}.{verb}.{suffix}")), answer.to_string())
            .expect("write an answer");
    }

    /// What the recorders were told since the last look, in order.
    pub(crate) fn told(&self) -> Vec<Told> {
        let log = self.plugins.join("log");
        let told = names(&log).iter().map(|name| Told::read(&log.join(name))).collect();
        fs::remove_dir_all(&log).expect("empty the log");
        fs::create_dir(&log).expect("make the log");
        told
    }
}

/// One call of a recorder.
#[derive(Debug)]
pub(crate) struct Told {
    /// `bridge ADD`.
    pub(crate) call: String,
    /// The variables that begin with `CNI_`, but CNI_COMMAND and CNI_PATH.
    pub(crate) environment: String,
    pub(crate) config: Value,
}

impl Told {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).expect("read what was told");
        let (environment, config) = text.split_once("\n\n").expect("an empty line");
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        let call = name.split_once('.').expect("number.name.verb").1.replace('.', " ");
        let config = serde_json::from_str(config).expect("a JSON configuration");
        Self { call, environment: environment.to_owned(), config }
    }
}

pub(crate) fn calls(told: &[Told]) -> Vec<&str> {
    told.iter().map(|told| told.call.as_str()).collect()
}

impl Said {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    /// Exit status 1 and this code of the protocol on standard output.
    #[track_caller]
    pub(crate) fn failed(self, code: u64) -> Value {
        assert_eq!(self.code, Some(1), "{self:#?}");
        let error: Value = serde_json::from_str(&self.stdout).expect("JSON on stdout");
        assert_eq!(error["code"], code, "{self:#?}");
        error
    }

    #[track_caller]
    pub(crate) fn usage(self) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{self:#?}");
        self.stderr
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("JSON on stdout")
    }
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

pub(crate) fn path_of(ns: &Ns) -> String {
    ns.path().to_string_lossy().into_owned()
}

const RECORDER: &str = r#"#!/bin/sh
here=$(dirname "$0"); name=$(basename "$0"); call="$here/$name.$CNI_COMMAND"
count=$(ls "$here/log" | wc -l)
{ env | grep ^CNI_ | grep -v -e ^CNI_COMMAND= -e ^CNI_PATH= | sort; echo; cat; } > "$here/log/$((100 + count)).$name.$CNI_COMMAND"
echo "$name was here" >&2
[ -f "$call.fail" ] && { cat "$call.fail"; exit 1; }
[ -f "$call.ok" ] && cat "$call.ok"
exit 0
"#;
