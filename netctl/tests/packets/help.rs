//! The examples in the help of these verbs do what they say. A command in the test's own PATH stands for ssh and goes to a
//! namespace of the lab; one stands for wireshark.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use testenv::lab;

use crate::{
    examples::{COLOURLESS, Scene},
    hosts::{Hosts, NETCTL},
};

fn script(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a directory of ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a file of ours");
}

#[test]
fn examples_run() {
    lab::run("help", |lab| {
        lab.needs_program("tshark", "tshark");
        let hosts = Hosts::build(lab);
        let listener = hosts.container(2).run(|| std::net::TcpListener::bind("10.244.2.10:80").unwrap());
        let dir = lab.dir().join("bin");
        fs::create_dir_all(&dir).unwrap();
        script(&dir, "netctl", &format!("exec {NETCTL} \"$@\""));
        script(&dir, "ssh", "shift; exec ip netns exec n2 \"$@\"");
        script(&dir, "wireshark", "exec tshark -c 1 -r -");
        let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
        for example in Scene::Packets.examples() {
            // A capture ends with its first packets, a watch after a moment.
            let end = if example.contains("capture") { " -c 1" } else { "" };
            let end = if example.contains("drops") && !example.contains("--duration") {
                " --duration 1"
            } else {
                end
            };
            let (command, pipe) = example
                .split_once(" | ")
                .map_or((&*example, String::new()), |(command, pipe)| (command, format!(" | {pipe}")));
            let line = format!("cd {}; {command}{end}{pipe}", dir.display());
            let traffic = AtomicTraffic::start(&hosts);
            let [force, no] = COLOURLESS.map(|(name, value)| format!("{name}={value}"));
            let path = format!("PATH={path}");
            let ran = hosts.host(1).exec(&["env", &path, &force, &no, "timeout", "30", "sh", "-c", &line]);
            drop(traffic);
            assert_eq!(ran.code, Some(0), "{example}\n{}\n{}", ran.stdout, ran.stderr);
            assert!(!ran.stderr.contains('\x1b'), "{example}\n{}", ran.stderr);
        }
        drop(listener);
    });
}

/// Connections to port 80 of the second container until it is dropped.
struct AtomicTraffic {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl AtomicTraffic {
    fn start(hosts: &Hosts) -> Self {
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (over, from) = (stop.clone(), hosts.container(1).clone());
        let thread = std::thread::spawn(move || {
            from.run(|| {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let to = "10.244.2.10:80".parse().expect("an address");
                    let _ = std::net::TcpStream::connect_timeout(&to, std::time::Duration::from_millis(200));
                    std::thread::park_timeout(std::time::Duration::from_millis(50));
                }
            });
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for AtomicTraffic {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
