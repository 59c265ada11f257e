//! The Go plugin (Debian's containernetworking-plugins) and ours on one node, as during an upgrade in place.

use std::path::Path;

use serde_json::{Value, json};
use testenv::lab::Lab;

use crate::net::{Container, call, dual_stack, leases, message, run, with_result};

const PEERS: &str = "/usr/lib/cni";

/// A configuration that both understand.
fn shared(more: Value) -> Value {
    let mut config = dual_stack(json!({"cniVersion": "1.0.0"}));
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// What the Go plugin leaves by design: its own tables and what they hang in.
fn allow_theirs(lab: &Lab) {
    for table in ["table ip nat", "table ip6 nat", "table bridge nat"] {
        lab.allow(table);
    }
    // The prober of its iptables and of ours.
    lab.allow("file /run/xtables.lock");
}

/// A container that the Go plugin attached.
#[track_caller]
fn attached_by_go(lab: &Lab, config: &Value, name: &str) -> Container {
    let ns = lab.netns(name);
    let go = lab.peer(Path::new(PEERS), "bridge").config(config).container(name).netns(&ns);
    let result = go.add().ok();
    Container { call: call(lab, config, &ns), ns, config: config.clone(), result }
}

/// The chains that the Go plugin makes for a container, and what jumps to them.
fn their_rules(lab: &Lab) -> Vec<String> {
    let lines = lab.host().snapshot().lines;
    let theirs = |line: &String| line.contains("CNI-") || line.contains("cni-br-iface");
    lines.into_iter().filter(theirs).collect()
}

#[test]
fn ours_detaches_what_go_attached() {
    run("go_attached", |lab| {
        allow_theirs(lab);
        for (more, netns) in [
            (json!({}), true),
            (json!({}), false),
            (json!({"ipMasq": true}), true),
            (json!({"ipMasq": true, "macspoofchk": true}), true),
            (json!({"ipMasq": true, "macspoofchk": true}), false),
        ] {
            let one = attached_by_go(lab, &shared(more.clone()), "one");
            let masqueraded = more.get("ipMasq").is_some();
            assert_eq!(their_rules(lab).is_empty(), !masqueraded, "{more}");
            one.check().ok();
            let del = if netns { one.del_call() } else { one.del_call().netns_path("") };
            del.del().ok();
            del.del().ok();
            assert!(leases("net").is_empty(), "{more}");
            assert_eq!(their_rules(lab), Vec::<String>::new(), "{more}");
            assert_eq!(one.ns.has_link("eth0"), !netns, "{more}");
            // Nobody but the namespace knows the interface; with that it goes.
            lab.remove_netns(one.ns);
        }
    });
}

#[test]
fn go_detaches_what_ours_attached() {
    run("ours_attached", |lab| {
        allow_theirs(lab);
        let config = shared(json!({}));
        let one = crate::net::attach(lab, &config, "one");
        let go = lab.peer(Path::new(PEERS), "bridge").config(&with_result(config, &one.result));
        let go = go.container("one").netns(&one.ns);
        go.check().ok();
        go.del().ok();
        assert!(leases("net").is_empty() && !one.ns.has_link("eth0"));
        // It can't know of the record, which the next of ours clears away: another ADD, a DEL, or GC.
        let mut gc = dual_stack(json!({}));
        gc["cni.dev/valid-attachments"] = json!([]);
        lab.plugin("bridge").config(&gc).gc().ok();
    });
}

/// Both live on one bridge, and each leaves the other's alone.
#[test]
fn both_share_a_bridge() {
    run("both", |lab| {
        allow_theirs(lab);
        let config = shared(json!({}));
        let ours = crate::net::attach(lab, &config, "ours");
        let theirs = attached_by_go(lab, &config, "theirs");
        let again = crate::net::attach(lab, &config, "again");
        assert!(ours.ns.pings(theirs.ip(0)) && theirs.ns.pings(again.ip(0)) && again.ns.pings(ours.ip(1)));
        ours.detach();
        theirs.check().ok();
        again.check().ok();
        theirs.detach();
        again.check().ok();
        again.detach();
    });
}

/// A container that Go attached is not attached again.
#[test]
fn ours_refuses_to_attach_what_go_attached() {
    run("go_attached_again", |lab| {
        allow_theirs(lab);
        let one = attached_by_go(lab, &shared(json!({})), "one");
        let error = one.call.add().err(7);
        assert!(message(&error).contains("has an interface of that name already"), "{error}");
        one.check().ok();
        one.detach();
    });
}
