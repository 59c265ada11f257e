use std::{
    fmt::Write as _,
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use overlay::{agent::request::Request, client};
use serde_json::json;
use testenv::{
    lab::{self, Lab},
    plugin::built,
    skip, wait,
};

use crate::{fleet::SOON, scene};

/// overlayd in the lab's own host, on a peers file, with its files in the lab's directory.
fn start(lab: &Lab, peers: &str, environment: &[(&str, &str)]) -> Child {
    let dir = lab.dir().display().to_string();
    std::fs::write(lab.dir().join("lab.json"), peers).unwrap();
    let config = format!(
        "node = 'us'\nmetrics = ''\nsocket = '{dir}/sock'\nrun = '{dir}/run'\nlib = '{dir}/lib'\n[[network]]\nfile = '{dir}/lab.json'\n"
    );
    std::fs::write(lab.dir().join("overlayd.toml"), config).unwrap();
    let mut command = Command::new(built().join("overlayd"));
    command.arg("--config").arg(lab.dir().join("overlayd.toml")).envs(environment.iter().copied());
    command.stderr(Stdio::inherit()).spawn().unwrap()
}

fn peers_file(count: u32) -> String {
    let mut peers =
        r#"{"node": "us", "underlay": "198.51.100.1", "subnets": ["10.255.255.0/24"]}"#.to_owned();
    for n in 1..=count {
        let [_, a, b, c] = n.to_be_bytes();
        write!(
            peers,
            r#",{{"node": "host-{n}.example.net", "underlay": "172.{}.{b}.{c}", "subnets": ["10.{b}.{c}.0/24"]}}"#,
            16 + a
        )
        .unwrap();
    }
    format!(r#"{{"name": "lab", "vni": 7, "pools": ["10.0.0.0/8"], "peers": [{peers}]}}"#)
}

#[test]
fn ten_thousand_peers_fit_into_fifty_megabytes() {
    lab::run("overlay-memory", |lab| {
        let _outside = scene::uplink(lab);
        let mut agent = start(lab, &peers_file(10_000), &[]);
        let socket = lab.dir().join("sock");
        let status = || Some(client::ask(&socket, &Request::Status { network: None }).ok()?[0].take());
        let saved = lab.dir().join("lib/lab.json");
        wait::wait_for("10,000 peers, in the kernel and on the disk", Duration::from_secs(30), || {
            let complete =
                status().is_some_and(|s| s["peers"] == json!(10_000) && s["in_sync"] == json!(true));
            complete && saved.exists()
        });
        // Read back and compared once more, as every five minutes.
        let difference = Request::Difference { network: "lab".parse().unwrap() };
        assert_eq!(client::ask(&socket, &difference).unwrap()["changes"], json!([]));
        let peak = peak(agent.id());
        eprintln!("agent: {} MB at 10,000 peers", peak / 1024);
        agent.kill().unwrap();
        agent.wait().unwrap();
        lab.exec(&["ip", "link", "del", "ovl7"]).ok();
        assert!(peak <= 50 * 1024, "{peak} KiB");
    });
}

/// The most memory that a process ever had at once, in KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn the_service_manager_hears_of_it() {
    lab::run("overlay-notify", |lab| {
        let _outside = scene::uplink(lab);
        let path = lab.dir().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(SOON)).unwrap();
        let hear = || {
            let mut bytes = [0; 256];
            let length = manager.recv(&mut bytes).expect("a notification");
            String::from_utf8_lossy(&bytes[..length]).trim().to_owned()
        };
        let period = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
        let mut agent = start(lab, &peers_file(1), &period);
        let first: Vec<_> = (0..4).map(|_| hear()).collect();
        assert_eq!(first.iter().filter(|said| *said == "READY=1").count(), 1, "{first:?}");
        assert_eq!(first.iter().filter(|said| *said == "WATCHDOG=1").count(), 3, "{first:?}");
        // Stopped by a signal that can't be caught, it falls silent: the watchdog would bite.
        let pid = Pid::from_raw(i32::try_from(agent.id()).unwrap());
        kill(pid, Signal::SIGSTOP).unwrap();
        manager.set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        let silence = wait::poll(SOON, || manager.recv(&mut [0; 256]).is_err().then_some(()));
        assert!(silence.is_some(), "a process that stands still says that it lives");
        manager.set_read_timeout(Some(SOON)).unwrap();
        kill(pid, Signal::SIGCONT).unwrap();
        assert_eq!(hear(), "WATCHDOG=1");
        kill(pid, Signal::SIGTERM).unwrap();
        wait::wait_for("STOPPING=1", SOON, || hear() == "STOPPING=1");
        assert!(agent.wait().unwrap().success());
        assert!(!lab.dir().join("sock").exists());
        lab.exec(&["ip", "link", "del", "ovl7"]).ok();
    });
}

#[test]
fn the_unit_is_one() {
    let unit = include_str!("../../etc/overlayd.service");
    let dir = std::env::temp_dir().join(format!("tenon-unit-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let file = dir.join("overlayd.service");
    // The program need not be installed for its unit to be right.
    let program = built().join("overlayd");
    std::fs::write(&file, unit.replace("/usr/bin/overlayd", program.to_str().unwrap())).unwrap();
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&file).output();
    std::fs::remove_dir_all(&dir).unwrap();
    let Ok(verified) = verified else {
        return skip::record("the_unit_is_one", "needs systemd-analyze (Debian: systemd)");
    };
    // It warns of what it does not know, and succeeds.
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
}
