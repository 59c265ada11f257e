use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};
use testenv::{lab, wait};

use super::{assert_is_again, described, device, host, host_device, network, with_result};

#[test]
fn a_device_comes_back_as_it_was() {
    lab::run("host", |lab| {
        let wire = device(lab);
        wire.add_address("wire0", "10.1.0.99/16");
        let before = described(lab, "dev7");
        assert_eq!(before["addresses"][0]["mtu"], 1400);
        let (config, c1) = (network(json!({})), lab.netns("c1"));
        let call = host(lab, &config).netns(&c1);
        let result = call.add().ok();
        assert_eq!(
            result["interfaces"],
            json!([{"name": "eth0", "mac": "02:00:00:00:00:77", "mtu": 1400, "sandbox": c1.path()}])
        );
        assert_eq!(result["ips"][1]["interface"], 0);
        assert!(!lab.host().has_link("dev7"));
        assert_eq!(c1.addresses("eth0"), ["10.1.0.2/16", "fd00:1::2/64"]);
        assert!(c1.pings("10.1.0.99".parse().unwrap()));
        call.clone().config(&with_result(config, &result)).check().ok();
        // What a container may do to it.
        for command in ["link set eth0 mtu 1300", "link set eth0 down", "link set eth0 name lan0"] {
            c1.exec(&[&["ip"], &command.split(' ').collect::<Vec<_>>()[..]].concat()).ok();
        }
        c1.exec(&["ip", "link", "set", "lan0", "address", "02:00:00:00:00:78", "promisc", "on"]).ok();
        call.del().ok();
        assert_is_again(lab, &before);
        call.del().ok();
        assert_is_again(lab, &before);
    });
}

#[test]
fn a_device_comes_back_after_its_container_was_killed() {
    lab::run("host_killed", |lab| {
        let _wire = device(lab);
        let before = described(lab, "dev7");
        let c1 = lab.netns("c1");
        let process = lab.daemon(&c1, &["sleep", "1000"]);
        let call = host(lab, &network(json!({}))).netns(&c1);
        call.add().ok();
        // SIGKILL; the runtime's mount keeps the namespace.
        drop(process);
        call.del().ok();
        assert_is_again(lab, &before);
    });
}

/// As `default_device_exit_net` of the kernel does it for hardware: under the name that it had in the container, or any.
#[test]
fn a_device_that_the_kernel_moved_back_gets_its_name_again() {
    lab::run("host_moved_back", |lab| {
        let _wire = device(lab);
        let before = described(lab, "dev7");
        let ours = lab.host().path().display().to_string();
        for name in ["eth0", "dev12"] {
            let c1 = lab.netns("c1");
            let call = host(lab, &network(json!({}))).netns(&c1);
            call.add().ok();
            c1.exec(&["ip", "link", "set", "eth0", "netns", &ours, "name", name]).ok();
            lab.remove_netns(c1);
            assert!(lab.host().has_link(name) && !lab.host().has_link("dev7"));
            // plugins#995, plugins#1196: DEL without a namespace, with one that is gone, and again.
            call.del().ok();
            call.clone().netns_path("").del().ok();
            assert_is_again(lab, &before);
        }
    });
}

#[test]
fn a_virtual_device_ends_with_its_container() {
    lab::run("host_gone", |lab| {
        let wire = device(lab);
        let c1 = lab.netns("c1");
        let call = host(lab, &network(json!({}))).netns(&c1);
        call.add().ok();
        lab.remove_netns(c1);
        wait::wait_for("the namespace to end", Duration::from_secs(5), || {
            !lab.exec(&["ip", "-n", "wire", "link", "show", "wire0"]).succeeded()
        });
        lab.host().rebase();
        wire.rebase();
        call.del().ok();
        call.netns_path("").del().ok();
    });
}

#[test]
fn a_device_whose_name_was_taken_comes_back_under_another() {
    lab::run("host_taken", |lab| {
        let _wire = device(lab);
        let c1 = lab.netns("c1");
        let call = host(lab, &network(json!({}))).netns(&c1);
        call.add().ok();
        lab.host().add_bridge("dev7");
        lab.host().add_bridge("eth0");
        let reply = call.del();
        assert!(reply.succeeded() && reply.stderr.contains("another interface of that name"), "{reply}");
        assert!(!c1.has_link("eth0"));
        let back = lab.exec(&["ip", "-j", "link", "show", "a-second-name-of-the-device"]).ok();
        let back: Value = serde_json::from_str(&back).unwrap();
        let name = back[0]["ifname"].as_str().unwrap();
        assert_eq!((&back[0]["mtu"], &back[0]["ifalias"]), (&json!(1400), &json!("uplink")));
        assert_eq!(lab.host().addresses(name), ["10.7.0.1/24", "fd07::1/64"]);
        lab.host().remove_link("dev7");
        lab.host().remove_link("eth0");
        lab.exec(&["ip", "link", "set", name, "down"]).ok();
        lab.exec(&["ip", "link", "set", name, "name", "dev7"]).ok();
        lab.rebase();
    });
}

#[test]
fn a_device_that_was_down_and_a_port_is_that_again() {
    lab::run("host_port", |lab| {
        let _wire = device(lab);
        lab.host().add_bridge("br7");
        lab.exec(&["ip", "address", "flush", "dev", "dev7"]).ok();
        lab.host().set_master("dev7", "br7");
        lab.host().set_down("dev7");
        let before = described(lab, "dev7");
        assert_eq!(before["addresses"][0]["master"], "br7");
        lab.rebase();
        let c1 = lab.netns("c1");
        let call = host(lab, &network(json!({}))).netns(&c1);
        call.add().ok();
        call.del().ok();
        assert_is_again(lab, &before);
    });
}

/// The reference leaves the device moved when a later step fails.
#[test]
fn an_add_that_fails_leaves_the_device_where_it_was() {
    lab::run("host_failed", |lab| {
        let _wire = device(lab);
        let before = described(lab, "dev7");
        let c1 = lab.netns("c1");
        let mut unreachable = network(json!({}));
        unreachable["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}]);
        host(lab, &unreachable).netns(&c1).add().err(999);
        assert_is_again(lab, &before);
        assert_eq!(c1.links().len(), 1);
        let mut full = network(json!({}));
        full["ipam"]["ranges"] =
            json!([[{"subnet": "10.1.0.0/30", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"}]]);
        host(lab, &full).container("other").netns(&c1).ifname("eth1").add().ok();
        // Another container has the device, and keeps it.
        host(lab, &full).netns(&c1).add().err(7);
        host(lab, &full).container("other").netns(&c1).ifname("eth1").del().ok();
        assert_is_again(lab, &before);
    });
}

/// An interface that is there already is not touched, neither by ADD nor by the DEL that follows.
#[test]
fn an_interface_of_that_name_is_left_alone() {
    lab::run("host_busy", |lab| {
        let _wire = device(lab);
        let before = described(lab, "dev7");
        let c1 = lab.netns("c1");
        let call = host(lab, &network(json!({}))).netns(&c1);
        call.add().ok();
        lab.allow_state("other");
        lab.host().add_veth("dev8", &lab.netns("wire8"), "wire0");
        let second = host(lab, &network(json!({"name": "other", "device": "dev8"}))).netns(&c1);
        second.add().err(7);
        second.del().ok();
        assert!(c1.has_link("eth0") && lab.host().has_link("dev8"));
        assert_eq!(c1.addresses("eth0"), ["10.1.0.2/16", "fd00:1::2/64"]);
        call.del().ok();
        assert_is_again(lab, &before);
    });
}

#[test]
fn gc_gives_back_what_no_valid_attachment_has() {
    lab::run("host_gc", |lab| {
        let _wire = device(lab);
        let before = described(lab, "dev7");
        let c1 = lab.netns("c1");
        let config = network(json!({}));
        let call = host(lab, &config).netns(&c1);
        call.add().ok();
        let mut gc = config;
        gc["cni.dev/valid-attachments"] = json!([{"containerID": "c1", "ifname": "eth0"}]);
        host(lab, &gc).gc().ok();
        assert!(c1.has_link("eth0"));
        gc["cni.dev/valid-attachments"] = json!([]);
        host(lab, &gc).gc().ok();
        assert_is_again(lab, &before);
    });
}

#[test]
fn status_tells_of_a_device_that_is_gone_but_not_of_one_in_use() {
    lab::run("host_status", |lab| {
        let wire = device(lab);
        let c1 = lab.netns("c1");
        let call = host(lab, &network(json!({}))).netns(&c1);
        call.status().ok();
        call.add().ok();
        call.status().ok();
        call.del().ok();
        wire.remove_link("wire0");
        lab.rebase();
        call.status().err(50);
    });
}

#[test]
fn the_address_plugins_dns_is_kept() {
    lab::run("host_dns", |lab| {
        let _wire = device(lab);
        let c1 = lab.netns("c1");
        fs::write(lab.dir().join("resolv.conf"), "nameserver 192.0.2.53\n").unwrap();
        let mut config = network(json!({}));
        config["ipam"]["resolvConf"] = json!(lab.dir().join("resolv.conf"));
        for (dns, expected) in
            [(Value::Null, "192.0.2.53"), (json!({"nameservers": ["192.0.2.1"]}), "192.0.2.1")]
        {
            config["dns"] = dns;
            let call = host(lab, &config).netns(&c1);
            assert_eq!(call.add().ok()["dns"]["nameservers"][0], expected);
            call.del().ok();
        }
    });
}

#[test]
fn without_ipam_the_device_is_only_moved() {
    lab::run("host_l2", |lab| {
        let _wire = device(lab);
        let before = described(lab, "dev7");
        let c1 = lab.netns("c1");
        let config = network(json!({"ipam": {}, "device": "a-second-name-of-the-device"}));
        let call = host_device(lab, &config).netns(&c1);
        let result = call.add().ok();
        assert!(result["ips"].is_null() && c1.has_link("eth0"), "{result}");
        let mut config = with_result(config, &result);
        config["type"] = json!("host-device");
        call.clone().config(&config).check().ok();
        call.del().ok();
        assert_is_again(lab, &before);
    });
}

/// A node goes from the reference's plugin to ours and back, with containers running.
#[test]
fn either_suite_gives_back_what_the_other_took() {
    lab::run("host_interop", |lab| {
        let _wire = device(lab);
        lab.exec(&["ip", "link", "set", "dev7", "alias", ""]).ok();
        lab.rebase();
        let c1 = lab.netns("c1");
        let mut config = network(json!({"ipam": {}, "cniVersion": "1.0.0", "type": "host-device"}));
        config.as_object_mut().unwrap().remove("mode");
        let go = || lab.peer(Path::new("/usr/lib/cni"), "host-device").config(&config).netns(&c1);
        let ours = || host_device(lab, &config).netns(&c1);
        for (take, give) in [(go(), ours()), (ours(), go())] {
            take.add().ok();
            assert!(c1.has_link("eth0"));
            give.del().ok();
            assert!(lab.host().has_link("dev7") && c1.links().len() == 1);
            // The reference's plugin of some versions leaves its mark; the record of a take whose give was its goes now too.
            ours().del().ok();
            let back: Value =
                serde_json::from_str(&lab.exec(&["ip", "-j", "link", "show", "dev7"]).ok()).unwrap();
            assert_eq!(back[0].get("ifalias"), None);
        }
        lab.rebase();
    });
}

#[test]
fn killed_at_any_moment_the_device_is_given_back() {
    lab::run("host_crash", |lab| {
        lab.needs_program("strace", "strace");
        let _wire = device(lab);
        let before = described(lab, "dev7");
        let c1 = lab.netns("c1");
        let call = host(lab, &network(json!({}))).netns(&c1);
        for syscall in ["sendto", "openat", "rename"] {
            for nth in 1.. {
                let inject = format!("inject={syscall}:signal=KILL:when={nth}");
                let trace = format!("trace={syscall}");
                let killed = call.clone().through(&[
                    "strace",
                    "-f",
                    "-qq",
                    "-o",
                    "/dev/null",
                    "-e",
                    &trace,
                    "-e",
                    &inject,
                ]);
                if killed.add().succeeded() {
                    break;
                }
                call.del().ok();
                assert_is_again(lab, &before);
            }
            call.del().ok();
            assert_is_again(lab, &before);
        }
    });
}
