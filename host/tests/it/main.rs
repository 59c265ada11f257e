//! The host plugin as a runtime sees it: the real binary against the real kernel, in labs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bus;
mod device;
mod reference;
mod share;

use std::fs;

use serde_json::{Value, json};
use testenv::{lab::Lab, ns::Ns, plugin::PluginCall};

/// A network of mode `device`, with `more` over it.
fn network(more: Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.1.0",
        "name": "net",
        "type": "host",
        "mode": "device",
        "device": "dev7",
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "fd00:1::/64"}]],
            "routes": [{"dst": "192.0.2.0/24"}],
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

/// Gives the host a device `dev7`, with a namespace `wire` at its other end: two addresses, an alternative name, a route and
/// an MTU of its own.
fn device(lab: &Lab) -> Ns {
    let wire = lab.netns("wire");
    lab.host().add_veth("dev7", &wire, "wire0");
    wire.set_up("wire0");
    for command in [
        "link set dev7 mtu 1400 alias uplink address 02:00:00:00:00:77 addrgenmode eui64",
        "link property add dev dev7 altname a-second-name-of-the-device",
        "link set dev7 up",
        "address add 10.7.0.1/24 dev dev7",
        "address add fd07::1/64 dev dev7 nodad",
        "route add 10.99.0.0/16 via 10.7.0.254 dev dev7 metric 7",
        "route add fd99::/64 via fd07::254 dev dev7 table 99",
    ] {
        lab.exec(&[&["ip"], &command.split(' ').collect::<Vec<_>>()[..]].concat()).ok();
    }
    testenv::wait::wait_for("the device's own address", std::time::Duration::from_secs(5), || {
        !lab.exec(&["ip", "address", "show", "dev7", "tentative"]).ok().contains("inet6")
    });
    lab.rebase();
    wire
}

/// All that iproute2 knows of an interface of the host.
fn described(lab: &Lab, name: &str) -> Value {
    let ask = |words: &[&str]| -> Value {
        let said = lab.exec(&[&["ip", "-d", "-j"], words].concat()).ok();
        serde_json::from_str(if said.trim().is_empty() { "[]" } else { &said }).unwrap()
    };
    let mut addresses = ask(&["address", "show", "dev", name]);
    if addresses[0]["operstate"] == "DOWN" {
        // The queue of an interface that was up once differs from that of one that was not.
        addresses[0].as_object_mut().unwrap().remove("qdisc");
    }
    json!({
        "addresses": addresses,
        "v4": ask(&["route", "show", "table", "all", "dev", name]),
        "v6": ask(&["-6", "route", "show", "table", "all", "dev", name]),
    })
}

/// The device is again what it was; the kernel makes sure of IPv6 addresses for a second.
#[track_caller]
fn assert_is_again(lab: &Lab, before: &Value) {
    let same = testenv::wait::poll(std::time::Duration::from_secs(5), || {
        (described(lab, "dev7") == *before).then_some(())
    });
    if same.is_none() {
        assert_eq!(described(lab, "dev7"), *before);
    }
}

/// A call of the plugin in a lab where the allocator's notes may stay.
fn host(lab: &Lab, config: &Value) -> PluginCall {
    lab.allow_state("net");
    lab.plugin("host").config(config)
}

/// The same under its other name, from a directory with the address plugins.
fn host_device(lab: &Lab, config: &Value) -> PluginCall {
    lab.allow_state("net");
    let dir = lab.plugin_dir(&["host", "host-local", "static"], &[]);
    fs::copy(dir.join("host"), dir.join("host-device")).unwrap();
    let mut config = config.clone();
    config["type"] = json!("host-device");
    config.as_object_mut().unwrap().remove("mode");
    lab.peer(&dir, "host-device").config(&config)
}
