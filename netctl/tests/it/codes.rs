//! Exit statuses of every verb: 0 where all is well, 1 where something is found, 2 where the command line is wrong, 3 where nothing can be
//! looked at, 4 where a part can't.

use std::{fs, process::Command};

use serde_json::json;
use testenv::lab;

use crate::{
    examples::commands,
    node::{Node, bridged},
    scene::Said,
};

/// A command line of each verb that ends well on a node with c1 and c2, and how it ends where there is no /proc to look at. In this order.
const LINES: [(&str, i32); 43] = [
    // Before the lines that make traffic: a late FIN is a drop.
    ("drops c1 --duration 0.05", 3),
    ("ps", 3),
    ("network ls", 3),
    ("network inspect ovl", 3),
    ("network routes ovl", 3),
    ("inspect c1", 3),
    ("status", 3),
    ("neigh", 3),
    ("fdb", 3),
    ("flows", 3),
    ("nat", 3),
    ("graph", 3),
    ("ipam show ovl", 3),
    ("ipam check ovl", 3),
    ("ipam gc ovl", 3),
    ("ipam release ovl 10.9.0.99", 3),
    ("doctor", 3),
    ("repair", 3),
    ("config lint", 3),
    ("config show ovl", 3),
    ("report", 3),
    ("top --once --interval 0.05", 3),
    ("trace c1 c2 --count 1", 3),
    ("probe c1 c2", 3),
    ("mesh ovl", 3),
    ("bench c1 c2 --time 10", 3),
    ("capture c1 --duration 0.05", 3),
    // The answer comes from the plugin: an error of its own.
    ("exec add ovl c3 --container-id c3", 1),
    ("exec check ovl c3 --container-id c3", 1),
    ("exec status ovl", 1),
    ("exec gc ovl", 0),
    ("exec del ovl c3 --container-id c3", 1),
    // The agent is not asked there, or does not answer.
    ("overlay status", 3),
    ("overlay peers", 3),
    ("overlay difference lab", 3),
    ("overlay confirm lab", 3),
    ("overlay apply nosuch.json", 2),
    // These know what they say by themselves; the agent says in its answers what it can't.
    ("config schema", 0),
    ("explain ipam-leak", 0),
    ("completion bash", 0),
    ("man", 0),
    ("agent --stdio", 0),
    ("explain", 0),
];

/// The overlay's are run where there is an agent, in `overlay`.
fn is_elsewhere(line: &str) -> bool {
    line.starts_with("overlay ")
}

/// A call on a host whose /proc is empty.
fn blind(node: &Node, line: &str) -> Said {
    let (netctl, root) = (env!("CARGO_BIN_EXE_netctl"), node.scene.root.display());
    let line = format!("mount -t tmpfs none /proc && exec {netctl} --root {root} {line}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &line]);
    let output = command
        .env("CNI_PATH", std::env::join_paths(&node.scene.path).expect("no colon in a directory"))
        .output()
        .expect("run unshare");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn every_verb_has_its_exit_status() {
    lab::run("every_verb_has_its_exit_status", |lab| {
        let (node, _containers) = Node::running(lab);
        let _c3 = lab.netns("c3");
        lab.allow("/run/mount");
        for (path, command) in commands().iter().filter(|(_, command)| !command.has_subcommands()) {
            let verb = path.trim_start_matches("netctl ");
            let is_of = |line: &str| line == verb || line.starts_with(&format!("{verb} "));
            assert!(LINES.iter().any(|(line, _)| is_of(line)), "no line of {verb}");
            let said = node.scene.netctl(&format!("{verb} --no-such-option"));
            assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{command}: {said:#?}");
        }
        for (line, without) in LINES {
            let said = blind(&node, line);
            assert_eq!(said.code, Some(without), "{line}, blind: {said:#?}");
            assert!(without == 0 || !said.stderr.is_empty(), "{line}, blind: {said:#?}");
            if !is_elsewhere(line) {
                let said = node.scene.netctl(line);
                assert_eq!(said.code, Some(0), "{line}: {said:#?}");
            }
        }
        // A peer that is not to be had: what is here is shown, what needs both ends is not begun.
        for line in
            ["ps", "inspect c1", "neigh", "nat", "network ls", "ipam show", "graph", "doctor", "report"]
        {
            let said = node.scene.netctl(&format!("{line} --peer n2=false"));
            assert_eq!(said.code, Some(4), "{line}: {said:#?}");
            assert!(!said.stdout.is_empty() && said.stderr.contains("n2"), "{line}: {said:#?}");
        }
        for line in ["trace c1 c2", "probe c1 c2", "mesh ovl", "bench c1 c2", "drops", "capture"] {
            let said = node.scene.netctl(&format!("{line} --peer n2=false"));
            assert_eq!((said.code, said.stdout.as_str()), (Some(3), ""), "{line}: {said:#?}");
        }
        node.leave();
    });
}

#[test]
fn what_is_found_is_status_1() {
    lab::run("what_is_found_is_status_1", |lab| {
        let (node, [_c1, c2]) = Node::running(lab);
        c2.exec(&["ip", "link", "set", "eth0", "down"]).ok();
        fs::write("/var/lib/cni/networks/ovl/10.9.0.50", "deadbeef\r\neth0").unwrap();
        let aged = ["touch", "-d", "2020-01-01", "/var/lib/cni/networks/ovl/10.9.0.50"];
        lab.exec(&aged).ok();
        fs::write(node.scene.root.join("net.d/99-bad.conflist"), "{").unwrap();
        let lines = [
            "status",
            "doctor",
            "ipam check ovl",
            "config lint",
            "trace c1 c2 --count 1 --patience 50",
            "probe c1 c2",
            "mesh ovl",
            "exec check ovl c2 --container-id c2",
        ];
        for line in lines {
            assert_eq!(node.scene.netctl(line).code, Some(1), "{line}");
        }
        fs::remove_file("/var/lib/cni/networks/ovl/10.9.0.50").unwrap();
        fs::remove_file(node.scene.root.join("net.d/99-bad.conflist")).unwrap();
        node.leave();
    });
}

/// What every verb that shows a table understands.
#[test]
fn tables_are_cut_as_wished() {
    lab::run("tables_are_cut_as_wished", |lab| {
        let (node, _containers) = Node::running(lab);
        let said = |line: &str| node.scene.netctl(line).ok().stdout;
        let csv = said("ps --node n1 -o csv");
        let lines: Vec<_> = csv.lines().collect();
        assert!(lines[0].starts_with("NODE,CONTAINER,NETWORK,IF,IP,"), "{csv}");
        assert!(lines[1].starts_with("n1,c1,ovl,eth0,10.9.0.2/24,"), "{csv}");
        assert_eq!(said("ps --columns if,container --no-headers"), "eth0  c1\neth0  c2\n");
        assert_eq!(said("ps --json"), said("ps -o json"));
        for (line, head) in [
            ("trace c1 c2 --count 1", "#,node,where,"),
            ("doctor", "CODE,SEVERITY,NODE,"),
            ("exec gc ovl", "ACTION,ATTACHMENT"),
            ("mesh ovl", "FROM,TO,ADDRESS,"),
            ("bench c1 c2 --time 10", "FROM,TO,"),
            ("top --once --interval 0.05", "CONTAINER,NETWORK,"),
        ] {
            let csv = said(&format!("{line} -o csv"));
            assert!(csv.starts_with(head), "{line}: {csv}");
        }
        for line in
            ["inspect c1 -o csv", "graph -o csv", "report -o csv", "ps --columns nosuch", "repair --watch"]
        {
            node.scene.netctl(line).usage();
        }
        node.leave();
    });
}

/// Lines of what comes and what goes, until the reader has enough.
#[test]
fn a_watch_tells_what_changes() {
    use std::{
        io::{BufRead, BufReader},
        process::Stdio,
    };
    lab::run("a_watch_tells_what_changes", |lab| {
        let (node, _c1) = (Node::new(lab), lab.netns("c1"));
        let mut conf = bridged();
        conf["name"] = json!("ovl");
        node.conf(&conf);
        let mut watch = Command::new(env!("CARGO_BIN_EXE_netctl"));
        watch.args(["ps", "--watch=0.1", "-o", "json", "--root"]).arg(&node.scene.root);
        let mut watch = watch.stdout(Stdio::piped()).spawn().expect("start netctl");
        let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
        let mut next = || -> serde_json::Value {
            serde_json::from_str(&lines.next().expect("a line").expect("UTF-8")).expect("JSON")
        };
        assert_eq!(next()["items"], json!([]));
        node.add("ovl", "c1");
        let mut added = next();
        // The cache's file comes after the links.
        while added["added"][0]["container"] != "c1" {
            added = next();
        }
        assert_eq!((&added["kind"], &added["of"]), (&json!("Change"), &json!("Attachments")), "{added:#}");
        node.del("ovl", "c1");
        let mut removed = next();
        while removed["removed"][0]["container"] != "c1" {
            removed = next();
        }
        watch.kill().and_then(|()| watch.wait()).expect("end netctl");
    });
}
