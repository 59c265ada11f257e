//! `--show-commands`: what is printed for a person to type is run, and shows or does the same.

use std::{
    net::{TcpListener, TcpStream},
    process::Command,
};

use serde_json::json;
use testenv::lab;

use crate::{
    node::{Node, bridged},
    scene::Said,
};

/// The commands that a call printed; each on a line that begins as a prompt.
fn printed(said: &Said) -> Vec<String> {
    said.stderr.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// What the commands say, in order. All of them work.
#[track_caller]
fn typed(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines {
        // Of these two the user ends the first, and the second has a time of its own.
        let line = line
            .replace(" tcpdump ", " timeout --preserve-status 1 tcpdump ")
            .replace("sleep 10", "sleep 0.1");
        let said = Command::new("sh").args(["-c", &line]).output().expect("run sh");
        assert!(said.status.success(), "{line}: {}", String::from_utf8_lossy(&said.stderr));
        text.push_str(&String::from_utf8_lossy(&said.stdout));
    }
    text
}

/// What is typed, and whose it is.
const TYPED: [(&str, &str); 8] = [
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("tcpdump", "tcpdump"),
    ("perf", "linux-perf"),
    ("iperf3", "iperf3"),
    ("nc", "netcat-openbsd"),
    ("jq", "jq"),
    ("ping", "iputils-ping"),
];

#[test]
fn commands_show_what_the_verbs_show() {
    lab::run("commands_show_what_the_verbs_show", |lab| {
        for (program, package) in TYPED {
            lab.needs_program(program, package);
        }
        let (node, [c1, c2]) = Node::running(lab);
        // A lab's /sys has none, and mount leaves notes.
        lab.allow("/run/mount");
        lab.exec(&["mount", "-t", "tracefs", "none", "/sys/kernel/tracing"]).ok();
        let listener = c2.run(|| TcpListener::bind("10.9.0.3:80").unwrap());
        // To the node itself, as what is bridged is tracked only where br_netfilter is; and no echo, which is forgotten in 30 s.
        let own = TcpListener::bind("10.9.0.1:80").unwrap();
        let connection = c1.run(|| TcpStream::connect("10.9.0.1:80").unwrap());
        c1.exec(&["ping", "-c", "1", "-W", "2", "10.9.0.3"]).ok();
        let veth = node.host_link("c1");
        let mac = node.items("ps", "Attachments")[0]["mac"].as_str().unwrap().to_owned();
        let cases: [(&str, &[&str]); 20] = [
            ("ps", &[&mac, &veth, "10.9.0.2/24", "10.9.0.3/24"]),
            ("network ls", &["\"isGateway\":true", "10.9.0.1/24", "10.9.0.2:c1"]),
            ("network inspect ovl", &["\"isGateway\":true", &veth]),
            ("inspect c1", &[&mac, &veth, "default via 10.9.0.1"]),
            ("status", &["10.9.0.1/24"]),
            ("neigh", &["10.9.0.3 dev eth0 lladdr"]),
            ("fdb", &[&mac]),
            ("flows", &["dst=10.9.0.1"]),
            ("nat", &["masquerade"]),
            ("graph", &[&mac]),
            ("ipam show", &["10.9.0.2:c1"]),
            ("ipam check", &["10.9.0.3:c2"]),
            ("repair", &["table inet tenon"]),
            ("config lint", &["\"isGateway\": true"]),
            ("top --once --interval 0.05", &["RX:"]),
            ("drops --duration 0.1", &["#kernel"]),
            ("capture c1 -f icmp --duration 0.1", &[]),
            ("trace c1 c2 --count 1 --tcp 80", &["10.9.0.3 dev eth0"]),
            ("probe c1 c2", &["1472(1500) bytes"]),
            ("bench c1 c2 --time 50", &["iperf Done"]),
        ];
        for (verb, expected) in cases {
            let plain = node.scene.netctl(verb);
            assert_eq!(printed(&plain), Vec::<String>::new(), "{verb}: nobody asked");
            let said = node.scene.netctl(&format!("{verb} --show-commands"));
            assert_eq!(said.code, plain.code, "{verb}: {said:#?}");
            let lines = printed(&said);
            assert!(!lines.is_empty(), "{verb}: {said:#?}");
            let text = typed(&lines);
            for word in expected {
                assert!(text.contains(word), "{verb}: {lines:#?} do not say {word}:\n{text}");
            }
        }
        drop((listener, own, connection));
        for verb in ["explain ipam-leak", "completion bash", "man", "config schema"] {
            node.scene.netctl(&format!("{verb} --show-commands")).usage();
        }
        node.leave();
    });
}

#[test]
fn commands_do_what_the_verbs_do() {
    lab::run("commands_do_what_the_verbs_do", |lab| {
        let (node, blue) = (Node::new(lab), lab.netns("blue"));
        let added = node.scene.netctl("exec add ovl blue --container-id blue --show-commands");
        let add = printed(&added);
        assert_eq!(add.len(), 1, "{added:#?}");
        let deleted = printed(&node.scene.netctl("exec del ovl blue --container-id blue --show-commands"));
        assert!(!blue.has_link("eth0"));
        // By hand the same again: the next address.
        let result: serde_json::Value = serde_json::from_str(&typed(&add)).unwrap();
        assert_eq!(result["ips"][0]["address"], "10.9.0.3/24", "{result:#}");
        assert!(blue.has_link("eth0"));
        typed(&deleted);
        assert!(!blue.has_link("eth0"));

        // A lease that leaked.
        let leases = "/var/lib/cni/networks/ovl";
        std::fs::write(format!("{leases}/10.9.0.50"), "deadbeef\r\neth0").unwrap();
        let said = node.scene.netctl("ipam release ovl 10.9.0.50 --show-commands");
        assert_eq!(printed(&said), [format!("rm {leases}/10.9.0.50")], "{said:#?}");
        typed(&printed(&said));
        assert_eq!(node.items("ipam check ovl", "Leases"), Vec::<serde_json::Value>::new());
    });
}

/// Where the peer's agent is started, its commands run.
#[test]
fn commands_on_a_peer_go_its_way() {
    lab::run("commands_on_a_peer_go_its_way", |lab| {
        let (node, _c1, n2) = (Node::new(lab), lab.netns("c1"), lab.netns("n2"));
        let mut conf = bridged();
        conf["name"] = json!("mynet");
        node.conf(&conf);
        node.add("mynet", "c1");
        n2.add_bridge("only0");
        n2.add_address("only0", "10.8.0.1/24");
        let netctl = env!("CARGO_BIN_EXE_netctl");
        let peer =
            format!("n2=ip netns exec n2 {netctl} --root {}/none agent --stdio", node.scene.root.display());
        let words = [
            "trace",
            "n2/host",
            "10.8.0.1",
            "--count",
            "1",
            "--patience",
            "50",
            "--peer",
            &peer,
            "--show-commands",
        ];
        let said = node.scene.netctl_words(&words);
        let lines = printed(&said);
        assert!(lines.iter().all(|line| line.starts_with("ip netns exec n2 ")), "{said:#?}");
        assert!(lines.contains(&"ip netns exec n2 ip neigh".to_owned()), "{said:#?}");
        node.del("mynet", "c1");
    });
}
