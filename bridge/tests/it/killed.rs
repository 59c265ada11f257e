//! The plugin killed at each of its changes in turn; whatever comes next recovers.

use serde_json::json;
use testenv::{
    fault::{Fate, strike_each},
    plugin::PluginCall,
};

use crate::net::{
    assert_nothing_of_ours_is_left, call, everything, forget_the_network, message, run, with_result,
};

/// Kills an ADD at each step, has `recover` do its work, and looks for anything left.
fn after_each_killed_add(name: &'static str, recover: impl Fn(&str, &PluginCall) + Send + 'static) {
    run(name, move |lab| {
        let ns = lab.netns("one");
        let call = call(lab, &everything(), &ns);
        let steps = strike_each(&call, "ADD", Fate::Killed, |step, _| {
            recover(step, &call);
            assert_eq!(ns.links().len(), 1, "{step}");
            assert_nothing_of_ours_is_left(lab);
            forget_the_network(lab);
        });
        assert!(steps > 40, "{steps} steps: was it killed at all?");
    });
}

#[test]
fn del_recovers_from_a_killed_add() {
    after_each_killed_add("killed_add_del", |step, call| {
        let reply = call.del();
        assert!(reply.succeeded(), "{step}: {reply}");
    });
}

#[test]
fn del_without_the_namespace_recovers_from_a_killed_add() {
    after_each_killed_add("killed_add_del_netns", |step, call| {
        let reply = call.clone().netns_path("").del();
        assert!(reply.succeeded(), "{step}: {reply}");
    });
}

#[test]
fn the_next_add_recovers_from_a_killed_add() {
    after_each_killed_add("killed_add_add", |step, call| {
        let reply = call.add();
        if reply.succeeded() {
            call.clone().config(&with_result(everything(), &reply.ok())).check().ok();
        } else {
            // It had come to its end: only its answer is missing, and it looks like any live attachment.
            assert!(step.ends_with("write") || step.ends_with("none"), "{step}: {reply}");
            assert!(message(&reply.err(7)).contains("has an interface of that name already"));
        }
        call.del().ok();
    });
}

#[test]
fn gc_recovers_from_a_killed_add() {
    after_each_killed_add("killed_add_gc", |step, call| {
        let mut config = everything();
        config["cni.dev/valid-attachments"] = json!([]);
        let reply = call.clone().config(&config).gc();
        assert!(reply.succeeded(), "{step}: {reply}");
    });
}

#[test]
fn a_killed_del_is_repeated() {
    run("killed_del", |lab| {
        let ns = lab.netns("one");
        let call = call(lab, &everything(), &ns);
        call.add().ok();
        let steps = strike_each(&call, "DEL", Fate::Killed, |step, _| {
            let reply = call.clone().netns_path("").del();
            assert!(reply.succeeded(), "{step}: {reply}");
            assert_eq!(ns.links().len(), 1, "{step}");
            assert_nothing_of_ours_is_left(lab);
            call.add().ok();
        });
        assert!(steps > 10, "{steps} steps: was it killed at all?");
        call.del().ok();
    });
}
