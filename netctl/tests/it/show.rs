//! Pictures, translations, and what shells and man(1) get.

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::json;
use testenv::{
    lab::{self, Lab},
    ns::Ns,
    wait,
};

use crate::node::{Node, bridged, name_server};

const LONG: Duration = Duration::from_secs(20);

/// Every element that is opened is closed, in order.
#[track_caller]
fn is_well_formed(svg: &str) {
    let mut open = Vec::new();
    for tag in svg.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap_or_default();
        let name = tag.split(' ').next().unwrap_or_default();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{tag}"),
            None if tag.ends_with('/') => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_network_is_drawn_with_its_faults_and_a_trace() {
    lab::run("a_network_is_drawn", |lab| {
        let (node, _containers) = Node::running(lab);
        let draw = |format: &str| node.scene.netctl(&format!("graph --node n1 -o {format}")).ok().stdout;
        let svg = draw("svg");
        is_well_formed(&svg);
        for text in
            [">n1<", ">c1<", ">10.9.0.3/24<", ">cni0 · 10.9.0.1/24<", "1 host, 2 attachments, 0 findings"]
        {
            assert!(svg.contains(text), "no {text} in {svg}");
        }
        assert!(!svg.contains(" bad\""), "{svg}");
        let veth = node.host_link("c2");
        lab.exec(&["ip", "link", "set", &veth, "mtu", "1400"]).ok();
        let svg = draw("svg");
        is_well_formed(&svg);
        assert_eq!(svg.matches(" bad\"").count(), 1, "{svg}");
        assert!(svg.contains("error[mtu-blackhole]"), "{svg}");
        lab.host().set_sysctl("net.ipv4.ip_forward", "0");
        let both = draw("svg");
        lab.host().set_sysctl("net.ipv4.ip_forward", "1");
        assert!(
            both.matches(" bad\"").count() == 2 && both.contains("<title>n1\nerror[ip-forward-off]"),
            "{both}"
        );
        // Nothing of a page comes from elsewhere.
        let page = draw("html").replace("http://www.w3.org/2000/svg", "");
        for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside} in {page}");
        }
        assert!(page.contains("<b>mtu-blackhole</b>") && page.contains("id=\"search\""));
        assert!(draw("dot").contains("\"n1/cni0\" -- \"n1/c1/eth0\";"));
        assert!(draw("dot").contains(", color=red];"));
        let mermaid = draw("mermaid");
        assert!(
            mermaid.starts_with("graph LR\n") && mermaid.contains("[\"c1<br/>10.9.0.2/24\"]"),
            "{mermaid}"
        );
        let host = &node.items("graph", "Graph")[0];
        assert_eq!(host["groups"][0]["members"][1]["container"], "c2", "{host:#}");
        lab.exec(&["ip", "link", "set", &veth, "mtu", "1500"]).ok();

        let trace = node.scene.netctl("trace c1 c2 --count 1 --node n1 -o json").ok().stdout;
        let file = lab.dir().join("trace.json");
        fs::write(&file, trace).unwrap();
        let svg = node.scene.netctl(&format!("graph --node n1 --trace {}", file.display())).ok().stdout;
        is_well_formed(&svg);
        // c1, its veth, the veth of c2, c2, and back.
        let hops = svg.matches("class=\"hop\"").count();
        assert!((5..=9).contains(&hops), "{hops} hops in {svg}");
        assert!(node.scene.netctl("ps -o svg").usage().contains("only `netctl graph` draws"));
        node.leave();
    });
}

#[test]
fn translations_are_listed_with_their_use() {
    lab::run("translations_are_listed", |lab| {
        let node = Node::new(lab);
        let mut conf = bridged();
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        conf["plugins"].as_array_mut().unwrap().push(portmap);
        node.conf(&conf);
        lab.allow("route_localnet");
        let (outside, c1) = (lab.outside("up0"), lab.netns("c1"));
        let ports = r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#;
        node.scene.netctl_with(&[("CAP_ARGS", ports)], "exec add ovl c1 --container-id c1").ok();
        let _web = c1.tcp_echo("10.9.0.2:80".parse().unwrap());
        outside.tcp_talk("198.51.100.1:8080".parse().unwrap(), "hello").unwrap();
        let items = node.items("nat --node n1", "Translations");
        let expected = json!([
            {"node": "n1", "kind": "published", "protocol": "tcp", "from": "*:8080", "to": "10.9.0.2:80", "container": "c1",
                "network": "ovl", "rules": "ok", "connections": 1},
            {"node": "n1", "kind": "masquerade", "protocol": "any", "from": "10.9.0.2", "to": "the host's address", "container": "c1",
                "network": "ovl", "rules": "ok", "connections": 0},
        ]);
        assert_eq!(json!(items), expected);
        node.del("ovl", "c1");
    });
}

#[test]
fn shells_and_man_know_every_verb() {
    lab::run("shells_and_man", |lab| {
        let node = Node::new(lab);
        let bash = node.scene.netctl("completion bash").ok().stdout;
        let file = lab.dir().join("netctl.bash");
        fs::write(&file, &bash).unwrap();
        let asked = format!(
            ". {}; COMP_WORDS=(netctl do); COMP_CWORD=1; _netctl netctl do netctl; echo ${{COMPREPLY[@]}}",
            file.display()
        );
        let said = Command::new("bash").args(["-c", &asked]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "doctor\n", "{said:?}");
        for shell in ["zsh", "fish"] {
            assert!(node.scene.netctl(&format!("completion {shell}")).ok().stdout.contains("doctor"));
        }
        let dir = lab.dir().join("man");
        node.scene.netctl(&format!("man --dir {}", dir.display())).ok();
        let page = fs::read_to_string(dir.join("netctl-doctor.1")).unwrap();
        assert!(page.contains(".TH") && page.contains("netctl doctor \\-\\-fix \\-\\-yes"), "{page}");
        assert!(node.scene.netctl("man").ok().stdout.contains(".SH SYNOPSIS"));
    });
}

#[test]
fn who_reaches_whom_and_a_report() {
    lab::run("who_reaches_whom", |lab| {
        let (node, [c1, _]) = Node::running(lab);
        let items = node.items("mesh ovl", "Reachability");
        let pairs: Vec<_> =
            items.iter().map(|it| (it["from"].clone(), it["to"].clone(), it["path_mtu"].clone())).collect();
        assert_eq!(json!(pairs), json!([["c1", "c2", 1500], ["c2", "c1", 1500]]), "{items:#?}");
        let text = node.scene.netctl("mesh ovl").ok().stdout;
        let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["from\\to", "c1", "c2", "path-mtu"], "{text}");
        let first = &lines[1];
        assert!(first[..2] == ["c1", "-"] && first[2].contains('.') && first[3] == "1500", "{text}");
        // Something narrower on the way is found to the byte.
        lab.outside("up0");
        lab.host().set_mtu("up0", 1337);
        let item = &node.items("probe c1 198.51.100.254", "Reachability")[0];
        assert_eq!(item["path_mtu"], 1337, "{item:#}");
        lab.host().set_mtu("up0", 1500);
        c1.exec(&["ip", "route", "add", "blackhole", "10.9.0.3/32"]).ok();
        let said = node.scene.netctl("mesh ovl");
        assert!(said.code == Some(1) && said.stdout.contains('✗'), "{said:#?}");
        assert!(node.scene.netctl("mesh nosuch").usage().contains("\"nosuch\""));
        c1.exec(&["ip", "route", "del", "blackhole", "10.9.0.3/32"]).ok();

        let mut conf = bridged();
        conf["plugins"][0]["args"] = json!({"apiToken": "hush-hush", "mirror": "https://joe:hush-hush@m.example",
            "words": ["DB_PASSWORD=hush-hush;MTU=1500"]});
        node.conf(&conf);
        lab.exec(&["nft", "add table inet secret { comment \"token=hush-hush\"; }"]).ok();
        let report = node.scene.netctl("report --node n1").ok();
        assert!(!report.stdout.contains("hush-hush"), "{}", report.stdout);
        is_archived(&node, &lab.dir().display().to_string());
        lab.exec(&["nft", "delete table inet secret"]).ok();
        let report = &report.json()["items"][0];
        assert_eq!((&report["node"], &report["attachments"][0]["container"]), (&json!("n1"), &json!("c1")));
        assert_eq!(report["networks"][0]["leases"], json!(["10.9.0.2", "10.9.0.3"]));
        assert_eq!(report["namespaces"][1]["name"], "c1");
        // What the schema names is what the configuration has.
        has_all_keys(&node.scene.netctl("config schema").ok().json());
        node.leave();
    });
}

/// Those of a configuration, and those of the option pages of tap and vrf.
fn has_all_keys(schema: &serde_json::Value) {
    let plugin = &schema["$defs"]["plugin"];
    let of_all = plugin["properties"].as_object().expect("properties");
    for key in bridged()["plugins"][0].as_object().expect("a plugin").keys() {
        assert!(of_all.contains_key(key), "{key}");
    }
    let (tap, chained) =
        (include_str!("../../../plugins/tap/README.md"), include_str!("../../../plugins/chained/README.md"));
    let vrf = chained.split_once("\n## vrf\n").expect("a section").1.split("\n## ").next().expect("its text");
    for (kind, page) in [("tap", tap), ("vrf", vrf)] {
        let rules = plugin["allOf"].as_array().expect("rules").iter();
        let own = rules.clone().find(|rule| rule["if"]["properties"]["type"]["const"] == kind);
        let own = own.expect("a rule")["then"]["properties"].as_object().expect("properties");
        let keys = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let keys: Vec<_> = keys.filter(|key| *key != "runtimeConfig").collect();
        assert!(keys.len() >= 2, "{kind}: {keys:?}");
        for key in keys {
            assert!(own.contains_key(key) || of_all.contains_key(key), "{kind}: {key}");
        }
    }
}

/// The same in an archive, of this node and of a peer, and no secret in any of its files.
fn is_archived(node: &Node, dir: &str) {
    let netctl = env!("CARGO_BIN_EXE_netctl");
    let peer = format!("n2={netctl} --root {} agent --stdio", node.scene.root.display());
    for (file, options) in [("r.tar", "-xf"), ("r.tar.gz", "-xzf"), ("r.tgz", "-xzf")] {
        let path = format!("{dir}/{file}");
        node.scene.netctl_words(&["report", "--node", "n1", "--peer", &peer, "-w", &path]).ok();
        let mode = fs::metadata(&path).expect("an archive").permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600, "{file}");
        let to = format!("{dir}/of-{file}");
        fs::create_dir(&to).expect("an archive");
        let tar = Command::new("tar").args([options, &path, "-C", &to]).output().expect("an archive");
        assert!(tar.status.success(), "{tar:?}");
        for of in ["n1", "n2"] {
            let read = |name: &str| {
                fs::read_to_string(format!("{to}/netctl-report/{of}/{name}")).expect("an archive")
            };
            let attachments: serde_json::Value =
                serde_json::from_str(&read("attachments.json")).expect("an archive");
            assert_eq!(attachments[0]["container"], "c1", "{attachments:#}");
            assert!(
                read("ruleset.txt").contains("table inet secret") && read("summary.json").contains("kernel")
            );
            let networks = read("networks.json");
            assert!(networks.contains("MTU=1500") && networks.contains("m.example"), "{networks}");
        }
        let found = Command::new("grep").args(["-r", "hush-hush", &to]).output().expect("an archive");
        assert_eq!(found.status.code(), Some(1), "{}", String::from_utf8_lossy(&found.stdout));
    }
    assert!(node.scene.netctl("report -w report.zip").usage().contains("report.zip"));
}

#[test]
fn ports_and_names_are_tried() {
    lab::run("ports_and_names_are_tried", |lab| {
        lab.needs_program("nft", "nftables");
        let (node, [c1, c2]) = Node::running(lab);
        let _servers =
            (c2.tcp_echo("10.9.0.3:80".parse().unwrap()), c2.udp_echo("10.9.0.3:4000".parse().unwrap()));
        c2.exec(&["nft", "table ip t { chain i { type filter hook input priority 0; th dport 82 drop; }; }"])
            .ok();
        let _names = name_server(lab, "c1");
        let found = |line: &str| {
            wait::poll(LONG, || {
                let item = node.items(line, "Reachability")[0].clone();
                // Until the server listens.
                let is_early =
                    item["names"][0]["error"].as_str().is_some_and(|it| it.starts_with("10.9.0.1: "));
                (!is_early).then_some(item)
            })
            .expect("an answer")
        };
        let item = found(
            "probe c1 c2 --tcp 80 --tcp 81 --tcp 82 --udp 4000 --udp 4001 --udp 82 --dns db --dns nosuch.example.",
        );
        let ports: Vec<_> = item["ports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| {
                format!(
                    "{}/{} {}",
                    it["protocol"].as_str().unwrap(),
                    it["port"],
                    it["state"].as_str().unwrap()
                )
            })
            .collect();
        let expected = [
            "tcp/80 open",
            "tcp/81 closed",
            "tcp/82 silent",
            "udp/4000 open",
            "udp/4001 closed",
            "udp/82 silent",
        ];
        assert_eq!(ports, expected, "{item:#}");
        let names = &item["names"];
        assert_eq!(names[0]["addresses"], json!(["10.9.0.3"]), "{item:#}");
        assert_eq!(
            (&names[0]["server"], &names[0]["file"]),
            (&json!("10.9.0.1"), &json!("/etc/netns/c1/resolv.conf"))
        );
        assert_eq!(names[1]["error"], "no such name", "{item:#}");

        is_judged_and_shown(&node);
        own_file_is_read(lab, &node, &c1);
        c2.exec(&["nft", "delete", "table", "t"]).ok();
        // mount(8)'s.
        lab.allow("/run/mount");
        node.leave();
    });
}

fn is_judged_and_shown(node: &Node) {
    // Each thing that is not well by itself, and all that are.
    for (line, code) in [
        ("--tcp 80 --udp 4000 --udp 82 --dns db", 0),
        ("--tcp 81", 1),
        ("--tcp 82", 1),
        ("--udp 4001", 1),
        ("--dns nosuch.example.", 1),
    ] {
        let said = node.scene.netctl(&format!("probe c1 c2 {line}"));
        assert_eq!(said.code, Some(code), "{line}: {said:#?}");
    }
    let text = node.scene.netctl("probe c1 c2 --tcp 80 --dns db").ok().stdout;
    let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((rows[2][3], rows[2][6]), ("tcp/80", "open"), "{text}");
    assert_eq!(
        [&rows[3][..4], &rows[3][6..]].concat(),
        ["c1", "db", "10.9.0.1", "dns", "10.9.0.3"],
        "{text}"
    );
    // c2 has the host's file, and knows nobody there.
    let said = node.scene.netctl("mesh ovl --tcp 80 --dns db.example.");
    let lines: Vec<_> = said.stdout.lines().collect();
    assert!(said.code == Some(1) && lines[0].ends_with("path-mtu  dns"), "{said:#?}");
    assert!(lines[1].ends_with("ok") && !lines[1].contains('✗'), "{said:#?}");
    assert!(lines[2].contains(" ✗tcp/80 "), "{said:#?}");
}

fn own_file_is_read(lab: &Lab, node: &Node, inside: &Ns) {
    // A process inside has a file of its own.
    let own = lab.dir().join("resolv.conf");
    fs::write(&own, "nameserver 10.9.0.1\noptions ndots:0\n").expect("write a resolv.conf");
    let script = format!("mount --bind {} /etc/resolv.conf && exec sleep 1000", own.display());
    let _process = lab.daemon(inside, &["unshare", "--mount", "sh", "-c", &script]);
    let file = wait::poll(LONG, || {
        let names = node.items("probe c1 c2 --dns db.example", "Reachability")[0]["names"].clone();
        let file = names[0]["file"].as_str().expect("a file");
        (file.starts_with("/proc/") && names[0]["addresses"] == json!(["10.9.0.3"])).then(|| file.to_owned())
    });
    assert!(file.expect("the process's file").ends_with("/root/etc/resolv.conf"));
}

#[test]
fn rates_and_throughput() {
    lab::run("rates_and_throughput", |lab| {
        let (node, _containers) = Node::running(lab);
        let item = node.items("bench c1 ovl/c2 --time 50", "Throughput")[0].clone();
        for number in ["tcp_1_bits_per_s", "tcp_8_bits_per_s", "connections_per_s", "udp_packets_per_s"] {
            assert!(item[number].as_u64().unwrap() > 0, "{item:#}");
        }
        assert!(item["rtt_p50_us"].as_u64() <= item["rtt_p99_us"].as_u64(), "{item:#}");
        assert!(node.scene.netctl("bench c1 nobody").usage().contains("\"nobody\""));
        is_compared(lab, &node, &item);
        let is_seen = AtomicBool::new(false);
        let busy = std::thread::scope(|scope| {
            let busy = scope.spawn(|| {
                // A look takes its time, too.
                let begun = Instant::now();
                while !is_seen.load(Ordering::Relaxed) && begun.elapsed() < LONG {
                    node.items("bench c1 c2 --time 200", "Throughput");
                }
            });
            let rates = wait::poll(LONG, || {
                let items = node.items("top --once --interval 0.1", "Rates");
                (items.len() == 2 && items[1]["rx_bytes_per_s"].as_u64() > Some(100_000)).then_some(items)
            });
            is_seen.store(true, Ordering::Relaxed);
            busy.join().unwrap();
            rates.expect("traffic in top")
        });
        assert!(busy.iter().all(|it| it["errors_per_s"] == 0), "{busy:#?}");
        let names = |line: &str| node.scene.netctl(&format!("{line} -o name")).ok().stdout;
        assert_eq!(names("top --once --interval 0.05 --sort name"), "c1\nc2\n");
        assert_eq!(names("top --once --interval 0.05 --filter c2"), "c2\n");
        // On a terminal, by keys: by name, only c2, held, the end; and as with a signal.
        let held = "1 of 2 attachments  sort: name  filter: c2  held";
        let (code, seen) =
            on_a_terminal(&node, "top --interval 0.1", &[("sort: busy", "sssssss/c2\r "), (held, "q")]);
        assert_eq!(code, Some(0), "{seen:?}");
        let (code, seen) = on_a_terminal(&node, "top --interval 0.1", &[("sort: busy", "\x03")]);
        assert_eq!(code, Some(130), "{seen:?}");
        node.leave();
    });
}

/// With a run of the same context and not with another, and what gets lost is counted.
fn is_compared(lab: &Lab, node: &Node, item: &serde_json::Value) {
    let loss = item["udp_loss_percent"].as_f64().expect("a number");
    assert!((0.0..100.0).contains(&loss), "{item:#}");
    let ends = ["source", "destination"].map(|end| item["context"][end].clone());
    for end in &ends {
        let offloads = end["offloads"].as_array().expect("a list");
        assert!(end["mtu"] == 1500 && offloads.contains(&json!("tx-checksum-ip-generic")), "{item:#}");
    }
    let file = lab.dir().join("before.json");
    fs::write(&file, json!({"kind": "Throughput", "items": [item]}).to_string()).expect("write a run");
    let compare =
        |time: u32| node.scene.netctl(&format!("bench c1 c2 --time {time} --compare {}", file.display()));
    let said = compare(50).ok().stdout;
    let runs: Vec<_> = said.lines().map(|line| line.split_whitespace().nth(2).unwrap_or_default()).collect();
    assert_eq!(runs, ["RUN", "before", "now", "change"], "{said}");
    let said = compare(20).usage();
    assert!(said.contains("time_ms: 50 then, 20 now"), "{said}");
    lab.exec(&["ip", "netns", "exec", "c2", "ip", "link", "set", "eth0", "mtu", "1400"]).ok();
    let said = compare(50).usage();
    assert!(
        said.contains("mtu of the destination: 1500 then, 1400 now") && said.matches(';').count() == 0,
        "{said}"
    );
    lab.exec(&["ip", "netns", "exec", "c2", "ip", "link", "set", "eth0", "mtu", "1500"]).ok();
    let said = node.scene.netctl("bench c1 c2 --time 10 --compare /dev/null");
    assert_eq!(said.code, Some(3), "{said:#?}");
}

/// Exit status and screen of a call on a terminal. Each of the keys are typed once the screen has shown the text before them.
fn on_a_terminal(node: &Node, line: &str, keys: &[(&str, &str)]) -> (Option<i32>, String) {
    let netctl = env!("CARGO_BIN_EXE_netctl");
    let line = format!("timeout --foreground 20 {netctl} --root {} {line}", node.scene.root.display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start script");
    let (mut screen, mut typed) =
        (script.stdout.take().expect("a pipe"), script.stdin.take().expect("a pipe"));
    let (mut seen, mut bytes, mut left) = (String::new(), [0; 4096], keys.iter().peekable());
    while let Ok(count @ 1..) = screen.read(&mut bytes) {
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if let Some((_, keys)) = left.next_if(|(text, _)| seen.contains(text)) {
            typed.write_all(keys.as_bytes()).expect("type");
        }
    }
    (script.wait().expect("script ends").code(), seen)
}

/// The words of the samples' headers in the README are those that the verbs print.
#[test]
fn samples_of_the_readme_are_what_is_printed() {
    lab::run("samples_of_the_readme", |lab| {
        let (node, _containers) = Node::running(lab);
        let mut compared = 0;
        for block in include_str!("../../README.md").split("```").skip(1).step_by(2) {
            let lines: Vec<_> = block.lines().collect();
            for pair in lines.windows(2) {
                let Some(words) = pair[0].strip_prefix("$ netctl ") else { continue };
                let verb = words.split(' ').next().unwrap_or_default();
                if !["ps", "network", "status", "flows", "nat", "ipam", "doctor", "mesh", "top"]
                    .contains(&verb)
                {
                    continue;
                }
                let said = node.scene.netctl(&format!("{words} --node n1")).stdout;
                // How many findings there are depends on the node.
                let shown = if verb == "doctor" { 5 } else { usize::MAX };
                let head = |text: &str| text.split_whitespace().take(shown).collect::<Vec<_>>().join(" ");
                assert_eq!(head(pair[1]), head(said.lines().next().unwrap_or_default()), "{words}");
                compared += 1;
            }
        }
        assert!(compared >= 8, "{compared} samples");
        node.leave();
    });
}
