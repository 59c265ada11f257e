//! Our host-local and the reference's on one network, in turn and at once, with live containers in between.

use std::collections::{BTreeMap, BTreeSet};

use testenv::plugin::PluginCall;

use crate::scene::{addresses, config, leases, ours, run, theirs};

const SUBNETS: [&str; 2] = ["10.1.0.0/27", "fd00::/120"];

#[test]
fn each_releases_what_the_other_leased() {
    run("each_releases_what_the_other_leased", |lab| {
        let config = config(&SUBNETS);
        let (ours, theirs) = (ours(lab, &config), theirs(lab, &config));
        let owners = || leases().into_values().collect::<BTreeSet<_>>();
        assert_eq!(addresses(&ours.clone().container("c1").add().ok()), ["10.1.0.2", "fd00::2"]);
        assert_eq!(addresses(&theirs.clone().container("c2").add().ok()), ["10.1.0.3", "fd00::3"]);
        assert_eq!(addresses(&ours.clone().container("c3").add().ok()), ["10.1.0.4", "fd00::4"]);
        for (call, container) in [(&ours, "c2"), (&theirs, "c1"), (&theirs, "c3")] {
            call.clone().container(container).check().ok();
            let duplicate = call.clone().container(container).add().err(999);
            assert!(duplicate["msg"].as_str().unwrap().contains("duplicate allocation"), "{duplicate}");
        }
        theirs.clone().container("c1").del().ok();
        assert_eq!(owners(), ["c2 eth0", "c3 eth0"].map(String::from).into());
        ours.clone().container("c2").del().ok();
        assert_eq!(owners(), ["c3 eth0"].map(String::from).into());
        ours.clone().container("c1").check().err(999);
        ours.clone().container("c3").check().ok();
        theirs.container("c3").del().ok();
        assert!(leases().is_empty());
        // Our next call, whatever it is, finds the index out of step.
        ours.del().ok();
    });
}

/// A long, reproducible history: whoever acts, the leases are what both believe.
#[test]
fn in_turn() {
    run("in_turn", |lab| {
        let config = config(&SUBNETS);
        let calls: [PluginCall; 2] = [ours(lab, &config), theirs(lab, &config)];
        let mut expected = BTreeMap::new();
        let mut state = 1_u32;
        let mut choose = |count: u32| {
            // Numerical Recipes' generator; its high bits are good enough to vary a test.
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            usize::try_from((state >> 16) % count).unwrap()
        };
        for step in 0..120 {
            let container = format!("c{}", choose(12));
            let call = calls[choose(2)].clone().container(&container);
            let owner = format!("{container} eth0");
            let is_attached = expected.values().any(|holder| *holder == owner);
            match (choose(3), is_attached) {
                (0, true) => _ = call.add().err(999),
                (1, true) => _ = call.clone().check().ok(),
                (_, true) => {
                    call.del().ok();
                    expected.retain(|_, holder| *holder != owner);
                }
                (0, false) => _ = call.del().ok(),
                (_, false) => {
                    let given = addresses(&call.add().ok());
                    expected.extend(given.into_iter().map(|address| (address, owner.clone())));
                }
            }
            assert_eq!(leases(), expected, "after step {step}: {owner}");
        }
        for (_, owner) in leases() {
            calls[choose(2)].clone().container(owner.split(' ').next().unwrap()).del().ok();
        }
        calls[0].del().ok();
    });
}

#[test]
fn at_once() {
    run("at_once", |lab| {
        let config = config(&["10.1.0.0/24"]);
        let call = |number: usize| match number % 3 {
            0 => theirs(lab, &config).container(&format!("c{number}")),
            _ => ours(lab, &config).container(&format!("c{number}")),
        };
        let running: Vec<_> = (0..60).map(|number| call(number).start("ADD")).collect();
        let given: BTreeSet<_> =
            running.into_iter().flat_map(|running| addresses(&running.wait().ok())).collect();
        assert_eq!(given.len(), 60);
        // Each deletes what it did not make.
        let running: Vec<_> =
            (0..60).map(|number| call(number + 1).container(&format!("c{number}")).start("DEL")).collect();
        for running in running {
            running.wait().ok();
        }
        assert!(leases().is_empty());
        ours(lab, &config).del().ok();
    });
}
