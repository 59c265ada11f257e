//! DEL, whatever is left of the container, the configuration and the record. Each time everything is released.

use std::fs;

use serde_json::{Value, json};
use testenv::{lab::Lab, plugin::PluginCall};

use crate::net::{Container, attach, everything, leases, message, run, with_result};

/// Attaches, lets `damage` do what it does to the scene and make a call of what is left, and DELs twice.
fn after(name: &'static str, damage: impl Fn(&Lab, &Container) -> PluginCall + Send + 'static) {
    run(name, move |lab| {
        let one = attach(lab, &everything(), "one");
        let call = damage(lab, &one);
        call.del().ok();
        assert!(leases("net").is_empty());
        assert!(!lab.host().has_link(&one.host_end()));
        crate::net::assert_nothing_of_ours_is_left(lab);
        call.del().ok();
        if one.ns.path().exists() {
            one.ns.rebase();
        }
    });
}

#[test]
fn as_it_should_be() {
    after("del", |_, one| one.del_call());
}

/// The reference leaves masquerading and spoof check here (plugins#810).
#[test]
fn without_a_namespace() {
    after("del_no_netns", |_, one| one.del_call().netns_path(""));
}

#[test]
fn without_a_namespace_and_result_as_a_second_del_comes() {
    after("del_bare", |_, one| one.call.clone().netns_path(""));
}

#[test]
fn with_a_namespace_that_is_gone() {
    run("del_gone", |lab| {
        let Container { ns, call, config, result } = attach(lab, &everything(), "one");
        lab.remove_netns(ns);
        let call = call.config(&with_result(config, &result));
        call.del().ok();
        call.del().ok();
    });
}

/// CRI-O's tests put a plain file there.
#[test]
fn with_a_plain_file_for_a_namespace() {
    after("del_plain_file", |lab, one| {
        let file = lab.dir().join("plain");
        fs::write(&file, "").unwrap();
        one.del_call().netns_path(file.to_str().unwrap())
    });
}

#[test]
fn with_the_interface_gone() {
    after("del_interface_gone", |_, one| {
        one.ns.exec(&["ip", "link", "del", "eth0"]).ok();
        one.del_call()
    });
}

#[test]
fn with_another_interface_in_its_place() {
    run("del_replaced", |lab| {
        let one = attach(lab, &everything(), "one");
        one.ns.exec(&["ip", "link", "set", "eth0", "down", "name", "moved"]).ok();
        lab.netns("other").add_veth("peer", &one.ns, "eth0");
        one.detach();
        assert_eq!(one.ns.links(), ["eth0", "lo"].map(String::from).into());
        one.ns.rebase();
    });
}

#[test]
fn with_the_bridge_gone() {
    after("del_bridge_gone", |lab, one| {
        lab.exec(&["ip", "link", "del", "cni0"]).ok();
        one.del_call()
    });
}

/// The reference's host-local wants valid ranges, which the runtime need not repeat (capability ipRanges).
#[test]
fn without_ranges() {
    after("del_no_ranges", |_, one| {
        let mut config = with_result(one.config.clone(), &one.result);
        config["ipam"] = json!({"type": "host-local"});
        one.call.clone().config(&config)
    });
}

#[test]
fn with_a_configuration_that_is_invalid_by_now() {
    after("del_invalid", |_, one| {
        let mut config = one.config.clone();
        config["mtu"] = json!("large");
        config["vlan"] = json!(5000);
        one.call.clone().config(&config).args("nonsense")
    });
}

#[test]
fn without_the_record() {
    after("del_no_record", |_, one| {
        fs::remove_dir_all("/run/tenon/attach/net").unwrap();
        one.del_call()
    });
}

#[test]
fn without_the_record_and_the_result() {
    after("del_no_record_no_result", |_, one| {
        fs::remove_dir_all("/run/tenon/attach/net").unwrap();
        one.call.clone().netns_path("")
    });
}

#[test]
fn without_the_record_and_the_interface() {
    after("del_no_record_no_link", |_, one| {
        fs::remove_dir_all("/run/tenon/attach/net").unwrap();
        one.ns.exec(&["ip", "link", "del", "eth0"]).ok();
        one.del_call().netns_path("")
    });
}

#[test]
fn with_a_torn_record() {
    after("del_torn", |_, one| {
        for entry in fs::read_dir("/run/tenon/attach/net/bridge").unwrap() {
            fs::write(entry.unwrap().path(), "{\"attach").unwrap();
        }
        one.del_call()
    });
}

/// Nothing in the runtime's own namespace is taken for the container's, and the rest is released all the same.
#[test]
fn in_the_runtimes_own_namespace() {
    run("del_own_netns", |lab| {
        lab.netns("other").add_veth("peer", lab.host(), "eth0");
        let one = attach(lab, &everything(), "one");
        let own = lab.host().path().to_str().unwrap();
        let error = one.del_call().netns_path(own).del().err(8);
        assert!(message(&error).contains("is the plugin's own network namespace"), "{error}");
        assert!(lab.host().has_link("eth0"));
    });
}

#[test]
fn of_what_was_never_attached() {
    run("del_never", |lab| {
        let ns = lab.netns("one");
        let call = lab.plugin("bridge").config(&everything()).container("one").netns(&ns);
        call.del().ok();
        call.netns_path("").del().ok();
    });
}

/// What one DEL can't do it tells, does the rest, and keeps the record, so that the next can do it.
#[test]
fn past_an_error() {
    run("del_error", |lab| {
        let one = attach(lab, &everything(), "one");
        let mut config: Value = one.config.clone();
        config["ipam"]["type"] = json!("nosuch");
        let error = one.call.clone().config(&config).del().err(7);
        assert!(message(&error).contains("ipam.type: \"nosuch\""), "{error}");
        assert!(!one.ns.has_link("eth0") && crate::net::elements(lab).is_empty());
        assert_eq!(leases("net").len(), 2);
        one.detach();
    });
}
