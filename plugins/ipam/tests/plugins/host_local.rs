//! Each verb of `host-local`.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};
use testenv::plugin::Running;

use crate::scene::{NETWORK, addresses, config, leases, ours, run, theirs};

#[test]
fn add_answers_as_the_reference() {
    run("add_answers_as_the_reference", |lab| {
        let resolv = lab.dir().join("resolv.conf");
        fs::write(&resolv, "nameserver 192.0.2.3\nsearch a.example b.example\noptions ndots:5\n").unwrap();
        let ipam = json!({
            "type": "host-local",
            "resolvConf": resolv,
            "ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "10.2.2.0/24"}], [{"subnet": "2001:db8:1::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.168.0.0/16", "gw": "1.1.1.1"}],
        });
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let config = json!({"cniVersion": version, "name": "net", "type": "bridge", "ipam": ipam});
            let theirs = theirs(lab, &config).config(&config).container("theirs");
            let expected = theirs.add().ok();
            theirs.del().ok();
            // Round robin is the one thing that differs.
            fs::remove_dir_all(NETWORK).unwrap();
            let ours = ours(lab, &config).container("ours");
            assert_eq!(ours.add().ok(), expected, "{version}");
            assert_eq!(leases()["2001:db8:1::2"], "ours eth0");
            ours.del().ok();
            fs::remove_dir_all(NETWORK).unwrap();
        }
    });
}

#[test]
fn small_subnets() {
    run("small_subnets", |lab| {
        // RFC 3021: both are hosts; named, one is the other end.
        let config = config(&["10.0.0.0/31"]);
        let call = ours(lab, &config);
        let first = call.add().ok();
        assert_eq!(first["ips"], json!([{"address": "10.0.0.0/31"}]));
        assert_eq!(addresses(&call.clone().container("c2").add().ok()), ["10.0.0.1"]);
        call.clone().container("c3").add().err(999);
        call.del().ok();
        call.container("c2").del().ok();
        let mut config = config;
        config["ipam"]["ranges"][0][0]["gateway"] = json!("10.0.0.0");
        let call = ours(lab, &config);
        assert_eq!(call.add().ok()["ips"], json!([{"address": "10.0.0.1/31", "gateway": "10.0.0.0"}]));
        call.clone().container("c2").add().err(999);
        call.del().ok();
    });
}

#[test]
fn requested_addresses_land_in_their_sets() {
    run("requested_addresses_land_in_their_sets", |lab| {
        let mut config = config(&["10.1.0.0/24", "10.2.0.0/24", "fd00::/64"]);
        config["args"] = json!({"cni": {"ips": ["fd00::9/64"]}});
        config["runtimeConfig"] = json!({"ips": ["10.1.0.9"]});
        let call = ours(lab, &config).args("IP=10.2.0.9/24");
        // In the reference the order decides, and that is a map's.
        assert_eq!(addresses(&call.add().ok()), ["10.1.0.9", "10.2.0.9", "fd00::9"]);
        let error = call.clone().container("c2").add().err(999);
        let taken = "host-local: requested IP address 10.1.0.9 is not available in range set 10.1.0.1-10.1.0.254: container c1 holds it";
        assert_eq!(error["msg"], taken);
        for (ip, why) in [
            (
                "10.2.0.9,10.2.0.10",
                "requested addresses 10.2.0.9 and 10.2.0.10 are both of range set 1, and a set gives one address",
            ),
            ("10.2.0.1", "requested address 10.2.0.1 is a gateway"),
        ] {
            let error = call.clone().container("c2").args(&format!("IP={ip}")).add().err(999);
            assert_eq!(error["msg"], format!("host-local: failed to allocate all requested IPs: {why}"));
        }
        assert_eq!(leases().len(), 3);
        call.del().ok();
    });
}

#[test]
fn the_capability_s_ranges_come_first_and_del_does_not_need_them() {
    run("the_capability_s_ranges_come_first_and_del_does_not_need_them", |lab| {
        let mut with = config(&["10.1.0.0/24"]);
        with["runtimeConfig"] = json!({"ipRanges": [[{"subnet": "10.9.0.0/24"}]]});
        assert_eq!(addresses(&ours(lab, &with).add().ok()), ["10.9.0.2", "10.1.0.2"]);
        ours(lab, &config(&[])).del().ok();
        assert!(leases().is_empty());
        let mut broken = config(&["10.1.0.0/24"]);
        ours(lab, &broken).add().ok();
        broken["ipam"]["ranges"] = json!("nonsense");
        ours(lab, &broken).netns_path("").args("no pair").del().ok();
        assert!(leases().is_empty());
        ours(lab, &broken).add().err(7);
        ours(lab, &config(&[])).add().err(7);
    });
}

#[test]
fn del_of_nothing_makes_nothing() {
    run("del_of_nothing_makes_nothing", |lab| {
        let call = ours(lab, &config(&["10.1.0.0/24"]));
        call.del().ok();
        call.gc().ok();
        call.status().ok();
        for path in ["/var/lib/cni/networks", "/run/tenon"] {
            assert!(!Path::new(path).exists(), "{path}");
        }
    });
}

#[test]
fn data_dir_and_interfaces_and_networks_are_apart() {
    run("data_dir_and_interfaces_and_networks_are_apart", |lab| {
        let mut config = config(&["10.1.0.0/24"]);
        config["ipam"]["dataDir"] = json!(lab.dir().join("data"));
        let call = ours(lab, &config);
        call.add().ok();
        assert_eq!(addresses(&call.clone().ifname("eth1").add().ok()), ["10.1.0.3"]);
        assert!(call.add().err(999)["msg"].as_str().unwrap().contains("duplicate allocation"));
        let mut other = config.clone();
        other["name"] = json!("other");
        ours(lab, &other).add().ok();
        let gc = |config: &Value, valid: Value| {
            let mut config = config.clone();
            config["cni.dev/valid-attachments"] = valid;
            ours(lab, &config).gc().ok();
        };
        gc(&config, json!([{"containerID": "c1", "ifname": "eth1"}]));
        let left = |path: &str| lab.dir().join("data").join(path).exists();
        assert!(!left("net/10.1.0.2") && left("net/10.1.0.3") && left("other/10.1.0.2"));
        ours(lab, &config).gc().ok();
        assert!(left("net/10.1.0.3"), "GC without the key does nothing");
        gc(&config, json!(null));
        assert!(!left("net/10.1.0.3") && left("other/10.1.0.2"));
        ours(lab, &other).del().ok();
    });
}

#[test]
fn check_wants_exactly_what_add_gave() {
    run("check_wants_exactly_what_add_gave", |lab| {
        let subnets = ["10.1.0.0/24", "fd00::/64"];
        let result = ours(lab, &config(&subnets)).add().ok();
        let check = |prev_result: Value| {
            let mut config = config(&subnets);
            config["prevResult"] = prev_result;
            ours(lab, &config).check()
        };
        check(result.clone()).ok();
        // Another plugin's address in the final result is none of ours.
        let mut more = result.clone();
        more["ips"].as_array_mut().unwrap().push(json!({"address": "192.0.2.1/24"}));
        check(more).ok();
        let mut other = result.clone();
        other["ips"][0]["address"] = json!("10.1.0.77/24");
        check(other).err(999);
        let mut fewer = result.clone();
        fewer["ips"].as_array_mut().unwrap().pop();
        check(fewer).err(999);
        // Lost, or someone else's by now.
        fs::remove_file(format!("{NETWORK}/fd00::2")).unwrap();
        check(result.clone()).err(999);
        fs::write(format!("{NETWORK}/fd00::2"), "c2\r\neth0").unwrap();
        check(result).err(999);
        ours(lab, &config(&subnets)).del().ok();
        ours(lab, &config(&subnets)).container("c2").del().ok();
    });
}

#[test]
fn status_says_which_set_is_exhausted() {
    run("status_says_which_set_is_exhausted", |lab| {
        let subnets = ["10.1.0.0/24", "10.2.0.0/30"];
        let call = ours(lab, &config(&subnets));
        call.status().ok();
        call.add().ok();
        let error = call.status().err(50);
        assert_eq!(
            error["msg"],
            "host-local: range set 1: no IP addresses available in range set: 10.2.0.1-10.2.0.2"
        );
        assert_eq!(leases().len(), 2, "asking takes nothing");
        let error = call.clone().container("c2").add().err(999);
        assert_eq!(
            error["msg"],
            "host-local: range set 1: no IP addresses available in range set: 10.2.0.1-10.2.0.2"
        );
        call.del().ok();
        call.status().ok();
        // Ranges that come with each ADD are none of STATUS's business.
        ours(lab, &config(&[])).status().ok();
        ours(lab, &config(&["10.1.0.1/24"])).status().err(7);
    });
}

#[test]
fn a_hundred_processes_at_once() {
    run("a_hundred_processes_at_once", |lab| {
        let call = |number: usize| ours(lab, &config(&["10.1.0.0/24"])).container(&format!("c{number}"));
        let running: Vec<_> = (0..100).map(|number| call(number).start("ADD")).collect();
        let given: BTreeSet<_> =
            running.into_iter().flat_map(|running| addresses(&running.wait().ok())).collect();
        assert_eq!(given.len(), 100);
        assert_eq!(leases().into_keys().collect::<BTreeSet<_>>(), given);
        let running: Vec<Running> = (0..100).map(|number| call(number).start("DEL")).collect();
        for running in running {
            running.wait().ok();
        }
        assert!(leases().is_empty());
    });
}

#[test]
fn an_earlier_boot_s_leases_are_reclaimed() {
    run("an_earlier_boot_s_leases_are_reclaimed", |lab| {
        reboot_frees(lab, "tmpfs");
    });
}

/// Where the file system keeps no extended attributes, the mark is beside the lease.
#[test]
fn an_earlier_boot_s_leases_are_reclaimed_without_attributes() {
    run("an_earlier_boot_s_leases_are_reclaimed_without_attributes", |lab| {
        lab.exec(&["mount", "-t", "tmpfs", "state", "/var/lib"]).ok();
        fs::create_dir_all("/var/lib/cni").unwrap();
        reboot_frees(lab, "ramfs");
        assert!(fs::read_dir("/var/lib/tenon/ipam").unwrap().next().is_none(), "a mark without its lease");
    });
}

/// Leases on a file system of this type, one of ours from another boot among them.
fn reboot_frees(lab: &testenv::lab::Lab, file_system: &str) {
    let data = lab.dir().join("data");
    fs::create_dir(&data).unwrap();
    // mount(8) keeps notes.
    lab.allow("dir /run/mount");
    lab.exec(&["mount", "-t", file_system, "data", data.to_str().unwrap()]).ok();
    let mut config = config(&["10.1.0.0/24"]);
    config["ipam"]["dataDir"] = json!(data);
    ours(lab, &config).container("past").add().ok();
    ours(lab, &config).container("other-host").add().ok();
    let network = data.join("net");
    let [past, other] = ["10.1.0.2", "10.1.0.3"].map(|address| network.join(address));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    remark(&past, |mark| mark.replace(boot.trim(), "6f9b7c3e-0000-4000-8000-000000000000"));
    remark(&other, |mark| format!("fedcba987654{}", &mark[12..]).replace(boot.trim(), "another"));
    fs::write(network.join("10.1.0.4"), "go\r\neth0").unwrap();
    // The index goes with the boot.
    fs::remove_dir_all("/run/tenon").unwrap();
    let next = ours(lab, &config).container("next");
    assert_eq!(addresses(&next.add().ok()), ["10.1.0.5"]);
    assert!(!past.exists(), "its container is gone");
    assert!(other.exists() && network.join("10.1.0.4").exists(), "not ours to judge");
    for container in ["past", "next", "go", "other-host"] {
        ours(lab, &config).container(container).del().ok();
    }
    assert!(!other.exists());
    lab.exec(&["umount", data.to_str().unwrap()]).ok();
}

/// Changes the mark of a lease, wherever it is.
fn remark(lease: &Path, change: impl Fn(&str) -> String) {
    let attribute = "user.tenon.boot";
    let mut value = [0; 128];
    if let Ok(length) = rustix::fs::getxattr(lease, attribute, &mut value) {
        let mark = change(std::str::from_utf8(&value[..length]).unwrap());
        rustix::fs::setxattr(lease, attribute, mark.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
        return;
    }
    let network = fs::read_dir("/var/lib/tenon/ipam").unwrap().next().unwrap().unwrap().path();
    let beside = network.join(lease.file_name().unwrap());
    let mark = change(&fs::read_to_string(&beside).unwrap());
    fs::write(beside, mark).unwrap();
}
