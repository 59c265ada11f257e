//! ADD that is refused or killed at each step in turn, and that none of it starts a process.

use std::fs;

use nix::errno::Errno;
use serde_json::{Value, json};
use testenv::{
    fault::{Fate, strike_each},
    lab::Lab,
    ns::Ns,
};

use crate::{network, run, tap, with_result};

/// All that an ADD can do.
fn everything(container: &Ns) -> Value {
    container.add_bridge("br0");
    network(json!({"bridge": "br0", "mtu": 1400, "owner": 1, "group": 2, "multiQueue": true}))
}

/// What an ADD may have left.
fn left(lab: &Lab, container: &Ns) -> Vec<String> {
    let leases = fs::read_dir("/var/lib/cni/networks/machines").into_iter().flatten().flatten();
    let leases = leases.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let records = fs::exists("/run/tenon/attach/machines").expect("to see").then(|| "records".to_owned());
    let own = leases.filter(|name| name.starts_with("10.") || name.starts_with("fd")).chain(records);
    let hosts = lab.host().links().into_iter().filter(|link| link != "lo");
    own.chain(hosts).chain(container.links().into_iter().filter(|link| link == "eth0")).collect()
}

/// Its ADD has come to its end, whether it could say so or not: another is refused.
fn is_complete() -> bool {
    let records = fs::read_dir("/run/tenon/attach/machines/tap").into_iter().flatten().flatten();
    records.map(|entry| entry.file_name()).any(|name| !name.to_string_lossy().ends_with(".pending"))
}

#[test]
fn an_add_that_is_refused_at_any_step_leaves_nothing() {
    run("tap_refused", |lab| {
        let c1 = lab.netns("c1");
        let call = tap(lab, &everything(&c1)).netns(&c1);
        let mut failed = 0;
        let steps = strike_each(&call, "ADD", Fate::Refused(Errno::EPERM), |step, reply| {
            if reply.succeeded() {
                call.del().ok();
            } else {
                failed += 1;
            }
            assert_eq!(left(lab, &c1), [""; 0], "{step}: {reply}");
        });
        assert!(failed > 10 && steps > failed, "{failed} of {steps} steps");
        c1.remove_link("br0");
    });
}

#[test]
fn what_a_killed_add_left_goes_by_del_and_by_the_next_add() {
    run("tap_killed", |lab| {
        let c1 = lab.netns("c1");
        let call = tap(lab, &everything(&c1)).netns(&c1);
        let mut odd = false;
        let steps = strike_each(&call, "ADD", Fate::Killed, |step, reply| {
            odd = !odd;
            if odd && !is_complete() {
                assert!(call.add().succeeded(), "{step}: {reply}");
            }
            call.del().ok();
            assert_eq!(left(lab, &c1), [""; 0], "{step}: {reply}");
        });
        assert!(steps > 10, "{steps} steps");
        c1.remove_link("br0");
    });
}

#[test]
fn no_child_process() {
    run("tap_process", |lab| {
        lab.needs_program("strace", "strace");
        let c1 = lab.netns("c1");
        let config = everything(&c1);
        let mut call = tap(lab, &config).netns(&c1);
        for verb in ["ADD", "CHECK", "DEL"] {
            let log = lab.dir().join("trace").display().to_string();
            let trace = ["strace", "-f", "-o", &log, "-e", "trace=execve,fork,vfork,clone,clone3"];
            let result = call.clone().through(&trace).call(verb).ok();
            if verb == "ADD" {
                call = call.config(&with_result(config.clone(), &result));
            }
            let text = fs::read_to_string(&log).expect("a trace");
            let (programs, starts): (Vec<_>, Vec<_>) =
                text.lines().filter(|line| line.contains('(')).partition(|line| line.contains("execve("));
            assert_eq!(programs.len(), 1, "{verb}: {text}");
            assert!(starts.iter().all(|line| line.contains("CLONE_THREAD")), "{verb}: {text}");
        }
        c1.remove_link("br0");
    });
}
