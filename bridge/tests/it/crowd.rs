//! A hundred at once on one network.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use testenv::{
    lab::Lab,
    plugin::{PluginCall, Reply, Running},
    wait,
};

use crate::net::{call, dual_stack, elements, leases, run};

const COUNT: usize = 100;

/// Calls for that many containers.
fn calls(lab: &Lab, config: &Value) -> Vec<PluginCall> {
    (0..COUNT).map(|number| call(lab, config, &lab.netns(&format!("c{number}")))).collect()
}

fn all_at_once(calls: &[PluginCall], verb: &str) -> Vec<Reply> {
    let running: Vec<_> = calls.iter().map(|call| call.start(verb)).collect();
    running.into_iter().map(Running::wait).collect()
}

fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap();
    ips.iter().map(|ip| ip["address"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_hundred_at_once() {
    run("crowd", |lab| {
        let calls = calls(lab, &dual_stack(json!({"ipMasq": true, "macspoofchk": true})));
        let mut given = BTreeSet::new();
        for reply in all_at_once(&calls, "ADD") {
            for address in addresses(&reply.ok()) {
                assert!(given.insert(address.clone()), "{address} twice");
            }
        }
        assert_eq!((given.len(), leases("net").len()), (2 * COUNT, 2 * COUNT));
        for reply in all_at_once(&calls, "DEL") {
            reply.ok();
        }
        assert!(leases("net").is_empty() && elements(lab).is_empty());
    });
}

/// Half of them come while the other half goes, the last of the network's among them.
#[test]
fn coming_while_others_go() {
    run("coming_and_going", |lab| {
        let calls = calls(lab, &dual_stack(json!({"ipMasq": true})));
        let (first, second) = calls.split_at(COUNT / 2);
        for reply in all_at_once(first, "ADD") {
            reply.ok();
        }
        for _ in 0..2 {
            for (these, those) in [(first, second), (second, first)] {
                let going: Vec<_> = these.iter().map(|call| call.start("DEL")).collect();
                let coming = all_at_once(those, "ADD");
                for reply in going.into_iter().map(Running::wait).chain(coming) {
                    reply.ok();
                }
            }
        }
        for reply in all_at_once(first, "DEL") {
            reply.ok();
        }
    });
}

/// Numerical Recipes' generator: its high bits vary a test well enough, and the seed brings it back.
struct Dice(u32);

impl Dice {
    fn below(&mut self, count: u32) -> u64 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u64::from((self.0 >> 8) % count)
    }
}

#[test]
fn each_fifth_is_killed_at_some_moment() {
    run("crowd_killed", |lab| {
        let seed = std::process::id();
        eprintln!("seed {seed}");
        let mut dice = Dice(seed);
        let calls = calls(lab, &dual_stack(json!({"ipMasq": true, "macspoofchk": true})));
        let mut running: Vec<_> = calls.iter().map(|call| call.start("ADD")).collect();
        for running in running.iter_mut().step_by(5) {
            let moment = Duration::from_micros(dice.below(20_000));
            // Let it come as far as it does.
            wait::poll(moment, || running.has_ended().then_some(()));
            running.kill().unwrap();
        }
        let mut given = BTreeSet::new();
        for (number, running) in running.into_iter().enumerate() {
            let reply = running.wait();
            if number % 5 == 0 {
                calls[number].del().ok();
                continue;
            }
            for address in addresses(&reply.ok()) {
                assert!(given.insert(address.clone()), "{address} twice");
            }
        }
        assert_eq!(leases("net").len(), given.len());
        // Those that were killed come back.
        let again: Vec<_> = calls.iter().step_by(5).cloned().collect();
        for reply in all_at_once(&again, "ADD") {
            reply.ok();
        }
        for reply in all_at_once(&calls, "DEL") {
            reply.ok();
        }
    });
}
