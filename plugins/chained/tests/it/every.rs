//! What the chained plugins have in common, each with a configuration by which it does all that it can: no processes, nothing
//! left by an ADD that fails or is killed, a DEL that needs nothing, GC, STATUS.

use std::{collections::BTreeSet, fs, path::Path};

use nix::errno::Errno;
use serde_json::{Value, json};
use testenv::{
    fault::{Fate, strike_each},
    lab::Lab,
    ns::Ns,
    plugin::PluginCall,
    snapshot::Snapshot,
};

use crate::net::{Container, attach, message, net, of_each, portmap, run, with};

/// Each with the configuration of a list.
fn plugins() -> [Value; 5] {
    [
        portmap(&of_each(8080)),
        json!({"type": "firewall", "ingressPolicy": "isolated", "internal": true}),
        json!({"type": "tuning", "mtu": 1400, "txQLen": 77, "mac": "02:00:00:00:00:07",
            "sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1", "net.core.somaxconn": "500"}}),
        json!({"type": "bandwidth", "ingressRate": 8_000_000, "egressRate": 8_000_000, "shapedSubnets": ["10.0.0.0/8"]}),
        json!({"type": "sbr", "addSourceHints": true}),
    ]
}

fn name(plugin: &Value) -> &str {
    plugin["type"].as_str().unwrap()
}

/// A call for a container that only has its bridge.
fn call(lab: &Lab, plugin: &Value, bare: &Container) -> PluginCall {
    let more = json!({"cniVersion": "1.1.0", "name": "net", "prevResult": bare.result});
    lab.plugin(name(plugin)).config(&with(plugin.clone(), more)).container(bare.ns.name()).netns(&bare.ns)
}

/// A host whose FORWARD drops, so that firewall has to do with it too.
fn drop_by_default(lab: &Lab) {
    lab.needs_program("iptables-nft", "iptables");
    for tool in ["iptables-nft", "ip6tables-nft"] {
        lab.exec(&[tool, "-P", "FORWARD", "DROP"]).ok();
    }
    lab.rebase();
}

type State = (BTreeSet<String>, Option<Snapshot>);

/// What the plugin may have changed; sysctls are of the container alone.
#[track_caller]
fn state(lab: &Lab, plugin: &Value, ns: &Ns) -> State {
    let inside = ["tuning", "sbr"].contains(&name(plugin));
    let mut lines = lab.host().snapshot().lines;
    if fs::exists(format!("/run/tenon/attach/net/{}", name(plugin))).unwrap() {
        lines.insert("records".to_owned());
    }
    (lines, inside.then(|| ns.snapshot()))
}

/// Prints what differs alone.
#[track_caller]
fn assert_same(now: &State, before: &State, what: impl std::fmt::Display) {
    let mut differing: Vec<_> = now.0.symmetric_difference(&before.0).cloned().collect();
    if let (Some(now), Some(before)) = (&now.1, &before.1) {
        differing.extend(before.until(now).to_string().lines().map(str::to_owned));
    }
    assert_eq!(differing, [""; 0], "{what}");
}

#[test]
fn no_child_process() {
    run("every_process", |lab| {
        lab.needs_program("strace", "strace");
        drop_by_default(lab);
        let bare = attach(lab, &net(&[]), "c1");
        for plugin in plugins() {
            for verb in ["ADD", "CHECK", "DEL"] {
                let log = lab.dir().join("trace").display().to_string();
                let trace = ["strace", "-f", "-o", &log, "-e", "trace=execve,fork,vfork,clone,clone3"];
                call(lab, &plugin, &bare).through(&trace).call(verb).ok();
                let text = fs::read_to_string(&log).unwrap();
                let calls: Vec<_> = text.lines().filter(|line| line.contains('(')).collect();
                let (programs, starts): (Vec<_>, Vec<_>) =
                    calls.into_iter().partition(|line| line.contains("execve("));
                assert_eq!(programs.len(), 1, "{verb}: {text}");
                assert!(starts.iter().all(|line| line.contains("CLONE_THREAD")), "{verb}: {text}");
            }
        }
        bare.detach(lab);
    });
}

/// Bug of the reference: what was done before the step that fails stays.
#[test]
fn bug_an_add_that_fails_at_any_step_leaves_nothing() {
    run("every_refused", |lab| {
        drop_by_default(lab);
        let bare = attach(lab, &net(&[]), "c1");
        for plugin in plugins() {
            let call = call(lab, &plugin, &bare);
            // Tables and chains are made once, and stay.
            call.add().ok();
            call.del().ok();
            let (before, mut failed) = (state(lab, &plugin, &bare.ns), 0);
            let steps = strike_each(&call, "ADD", Fate::Refused(Errno::EPERM), |step, reply| {
                if reply.succeeded() {
                    // It was nothing that the plugin needs.
                    call.check().ok();
                    call.del().ok();
                } else {
                    failed += 1;
                }
                assert_same(
                    &state(lab, &plugin, &bare.ns),
                    &before,
                    format!("{} {step}: {reply}", name(&plugin)),
                );
            });
            eprintln!("{}: {steps} steps, {failed} of them fail", name(&plugin));
            assert!(failed > 5, "{}: {failed} failures", name(&plugin));
        }
        bare.detach(lab);
    });
}

#[test]
fn del_recovers_from_an_add_that_was_killed_anywhere() {
    run("every_killed", |lab| {
        drop_by_default(lab);
        let bare = attach(lab, &net(&[]), "c1");
        for plugin in plugins() {
            let call = call(lab, &plugin, &bare);
            call.add().ok();
            call.del().ok();
            let before = state(lab, &plugin, &bare.ns);
            let steps = strike_each(&call, "ADD", Fate::Killed, |step, reply| {
                // The next ADD comes to its end too, and DEL after it.
                if step.len() % 2 == 0 {
                    assert!(call.add().succeeded(), "{step}: {reply}");
                    call.check().ok();
                }
                call.del().ok();
                assert_same(
                    &state(lab, &plugin, &bare.ns),
                    &before,
                    format!("{} {step}: {reply}", name(&plugin)),
                );
            });
            assert!(steps > 4, "{}: {steps} steps", name(&plugin));
        }
        bare.detach(lab);
    });
}

/// Bugs of the reference: DEL fails or leaves something where the namespace, the interface, `prevResult` or a part of the
/// configuration is missing, and when it is called again.
#[test]
fn bug_del_needs_nothing() {
    run("every_del", |lab| {
        drop_by_default(lab);
        let file = lab.dir().join("plain");
        fs::write(&file, "").unwrap();
        let plain = file.to_str().unwrap();
        for plugin in plugins() {
            let nonsense = json!({
                "cniVersion": "1.1.0", "name": "net", "type": name(&plugin), "runtimeConfig": 7, "backend": 7,
                "ingressPolicy": 7, "sysctl": 7, "mtu": "x", "ingressRate": "x", "table": "x",
            });
            for netns in ["", "/run/netns/gone", plain, "without the interface"] {
                let bare = attach(lab, &net(&[]), "c1");
                call(lab, &plugin, &bare).add().ok();
                let del = lab.plugin(name(&plugin)).config(&nonsense).container("c1");
                let del = if netns == "without the interface" {
                    bare.ns.exec(&["ip", "link", "del", "eth0"]).ok();
                    del.netns(&bare.ns)
                } else {
                    del.netns_path(netns)
                };
                for _ in 0..2 {
                    del.del().ok();
                }
                let left: Vec<_> =
                    lab.host().snapshot().lines.into_iter().filter(|line| of_plugins(line)).collect();
                assert_eq!(left, [""; 0], "{} with {netns:?}", name(&plugin));
                assert!(!Path::new("/run/netns/gone").exists() && fs::read(plain).unwrap().is_empty());
                bare.detach(lab);
                lab.remove_netns(bare.ns);
            }
        }
    });
}

/// Elements but for the bridge's masquerade, accepts in the host's filter, ifbs, queues.
fn of_plugins(line: &str) -> bool {
    let elements =
        line.contains("elements = ") && !["masq", "exempt", "owner"].iter().any(|of| line.contains(of));
    elements || line == "records" || line.contains("tenon net") || line.starts_with("link bwp")
}

/// Bug of the reference: GC says that it is done, and does nothing.
#[test]
fn bug_gc_takes_what_is_not_valid() {
    run("every_gc", |lab| {
        drop_by_default(lab);
        let bare = attach(lab, &net(&[]), "c1");
        for plugin in plugins() {
            let call = call(lab, &plugin, &bare);
            let gc = |valid: Option<Value>| {
                let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": name(&plugin)});
                if let Some(valid) = valid {
                    config["cni.dev/valid-attachments"] = valid;
                }
                lab.plugin(name(&plugin)).config(&config).gc()
            };
            call.add().ok();
            // Without the list nothing is known to be gone, and other networks' are no business of this one's.
            gc(None);
            gc(Some(json!([{"containerID": "c1", "ifname": "eth0"}]))).ok();
            let other = json!({"cniVersion": "1.1.0", "name": "other", "type": name(&plugin), "cni.dev/attachments": null});
            lab.plugin(name(&plugin)).config(&other).gc().ok();
            call.check().ok();
            gc(Some(json!([{"containerID": "c1", "ifname": "eth1"}]))).ok();
            // What is in the container's namespace ends with it.
            let left: Vec<_> =
                state(lab, &plugin, &bare.ns).0.into_iter().filter(|line| of_plugins(line)).collect();
            assert_eq!(left, [""; 0], "{}", name(&plugin));
            call.add().ok();
            call.del().ok();
        }
        bare.detach(lab);
        lab.remove_netns(bare.ns);
    });
}

#[test]
fn status_judges_configuration_and_kernel() {
    run("every_status", |lab| {
        lab.needs_program("setpriv", "util-linux");
        let status = |plugin: &Value, more: Value| {
            let more = with(more, json!({"cniVersion": "1.1.0", "name": "net"}));
            lab.plugin(name(plugin)).config(&with(plugin.clone(), more))
        };
        for (plugin, bad) in plugins().iter().zip([
            json!({"markMasqBit": 32}),
            json!({"backend": "ipfw"}),
            json!({"mtu": 5}),
            json!({"egressRate": 1}),
            json!({"table": 0}),
        ]) {
            status(plugin, json!({})).status().ok();
            status(plugin, bad).status().err(7);
        }
        for plugin in &plugins()[..2] {
            let nobody = ["setpriv", "--reuid=65534", "--clear-groups", "--bounding-set=-all"];
            let error = status(plugin, json!({})).through(&nobody).status().err(50);
            assert!(message(&error).contains("nftables can't be used"), "{error}");
        }
    });
}
