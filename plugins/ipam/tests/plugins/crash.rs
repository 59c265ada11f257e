//! The plugin killed before each of its system calls in turn: what comes next recovers, and no address is lost.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};
use testenv::{lab::Lab, plugin::PluginCall};

use crate::scene::{addresses, config, leases, ours, run};

/// Two addresses and no more, so that one that is lost is missed.
fn pair() -> Value {
    let mut config = config(&["10.1.0.0/29", "fd00::/64"]);
    config["ipam"]["ranges"][0][0]["rangeEnd"] = json!("10.1.0.3");
    config["ipam"]["ranges"][1][0]["rangeEnd"] = json!("fd00::3");
    config
}

/// Calls `verb` again and again, killed before a different one of its system calls each time; `then` after each. Says how
/// many those were.
fn kill_at_each_step(lab: &Lab, call: &PluginCall, verb: &str, mut then: impl FnMut(&str)) -> usize {
    lab.needs_program("strace", "strace");
    let log = lab.dir().join("calls");
    let traced = |expression: &str| {
        let strace = ["strace", "-f", "-o", log.to_str().unwrap(), "-e", expression];
        call.clone().through(&strace).call(verb)
    };
    traced("trace=all").ok();
    then("no kill");
    let name = |line: &str| Some(line.split_once('(')?.0.split_whitespace().last()?.to_owned());
    let names: BTreeSet<_> = fs::read_to_string(&log).unwrap().lines().filter_map(name).collect();
    let mut killed = 0;
    // strace counts the calls of each name apart.
    for name in names {
        for number in 1.. {
            let reply = traced(&format!("inject={name}:signal=KILL:when={number}"));
            then(&format!("{name} {number}"));
            match reply.code {
                Some(0) => break,
                // strace ends as the plugin did: by the signal.
                None => killed += 1,
                Some(_) => panic!("{name} {number}: {reply}"),
            }
        }
    }
    killed
}

/// Both addresses can be leased and given back.
#[track_caller]
fn assert_all_is_free(lab: &Lab, step: &str) {
    let call = ours(lab, &pair());
    for container in ["x1", "x2"] {
        let reply = call.clone().container(container).add();
        assert!(reply.succeeded(), "step {step}, {:?}: {reply}", leases());
    }
    for container in ["x1", "x2"] {
        call.clone().container(container).del().ok();
    }
    assert!(leases().is_empty(), "step {step}: {:?}", leases());
    assert_only_the_network(step);
}

/// No draft is left.
#[track_caller]
fn assert_only_the_network(step: &str) {
    let entries = fs::read_dir("/var/lib/cni/networks").unwrap().count();
    assert_eq!(entries, 1, "step {step}: something beside the network's directory");
}

#[test]
fn del_recovers_from_a_killed_add() {
    run("del_recovers_from_a_killed_add", |lab| {
        let call = ours(lab, &pair());
        let steps = kill_at_each_step(lab, &call, "ADD", |step| {
            call.del().ok();
            assert!(leases().is_empty(), "step {step}: {:?}", leases());
            if Path::new("/var/lib/cni/networks").exists() {
                assert_all_is_free(lab, step);
            }
        });
        assert!(steps > 100, "{steps} steps: was it killed at all?");
    });
}

#[test]
fn a_killed_del_is_repeated() {
    run("a_killed_del_is_repeated", |lab| {
        let call = ours(lab, &pair());
        let bystander = call.clone().container("c2");
        bystander.add().ok();
        call.add().ok();
        let steps = kill_at_each_step(lab, &call, "DEL", |step| {
            call.del().ok();
            bystander.check().ok();
            assert_eq!(leases().len(), 2, "step {step}: {:?}", leases());
            assert_eq!(addresses(&call.add().ok()).len(), 2);
        });
        assert!(steps > 100, "{steps} steps: was it killed at all?");
        call.del().ok();
        bystander.del().ok();
        assert_all_is_free(lab, "the end");
    });
}

#[test]
fn gc_recovers_from_a_killed_add_and_from_a_killed_gc() {
    run("gc_recovers_from_a_killed_add_and_from_a_killed_gc", |lab| {
        let mut valid = pair();
        valid["cni.dev/valid-attachments"] = json!([{"containerID": "c2", "ifname": "eth0"}]);
        let (call, gc) = (ours(lab, &pair()), ours(lab, &valid));
        let bystander = call.clone().container("c2");
        bystander.add().ok();
        kill_at_each_step(lab, &call, "ADD", |step| {
            gc.gc().ok();
            bystander.check().ok();
            assert_eq!(leases().len(), 2, "step {step}: {:?}", leases());
            assert_only_the_network(step);
        });
        call.add().ok();
        kill_at_each_step(lab, &gc, "GC", |step| {
            bystander.check().ok();
            gc.gc().ok();
            assert_eq!(leases().len(), 2, "step {step}: {:?}", leases());
            call.add().ok();
        });
        call.del().ok();
        bystander.del().ok();
    });
}
