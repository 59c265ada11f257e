//! The plugin killed before each of its system calls in turn: what comes next recovers, and no address is lost.

use std::path::Path;

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

/// Calls `verb` again and again, killed before its first, second, ... system call, until it gets through; `then`
/// after each. Says how many it took.
fn kill_at_each_step(lab: &Lab, call: &PluginCall, verb: &str, mut then: impl FnMut(usize)) -> usize {
    lab.needs_program("strace", "strace");
    (1..2000)
        .find(|step| {
            let inject = format!("inject=all:signal=KILL:when={step}");
            let reply = call.clone().through(&["strace", "-f", "-o", "/dev/null", "-e", &inject]).call(verb);
            then(*step);
            reply.succeeded()
        })
        .expect("it gets through")
}

/// Both addresses can be leased and given back.
#[track_caller]
fn assert_all_is_free(lab: &Lab, step: usize) {
    let call = ours(lab, &pair());
    for container in ["x1", "x2"] {
        let reply = call.clone().container(container).add();
        assert!(reply.succeeded(), "step {step}, {:?}: {reply}", leases());
    }
    for container in ["x1", "x2"] {
        call.clone().container(container).del().ok();
    }
    assert!(leases().is_empty(), "step {step}: {:?}", leases());
    let entries = std::fs::read_dir("/var/lib/cni/networks").unwrap().count();
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
        assert!(steps > 50, "{steps} steps: was it killed at all?");
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
        assert!(steps > 50, "{steps} steps: was it killed at all?");
        call.del().ok();
        bystander.del().ok();
        assert_all_is_free(lab, steps);
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
