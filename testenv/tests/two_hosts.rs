//! The overlay between two machines, each with a kernel of its own: agents, containers, traffic, and netctl's trace across them.
//! This one is host 1; host 2 serves a shell on the wire between them. Runs only where `cargo testenv vm` has made the two.

use std::env;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use testenv::{plugin, skip, wait};

/// Where host 2 serves its shell, as `10.0.0.2:7001`; set by `cargo testenv vm`.
const OTHER_HOST: &str = "TENON_OTHER_HOST";
/// Emulated machines, on a host that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);
const PEERS_FILE: &str = "/etc/tenon/overlay/lab.json";

/// A machine, by its shell.
struct Host {
    number: u8,
    shell: Option<SocketAddr>,
}

impl Host {
    /// Exit status, and what it wrote to either output.
    fn try_run(&self, script: &str) -> (Option<i32>, String) {
        let Some(shell) = self.shell else {
            let merged = format!("exec 2>&1\n{script}");
            let output = Command::new("sh").args(["-c", &merged]).output().expect("start sh");
            return (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned());
        };
        let mut stream = TcpStream::connect_timeout(&shell, PATIENCE).expect("connect to host 2");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a time limit");
        let quoted = script.replace('\'', "'\\''");
        let lines = format!("sh -c '{quoted}' </dev/null 2>&1\necho \"exit $?\"\n");
        stream.write_all(lines.as_bytes()).expect("write to host 2");
        stream.shutdown(Shutdown::Write).expect("end the script");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("read from host 2");
        let said = String::from_utf8_lossy(&said).into_owned();
        let (text, code) = said.rsplit_once("exit ").unwrap_or((&said, ""));
        (code.trim().parse().ok(), text.to_string())
    }

    #[track_caller]
    fn run(&self, script: &str) -> String {
        let (code, said) = self.try_run(script);
        assert_eq!(code, Some(0), "host {}: {script}: {said}", self.number);
        said
    }

    /// Waits until a script succeeds.
    #[track_caller]
    fn wait(&self, script: &str) {
        let mut last = String::new();
        let done = wait::poll(PATIENCE, || {
            let (code, said) = self.try_run(script);
            last = said;
            (code == Some(0)).then_some(())
        });
        assert!(done.is_some(), "host {}: {script}: {last}", self.number);
    }

    /// Calls the plugin for a container that is a namespace of that name.
    #[track_caller]
    fn overlay(&self, verb: &str, container: &str) -> String {
        let config = json!({"cniVersion": "1.1.0", "name": "lab", "type": "overlay", "ipMasq": true});
        let programs = plugin::built();
        let programs = programs.display();
        self.run(&format!(
            "echo '{config}' | CNI_COMMAND={verb} CNI_CONTAINERID={container} CNI_NETNS=/run/netns/{container} \
             CNI_IFNAME=eth0 CNI_PATH={programs} {programs}/overlay"
        ))
    }

    /// Gives a host the peers file and an agent, and a container an attachment; the container's addresses.
    #[track_caller]
    fn attach(&self, peers: &Value, container: &str) -> Vec<String> {
        let agent = plugin::built().join("overlayd");
        self.run(&format!("mkdir -p /etc/tenon/overlay; echo '{peers}' > {PEERS_FILE}"));
        self.run(&format!("setsid {} >/run/overlayd.log 2>&1 </dev/null &", agent.display()));
        self.wait(&format!("{} overlay status", netctl()));
        self.run(&format!("ip netns add {container}; ip -n {container} link set lo up"));
        let result: Value = serde_json::from_str(&self.overlay("ADD", container)).expect("a result");
        let ips = result["ips"].as_array().expect("addresses");
        let address = |ip: &Value| Some(ip["address"].as_str()?.split('/').next()?.to_string());
        ips.iter().map(|ip| address(ip).expect("an address")).collect()
    }
}

fn netctl() -> String {
    plugin::built().join("netctl").display().to_string()
}

/// What netctl on `host` sees on the way to the other host's container; exit status and document.
fn trace(host: &Host, line: &str) -> (Option<i32>, Value) {
    let peer = "--peer h2='busybox nc 10.0.0.2 7002'";
    let (code, said) = host.try_run(&format!("{} -o json trace {line} {peer} 2>/run/trace.err", netctl()));
    let document = serde_json::from_str(&said);
    (code, document.unwrap_or_else(|cause| panic!("{cause}: {said}\n{}", host.run("cat /run/trace.err"))))
}

#[test]
fn an_overlay_between_two_machines() {
    let Ok(other) = env::var(OTHER_HOST) else {
        let reason = "needs a second machine: `cargo testenv vm test` runs it in two linked guests";
        return skip::record("an_overlay_between_two_machines", reason);
    };
    let (one, two) = (
        Host { number: 1, shell: None },
        Host { number: 2, shell: Some(other.parse().expect("an address and a port")) },
    );
    two.wait("test $(hostname) = h2");
    let peer = |n: u8| {
        json!({"node": format!("h{n}"), "underlay": format!("10.0.0.{n}"),
               "subnets": [format!("10.244.{n}.0/24"), format!("fd00:244:0:{n}::/64")]})
    };
    let peers = json!({"name": "lab", "vni": 7, "pools": ["10.244.0.0/16", "fd00:244::/48"],
                       "peers": [peer(1), peer(2)]});
    one.attach(&peers, "c1");
    let there = two.attach(&peers, "c2");
    assert_eq!(there.len(), 2, "{there:?}");
    for ip in &there {
        one.wait(&format!("ip netns exec c1 ping -n -c1 -W5 {ip}"));
    }
    // As large as the tunnel takes on a wire of 1500 bytes.
    one.run(&format!("ip netns exec c1 ping -n -c1 -W20 -M do -s 1422 {}", there[0]));
    bytes_arrive(&one, &two, &there);
    traces(&one, &two);
    for (host, container) in [(&one, "c1"), (&two, "c2")] {
        host.overlay("DEL", container);
        let (code, said) = host.try_run(&format!("ip -n {container} link show eth0"));
        assert_ne!(code, Some(0), "{said}");
    }
}

/// Two megabytes by TCP, summed at both ends.
fn bytes_arrive(one: &Host, two: &Host, there: &[String]) {
    one.run("head -c 2000000 /dev/urandom > /run/bytes");
    let sum = one.run("sha256sum < /run/bytes");
    two.run("setsid ip netns exec c2 busybox nc -ll -p 8000 -e sha256sum >/dev/null 2>&1 </dev/null &");
    two.wait("ip netns exec c2 ss -tln | grep -q :8000");
    for ip in there {
        assert_eq!(one.run(&format!("ip netns exec c1 busybox nc {ip} 8000 < /run/bytes")), sum, "to {ip}");
    }
}

fn traces(one: &Host, two: &Host) {
    two.run(&format!(
        "setsid busybox nc -ll -p 7002 -e {} agent --stdio >/dev/null 2>&1 </dev/null &",
        netctl()
    ));
    two.wait("ss -tln | grep -q :7002");
    let (code, document) = trace(one, "netns:c1 h2/netns:c2");
    assert_eq!((code, &document["verdict"]), (Some(0), &json!("delivered")), "{document}");
    for node in ["h1", "h2"] {
        assert!(document.to_string().contains(&format!("\"node\":\"{node}\"")), "{document}");
    }
    two.run(
        "nft 'add table ip deny; add chain ip deny forward { type filter hook forward priority 0; }; \
             add rule ip deny forward ip protocol icmp drop'",
    );
    let (code, document) = trace(one, "netns:c1 h2/netns:c2");
    assert_eq!((code, &document["verdict"]), (Some(1), &json!("dropped")), "{document}");
    assert_eq!(document["drop"]["node"], "h2", "{document}");
    two.run("nft delete table ip deny");
}
