//! Attaches many containers to a bridge in a lab of its own, then prints how long `netctl ps`, `status` and `doctor` take there and how
//! much memory. `cargo build --workspace && cargo run -p netctl --example thousand 1000`, as root.

#![expect(clippy::print_stdout, reason = "what it measures is for a person to read")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;
use testenv::lab::{self, Lab};

fn main() {
    let count = env::args().nth(1).map_or(1000, |text| text.parse().expect("a number of containers"));
    lab::run("thousand", move |lab| measure(lab, count));
}

fn measure(lab: &Lab, count: u32) {
    let programs = programs();
    let root = lab.dir().join("root");
    fs::create_dir_all(root.join("net.d")).expect("make a directory for configurations");
    let conf = json!({"name": "ovl", "cniVersion": "1.1.0", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": {
            "type": "host-local", "dataDir": root.join("networks"), "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": "10.9.0.0/16"}]]}},
        {"type": "portmap", "snat": false, "capabilities": {"portMappings": true}}]});
    fs::write(root.join("net.d/10-ovl.conflist"), conf.to_string()).expect("write the configuration");
    let begun = Instant::now();
    for number in 0..count {
        let name = format!("c{number}");
        // The lab's own namespaces each cost a look at all files.
        lab.exec(&["ip", "netns", "add", &name]).ok();
        let port = 10_000 + number;
        let ports = json!({"portMappings": [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]});
        let add = ["exec", "add", "ovl", &name, "--container-id", &name, "-q"];
        run(&programs, &root, &add, &ports.to_string());
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{count} attachments of bridge and portmap made in {seconds:.1} s");
    for verb in ["ps", "status", "doctor"] {
        let (begun, before) = (Instant::now(), used());
        run(&programs, &root, &[verb], "{}");
        let (took, after) = (begun.elapsed().as_millis(), used());
        println!("netctl {verb}: {took} ms, {} ms of a CPU, at most {} MB", after.0 - before.0, after.1);
    }
    // The lab takes all of it with it.
    lab.allow_everything();
}

/// Milliseconds of CPUs that children used, and the megabytes of the largest until now; the plugins are small.
fn used() -> (i64, i64) {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("ask for what children used");
    let milliseconds = |time: nix::sys::time::TimeVal| time.tv_sec() * 1000 + time.tv_usec() / 1000;
    (milliseconds(usage.user_time()) + milliseconds(usage.system_time()), usage.max_rss() / 1024)
}

/// The directory of the workspace's programs, beside that of the examples.
fn programs() -> PathBuf {
    let program = env::current_exe().expect("a running program has a path");
    program.ancestors().nth(2).expect("it is in a directory of the target directory").to_owned()
}

fn run(programs: &Path, root: &Path, words: &[&str], capabilities: &str) {
    let mut command = Command::new(programs.join("netctl"));
    command.args(words).arg("--root").arg(root).env("CNI_PATH", programs).env("CAP_ARGS", capabilities);
    let ran = command.stdout(Stdio::null()).status().expect("run netctl");
    assert!(ran.success(), "netctl {}: {ran}", words.join(" "));
}
