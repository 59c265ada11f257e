//! The tap plugin as a runtime sees it: the real binary against the real kernel, in labs.

mod machine;
mod queue;
mod reference;
mod undo;

use std::{fs::File, net::IpAddr};

use kernel::tun;
use serde_json::{Value, json};
use testenv::{
    lab::{self, Lab},
    ns::Ns,
    plugin::PluginCall,
};

/// A network with addresses of both families, with `more` over it.
fn network(more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0",
        "name": "machines",
        "type": "tap",
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.24.0.0/24", "rangeEnd": "10.24.0.99"}], [{"subnet": "fd00:24::/64"}]],
            "routes": [{"dst": "192.0.2.0/24", "gw": "10.24.0.254"}, {"dst": "2001:db8::/32", "gw": "fd00:24:0:0:f::254"}],
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

/// A lab in which taps can be made.
fn run(name: &str, body: impl FnOnce(&Lab) + Send + 'static) {
    lab::run(name, |lab| {
        if let Err(cause) = File::options().read(true).write(true).open(tun::DEVICE) {
            lab.skip(&format!("needs {}: {cause}", tun::DEVICE));
        }
        lab.allow_state("machines");
        body(lab);
    });
}

fn tap(lab: &Lab, config: &Value) -> PluginCall {
    lab.plugin("tap").config(config)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The words of an error.
#[track_caller]
fn message(error: &Value) -> &str {
    error["msg"].as_str().expect("a message")
}

/// The container's interface as iproute2 knows it.
#[track_caller]
fn link(container: &Ns) -> Value {
    let said = container.exec(&["ip", "-d", "-j", "link", "show", "eth0"]).ok();
    serde_json::from_str::<Value>(&said).expect("JSON")[0].clone()
}

#[test]
fn every_version_and_every_mac() {
    run("tap_versions", |lab| {
        let c1 = lab.netns("c1");
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let call = tap(lab, &network(json!({"cniVersion": version}))).netns(&c1);
            let result = call.add().ok();
            assert_eq!(result["cniVersion"], version);
            let ip4 = result["ip4"]["ip"].as_str().or_else(|| result["ips"][0]["address"].as_str());
            assert!(ip4.is_some_and(|ip| ip.starts_with("10.24.0.")), "{result}");
            call.del().ok();
        }
        let mac = |call: &PluginCall| {
            let result = call.add().ok();
            let shown = link(&c1)["address"].clone();
            assert_eq!(result["interfaces"][0]["mac"], shown);
            call.del().ok();
            shown
        };
        let call = tap(lab, &network(json!({}))).netns(&c1);
        assert_eq!(mac(&call), mac(&call), "the same attachment has the same address");
        let call = call.config(&network(json!({"mac": "02:00:00:00:00:01"})));
        assert_eq!(mac(&call), "02:00:00:00:00:01");
        let call = call.args("MAC=02:00:00:00:00:02");
        assert_eq!(mac(&call), "02:00:00:00:00:02");
        let runtime = network(json!({"runtimeConfig": {"mac": "02:00:00:00:00:03"}}));
        assert_eq!(mac(&call.config(&runtime)), "02:00:00:00:00:03");
    });
}

#[test]
fn gc_removes_what_is_not_valid_and_status_judges() {
    run("tap_gc", |lab| {
        let config = network(json!({}));
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let call = tap(lab, &config);
        let (one, two) = (call.clone().container("one").netns(&c1), call.clone().container("two").netns(&c2));
        one.add().ok();
        two.add().ok();
        let valid = json!([{"containerID": "one", "ifname": "eth0"}]);
        call.clone().config(&network(json!({"cni.dev/valid-attachments": valid}))).gc().ok();
        assert!(c1.has_link("eth0") && !c2.has_link("eth0"));
        call.clone().config(&network(json!({"cni.dev/valid-attachments": null}))).gc().ok();
        assert!(!c1.has_link("eth0"));
        call.status().ok();
        call.clone().config(&network(json!({"mtu": 70_000}))).status().err(7);
        let mut unknown = network(json!({}));
        unknown["ipam"]["type"] = json!("nope");
        call.config(&unknown).status().err(7);
    });
}

#[test]
fn a_label_of_selinux_needs_selinux() {
    run("tap_label", |lab| {
        let known = std::fs::read_to_string("/proc/filesystems").expect("a list");
        if known.contains("selinuxfs") {
            lab.skip("this kernel runs SELinux, and what its policy knows is not known here");
        }
        let c1 = lab.netns("c1");
        let label = "system_u:system_r:container_t:s0";
        let call = tap(lab, &network(json!({"selinuxContext": label}))).netns(&c1);
        let why = format!("tap: selinuxContext: {label:?}: this kernel does not run SELinux");
        assert_eq!(message(&call.add().err(2)), why);
        assert!(!c1.has_link("eth0"));
        call.status().err(50);
        // What the plugin starts under the label, without one.
        let order = json!({"name": "eth0", "multi_queue": true, "owner": 1212, "group": 3434}).to_string();
        let plugin = testenv::plugin::built().join("tap").display().to_string();
        c1.exec(&[&plugin, "make-tap", &order]).ok();
        let made = &link(&c1)["linkinfo"]["info_data"];
        assert_eq!((&made["type"], &made["multi_queue"]), (&json!("tap"), &json!(true)), "{made}");
        assert_eq!((&made["user"], &made["group"]), (&json!(1212), &json!(3434)), "{made}");
        let again = c1.exec(&[&plugin, "make-tap", &order]);
        assert_eq!(again.stderr, "add tap eth0: Device or resource busy (os error 16)\n");
        assert!(!again.succeeded());
        // No record: as what another suite's plugin made.
        call.config(&network(json!({}))).del().ok();
        assert!(!c1.has_link("eth0"));
    });
}
