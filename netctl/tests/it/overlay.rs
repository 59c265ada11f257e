//! `netctl overlay`: a peers file put into force without an agent, and what the agent of a host says.

use std::time::Duration;

use serde_json::{Value, json};
use testenv::{
    daemon::Daemon,
    lab::{self, Lab},
    plugin::built,
    wait,
};

use crate::{
    examples::{COLOURLESS, Scene as Where},
    scene::Scene,
};

/// A host with the uplink 198.51.100.1, and a peers file of it, `peers` more and whatever is `odd`.
struct Host {
    scene: Scene,
    file: String,
}

impl Host {
    fn new(lab: &Lab, peers: u8, odd: &[Value]) -> Self {
        lab.needs_program("nft", "nftables");
        for what in ["ovl7", "tenon-overlay"] {
            lab.allow(what);
        }
        lab.outside("eth0");
        let host = Self { scene: Scene::new(lab), file: lab.dir().join("lab.json").display().to_string() };
        host.write(peers, odd);
        host
    }

    fn write(&self, peers: u8, odd: &[Value]) {
        let peer = |n: u8| {
            json!({"node": format!("h{n}"), "underlay": format!("198.51.100.{n}"),
                   "subnets": [format!("10.96.{n}.0/24")]})
        };
        let peers: Vec<_> = (1..=peers + 1).map(peer).chain(odd.iter().cloned()).collect();
        let file = json!({"name": "lab", "vni": 7, "pools": ["10.96.0.0/11"], "peers": peers});
        std::fs::write(&self.file, file.to_string()).expect("write the peers file");
    }

    /// With its socket and its files in `dir`. It ends with what is returned.
    fn start_agent(&self, lab: &Lab, dir: &str) -> Daemon {
        self.start_agent_at(lab, dir, &format!("{dir}/agent.sock"))
    }

    fn start_agent_at(&self, lab: &Lab, dir: &str, socket: &str) -> Daemon {
        let file = format!("{dir}/overlayd.toml");
        let config = format!(
            "socket = '{socket}'\nrun = '{dir}/run'\nlib = '{dir}/lib'\nmetrics = ''\n[[network]]\nfile = '{}'\n",
            self.file
        );
        std::fs::write(&file, config).expect("write the configuration");
        let program = built().join("overlayd").display().to_string();
        lab.daemon(lab.host(), &[&program, "--config", &file])
    }

    fn items(&self, line: &str) -> Vec<Value> {
        let reply = self.scene.netctl(&format!("overlay {line} -o json")).json();
        reply["items"].as_array().expect("items").clone()
    }
}

#[test]
fn a_peers_file_needs_no_agent() {
    lab::run("overlay_apply", |lab| {
        let host = Host::new(lab, 8, &[]);
        let dirs = format!("--run {0}/run --lib {0}/lib", lab.dir().display());
        let apply = |more: &str| {
            let line =
                format!("overlay apply {} {dirs} --socket {}/none {more}", host.file, lab.dir().display());
            host.scene.netctl(line.trim_end())
        };
        let routes = || lab.exec(&["ip", "route", "show", "proto", "116"]).ok().lines().count();
        // Found by its address; by a name that the file has; by none of both.
        let said = apply("").ok();
        assert!(
            said.stdout.lines().nth(1).is_some_and(|line| line.contains(" h1 ") && line.ends_with("  ok")),
            "{said:#?}"
        );
        assert!(said.stderr.contains("info: this host owns 10.96.1.0/24"), "{said:#?}");
        assert_eq!(routes(), 8);
        let applied = apply("--node h1 -q -o json").ok();
        let status = &applied.json()["items"][0];
        assert_eq!(
            (&status["peers"], &status["in_sync"], applied.stderr.as_str()),
            (&json!(8), &json!(true), "")
        );
        // Most of the peers go only when somebody is sure.
        host.write(2, &[]);
        let held = apply("");
        assert_eq!((held.code, routes()), (Some(1), 8), "{held:#?}");
        assert!(held.stdout.contains("6 peers held back"), "{held:#?}");
        apply("--remove-most").ok();
        assert_eq!(routes(), 2);
        // A bad record is refused alone.
        host.write(2, &[json!({"node": "evil", "underlay": "198.51.100.66", "subnets": ["10.96.2.0/25"]})]);
        let refused = apply("");
        assert_eq!((refused.code, routes()), (Some(1), 2), "{refused:#?}");
        assert!(
            refused.stderr.contains("warn: peer record peers[3] refused: subnets: 10.96.2.0/25 overlaps"),
            "{refused:#?}"
        );
        std::fs::write(&host.file, "{").unwrap();
        let usage = apply("").usage();
        assert!(usage.contains("lab.json: no JSON"), "{usage}");
        lab.exec(&["ip", "link", "del", "ovl7"]).ok();
    });
}

#[test]
fn the_agent_says_how_it_is() {
    lab::run("overlay_status", |lab| {
        let odd = json!({"node": "evil", "underlay": "198.51.100.66", "subnets": ["10.96.2.0/25"]});
        let host = Host::new(lab, 3, &[]);
        let dir = lab.dir().display().to_string();
        let socket = format!("--socket {dir}/agent.sock");
        let none = host.scene.netctl(&format!("overlay status {socket}"));
        assert_eq!(none.code, Some(3), "{none:#?}");
        assert!(none.stderr.contains("agent.sock: No such file or directory"), "{none:#?}");

        let agent = host.start_agent(lab, &dir);
        wait::wait_for("the agent", Duration::from_secs(30), || {
            host.scene.netctl(&format!("overlay status {socket}")).code == Some(0)
        });
        let table = host.scene.netctl(&format!("overlay status lab {socket}")).ok().stdout;
        let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            row,
            [
                "lab",
                "h1",
                "10.96.1.0/24",
                "ovl7",
                "1450",
                "198.51.100.1",
                "on",
                "eth0",
                "following",
                "3",
                "ok"
            ]
        );
        let peers = host.items(&format!("peers {socket}"));
        assert_eq!(peers.len(), 3, "{peers:#?}");
        assert_eq!((&peers[0]["node"], &peers[0]["subnets"]), (&json!("h2"), &json!(["10.96.2.0/24"])));
        host.scene.netctl(&format!("overlay difference lab {socket}")).ok();

        host.write(3, &[odd]);
        wait::wait_for("the bad record", Duration::from_secs(30), || {
            host.scene.netctl(&format!("overlay status {socket}")).stdout.contains("1 records refused")
        });
        assert_eq!(host.scene.netctl(&format!("overlay status {socket}")).code, Some(1));
        let peers = host.items(&format!("peers lab {socket}"));
        let last = peers.last().unwrap();
        assert_eq!((&last["state"], &last["key"]), (&json!("refused"), &json!("peers[4]")), "{peers:#?}");
        assert!(last["why"].as_str().unwrap().contains("overlaps 10.96.2.0/24 of h2"), "{last}");

        for line in ["status other", "peers other", "difference other", "confirm other"] {
            let said = host.scene.netctl(&format!("overlay {line} {socket}")).usage();
            assert!(said.contains("no network other on this host"), "{line}: {said}");
        }
        host.scene.netctl(&format!("overlay confirm lab {socket}")).ok();
        // An agent would undo it.
        let said = host.scene.netctl(&format!("overlay apply {} {socket}", host.file)).usage();
        assert!(said.contains("network lab is kept by the agent on"), "{said}");
        drop(agent);
        lab.exec(&["ip", "link", "del", "ovl7"]).ok();
    });
}

#[test]
fn every_example_of_overlay_works() {
    lab::run("every_example_of_overlay_works", |lab| {
        let host = Host::new(lab, 3, &[]);
        lab.allow("/run/tenon");
        let dir = lab.dir().display().to_string();
        std::fs::create_dir_all("/run/tenon").unwrap();
        let agent = host.start_agent_at(lab, &dir, overlay::client::SOCKET);
        wait::wait_for("the agent", Duration::from_secs(30), || {
            host.scene.netctl("overlay status").code == Some(0)
        });
        // The host's files stay as they are.
        let line = |example: &str| {
            let line = example.replace("/etc/tenon/overlay/lab.json", &host.file);
            line.replace(" lab.json", &format!(" {}", host.file))
        };
        let run = |example: &str, more: &str| {
            let line = format!("{}{more}", line(example).trim_start_matches("netctl "));
            let mut said = host.scene.netctl_with(&COLOURLESS, &line);
            // What the kernel tells the agent of its own doing makes it look again.
            wait::wait_for(example, Duration::from_secs(30), || {
                let is_done = said.code == Some(0) || !said.stdout.contains("converging");
                if !is_done {
                    said = host.scene.netctl_with(&COLOURLESS, &line);
                }
                is_done
            });
            assert_eq!(said.code, Some(0), "{example}: {said:#?}");
            assert!(!said.stderr.contains('\x1b'), "{example}: {said:#?}");
        };
        // An agent would undo what is put into force without it.
        let (apply, ask): (Vec<_>, Vec<_>) =
            Where::Overlay.examples().into_iter().partition(|example| example.contains(" apply "));
        for example in &ask {
            run(example, "");
        }
        let shown = host.scene.netctl("overlay status lab --show-commands");
        let tunnel: Vec<_> = shown.stderr.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
        assert!(tunnel.contains(&"bridge fdb show dev ovl7"), "{shown:#?}");
        drop(agent);
        let clear = || lab.exec(&["ip", "link", "del", "ovl7"]).ok();
        clear();
        for (nth, example) in apply.iter().enumerate() {
            if example.contains("--node h2") {
                // The second host of the file is this one.
                let file = std::fs::read_to_string(&host.file).unwrap();
                let file = file.replace("\"h1\"", "\"h0\"").replace("\"h2\"", "\"h1\"");
                std::fs::write(&host.file, file.replace("\"h0\"", "\"h2\"")).unwrap();
            }
            run(example, &format!(" --run {dir}/run{nth} --lib {dir}/lib{nth}"));
            clear();
        }
        assert!(ask.len() >= 4 && apply.len() == 2, "{ask:?} {apply:?}");
    });
}
