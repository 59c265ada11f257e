//! The dummy plugin as a runtime sees it: the real binary against the real kernel, in labs. Also for what it shares with the others
//! whose only link is the container's: each step of ADD and DEL refused or killed.

use std::{fs, net::IpAddr};

use nix::errno::Errno;
use serde_json::{Value, json};
use testenv::{
    fault::{Fate, strike_each},
    lab::{self, Lab},
    ns::Ns,
    plugin::{PluginCall, Reply},
};

fn network(more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0",
        "name": "service",
        "type": "dummy",
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00:1::/64"}]],
            "routes": [{"dst": "192.0.2.0/24", "mtu": 1300, "advmss": 1200}],
        },
    });
    let (Value::Object(to), Value::Object(more)) = (&mut config, more) else { panic!("not objects") };
    to.extend(more);
    config
}

fn with_result(mut config: Value, result: &Value) -> Value {
    config["prevResult"] = result.clone();
    config
}

/// A lab whose kernel has dummies.
fn run(name: &str, body: impl FnOnce(&Lab) + Send + 'static) {
    lab::run(name, |lab| {
        lab.needs_link_kind("dummy");
        lab.allow_state("service");
        body(lab);
    });
}

fn dummy(lab: &Lab, config: &Value, container: &Ns) -> PluginCall {
    lab.plugin("dummy").config(config).netns(container)
}

fn leases() -> usize {
    let files = fs::read_dir("/var/lib/cni/networks/service").into_iter().flatten().flatten();
    files.filter(|file| file.file_name().to_string_lossy().parse::<IpAddr>().is_ok()).count()
}

#[track_caller]
fn nothing_is_left(container: &Ns, what: &str) {
    assert_eq!(container.links().len(), 1, "{what}");
    assert_eq!(leases(), 0, "{what}");
    assert!(!fs::exists("/run/tenon/attach/service").expect("it can be looked for"), "{what}");
}

#[track_caller]
fn message(reply: Reply, code: u64) -> String {
    reply.err(code)["msg"].as_str().expect("a message").to_owned()
}

#[test]
fn a_kernel_without_dummies_is_told() {
    lab::run("dummy_unknown", |lab| {
        if lab.exec(&["ip", "link", "add", "try0", "type", "dummy"]).succeeded() {
            lab.exec(&["ip", "link", "del", "try0"]).ok();
            lab.skip("this kernel has dummies");
        }
        lab.allow_state("service");
        let c1 = lab.netns("c1");
        let call = dummy(lab, &network(json!({})), &c1);
        let why = "dummy: this kernel makes no links of kind dummy, nor has a module that does";
        assert_eq!(message(call.status(), 50), why);
        let said = message(call.add(), 999);
        assert!(said.starts_with(why) && said.contains("add dummy eth0: "), "{said}");
        nothing_is_left(&c1, "a refused ADD");
        call.del().ok();
    });
}

#[test]
fn addresses_are_there_at_once_and_go_without_a_trace() {
    run("dummy", |lab| {
        let c1 = lab.netns("c1");
        let config = network(json!({"dns": {"nameservers": ["192.0.2.53"]}}));
        let call = dummy(lab, &config, &c1);
        call.status().ok();
        let result = call.add().ok();
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(1));
        assert_eq!(result["interfaces"][0]["name"], "eth0");
        assert_eq!(result["interfaces"][0]["sandbox"], c1.path().to_str().expect("a path"));
        assert_eq!(result["ips"][1]["interface"], 0);
        assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.53"]));
        for address in ["10.1.0.2", "fd00:1::2"] {
            assert!(c1.pings(address.parse().expect("an address")), "{address}");
        }
        let route = c1.exec(&["ip", "route", "show", "192.0.2.0/24"]).ok();
        assert!(route.contains("mtu 1300") && route.contains("advmss 1200"), "{route}");
        assert_eq!(
            message(call.add(), 7),
            "dummy: CNI_IFNAME: eth0: the container has an interface of that name already"
        );
        let checked = call.clone().config(&with_result(config, &result));
        checked.check().ok();
        // The reference's CHECK does not look at routes.
        c1.exec(&["ip", "route", "del", "192.0.2.0/24"]).ok();
        assert_eq!(
            message(checked.check(), 999),
            "dummy: the route to 192.0.2.0/24 via 10.1.0.1 in table 254 is gone"
        );
        for _ in 0..2 {
            call.del().ok();
            nothing_is_left(&c1, "DEL");
        }
        // Another kind of link of that name is somebody else's.
        c1.exec(&["ip", "link", "add", "eth0", "type", "bridge"]).ok();
        call.del().ok();
        assert!(c1.has_link("eth0"));
        message(checked.check(), 999);
        c1.exec(&["ip", "link", "del", "eth0"]).ok();
    });
}

#[test]
fn every_version_has_its_words() {
    run("dummy_versions", |lab| {
        let c1 = lab.netns("c1");
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let config = network(json!({"cniVersion": version}));
            let call = dummy(lab, &config, &c1);
            let result = call.add().ok();
            assert_eq!(result["cniVersion"], version);
            if version < "0.3.0" {
                assert_eq!(result["ip6"]["gateway"], "fd00:1::1");
            } else {
                assert_eq!(result["ips"][0]["gateway"], "10.1.0.1");
                assert_eq!(result["interfaces"][0].get("mtu").is_some(), version == "1.1.0");
            }
            let config = with_result(config, &result);
            if version >= "0.4.0" {
                call.clone().config(&config).check().ok();
            }
            call.config(&config).del().ok();
            nothing_is_left(&c1, version);
        }
    });
}

#[test]
fn without_a_namespace_or_a_container() {
    run("dummy_gone", |lab| {
        let config = network(json!({}));
        let (c1, c2, c3) = (lab.netns("c1"), lab.netns("c2"), lab.netns("c3"));
        let call = lab.plugin("dummy").config(&config);
        let [one, two, three] = [("one", &c1), ("two", &c2), ("three", &c3)]
            .map(|(name, ns)| call.clone().container(name).netns(ns));
        for call in [&one, &two, &three] {
            call.add().ok();
        }
        // The reference only takes the interface when it is told the namespace.
        one.netns_path("").del().ok();
        assert!(!c1.has_link("eth0"));
        let path = c2.path().to_owned();
        lab.remove_netns(c2);
        two.del().ok();
        fs::write(&path, "").expect("a file in the namespace's place");
        two.del().ok();
        fs::remove_file(&path).expect("the file is there");
        assert_eq!(leases(), 2);
        let gc =
            |valid: Value| call.clone().config(&network(json!({"cni.dev/valid-attachments": valid}))).gc();
        gc(json!([{"containerID": "three", "ifname": "eth0"}])).ok();
        assert!(c3.has_link("eth0"));
        gc(Value::Null).ok();
        nothing_is_left(&c3, "GC");
    });
}

#[test]
fn what_can_not_be_is_refused_and_leaves_nothing() {
    run("dummy_refused", |lab| {
        let (c1, dir) = (lab.netns("c1"), lab.plugin_dir(&["dummy"], &[]));
        let calls = lab.empty_plugin(&dir);
        let empty = network(json!({"ipam": {"type": "empty"}}));
        let said = message(lab.peer(&dir, "dummy").config(&empty).netns(&c1).add(), 7);
        assert!(said.ends_with("gave no address"), "{said}");
        assert_eq!(fs::read_to_string(calls).expect("it was called"), "ADD\nDEL\n");
        let mut full = network(json!({}));
        full["ipam"]["ranges"][1] =
            json!([{"subnet": "10.2.0.0/30", "rangeStart": "10.2.0.1", "rangeEnd": "10.2.0.1"}]);
        let mut lost = network(json!({}));
        lost["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}]);
        for (config, code, expected) in [
            (network(json!({"ipam": null})), 7, "ipam: null: the interface is there for its addresses alone"),
            (
                network(json!({"ipam": {"type": "nope"}})),
                7,
                "ipam.type: \"nope\": no such plugin in CNI_PATH",
            ),
            (full, 999, "no IP addresses available in range set"),
            (lost, 999, "append route to 192.0.2.0/24 via 203.0.113.1"),
        ] {
            let said = message(dummy(lab, &config, &c1).add(), code);
            assert!(said.starts_with("dummy: ") && said.contains(expected), "{said}");
            nothing_is_left(&c1, expected);
        }
        message(dummy(lab, &network(json!({"ipam": null})), &c1).status(), 7);
    });
}

/// One address from the configuration: the fewer steps, the sooner each has been struck.
fn shortest(more: Value) -> Value {
    let mut config = network(more);
    config["ipam"] = json!({"type": "static", "addresses": [{"address": "10.1.0.2/32"}]});
    config
}

/// Every system call by which ADD changes or learns anything fails once.
#[test]
fn any_system_call_is_refused() {
    run("dummy_strike", |lab| {
        let c1 = lab.netns("c1");
        let call = dummy(lab, &shortest(json!({})), &c1);
        let mut failed = 0;
        let steps = strike_each(&call, "ADD", Fate::Refused(Errno::EPERM), |step, reply| {
            if reply.succeeded() {
                // It was nothing that the container needs.
                assert_eq!(c1.addresses("eth0")[0], "10.1.0.2/32", "{step}");
                call.del().ok();
            } else {
                failed += 1;
            }
            nothing_is_left(&c1, step);
        });
        assert!(steps > 15 && failed > 10, "{steps} steps, {failed} failures");
    });
}

/// Whatever comes next recovers: the next ADD, a DEL with and one without the namespace, GC.
#[test]
fn killed_at_any_step() {
    run("dummy_killed", |lab| {
        let c1 = lab.netns("c1");
        let call = dummy(lab, &shortest(json!({})), &c1);
        let gc = call.clone().config(&shortest(json!({"cni.dev/valid-attachments": []})));
        let mut turn = 0;
        let steps = strike_each(&call, "ADD", Fate::Killed, |step, _| {
            turn += 1;
            match turn % 4 {
                0 => drop(call.del().ok()),
                1 => drop(call.clone().netns_path("").del().ok()),
                2 => drop(gc.gc().ok()),
                _ => {
                    // When it had come to its end, only its answer is missing.
                    let reply = call.add();
                    let ended = step.ends_with("write") || step.ends_with("none");
                    assert!(reply.succeeded() || ended, "{step}: {reply}");
                    call.del().ok();
                }
            }
            nothing_is_left(&c1, step);
        });
        assert!(steps > 10, "{steps} steps: was it killed at all?");
        call.add().ok();
        let steps = strike_each(&call, "DEL", Fate::Killed, |step, _| {
            call.clone().netns_path("").del().ok();
            nothing_is_left(&c1, step);
            call.add().ok();
        });
        assert!(steps > 5, "{steps} steps: was it killed at all?");
        call.del().ok();
    });
}
