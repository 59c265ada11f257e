//! `netctl drops` over three hosts.

use std::process::{Command, Stdio};

use serde_json::Value;
use testenv::lab;

use crate::hosts::{Hosts, arguments, words};

#[test]
fn a_drop_is_told_with_place_reason_and_count() {
    lab::run("drops", |lab| {
        let hosts = Hosts::build(lab);
        words(hosts.host(2), "nft add table ip filter");
        words(
            hosts.host(2),
            "nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
        );
        lab.rebase();
        let argv = arguments("-o json drops --count 3 --every 50 n1/host n2/host");
        let mut run = hosts.host(1).run(|| {
            Command::new(&argv[0]).args(&argv[1..]).stdout(Stdio::piped()).spawn().expect("netctl was built")
        });
        // It ends once it has seen three; until then there is no telling when it is ready.
        while run.try_wait().expect("a child of ours").is_none() {
            let _ = hosts.container(1).ping([10, 244, 2, 10].into(), std::time::Duration::from_millis(50));
        }
        let output = run.wait_with_output().expect("a child of ours");
        assert_eq!(output.status.code(), Some(1));
        let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON line"))
            .collect();
        let count: u64 = lines.iter().filter_map(|line| line["count"].as_u64()).sum();
        assert!(count >= 3, "{lines:?}");
        for line in &lines {
            let [node, netns, device, reason, function, packet] =
                ["node", "netns", "device", "reason", "function", "packet"]
                    .map(|key| line[key].as_str().unwrap_or_default());
            assert_eq!((node, netns, device, reason), ("n2", "host", "ovl", "NETFILTER_DROP"), "{line}");
            assert_eq!(
                (function, packet),
                ("nft_do_chain", "10.244.1.10 > 10.244.2.10 ICMP echo request"),
                "{line}"
            );
        }
    });
}

#[test]
fn a_healthy_node_drops_nothing() {
    lab::run("drops-none", |lab| {
        let hosts = Hosts::build(lab);
        let argv = arguments("drops --duration 2");
        let mut run = hosts.host(1).run(|| {
            Command::new(&argv[0]).args(&argv[1..]).stdout(Stdio::piped()).spawn().expect("netctl was built")
        });
        while run.try_wait().expect("a child of ours").is_none() {
            assert!(hosts.container(1).pings([10, 244, 2, 10].into()));
        }
        let output = run.wait_with_output().expect("a child of ours");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        assert_eq!(output.status.code(), Some(0));
    });
}
