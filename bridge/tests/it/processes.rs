//! ADD and DEL start no process, and no thread either.

use std::fs;

use crate::net::{attach, call, everything, run};

#[test]
fn no_child_process() {
    run("no_child", |lab| {
        lab.needs_program("strace", "strace");
        let ns = lab.netns("one");
        // The second of each goes the usual way; the first makes tables and the bridge.
        for turn in 0..2 {
            for verb in ["ADD", "DEL"] {
                let log = lab.dir().join(format!("{verb}{turn}"));
                let log = log.to_str().unwrap();
                let trace = ["strace", "-f", "-o", log, "-e", "trace=execve,fork,vfork,clone,clone3"];
                call(lab, &everything(), &ns).through(&trace).call(verb).ok();
                let text = fs::read_to_string(log).unwrap();
                let calls: Vec<_> = text.lines().filter(|line| line.contains('(')).collect();
                assert_eq!(calls.iter().filter(|line| line.contains("execve(")).count(), 1, "{text}");
                assert!(calls.iter().all(|line| line.contains("execve(")), "{text}");
            }
        }
        attach(lab, &everything(), "two").detach();
    });
}
