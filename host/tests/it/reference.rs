//! What the reference's host-device gets wrong, each once. Others of its mistakes are where the matter is tested: DEL of what is
//! gone, the address plugin's DNS.

use std::fs;

use serde_json::json;
use testenv::lab;

use super::{assert_is_again, described, device, host, network};

/// plugins#1196: it returns before the address plugin is told.
#[test]
fn del_without_a_namespace_gives_the_lease_back_too() {
    lab::run("host_empty_netns", |lab| {
        let _wire = device(lab);
        let before = described(lab, "dev7");
        let c1 = lab.netns("c1");
        let call = host(lab, &network(json!({}))).netns(&c1);
        call.add().ok();
        let leases = || fs::read_dir("/var/lib/cni/networks/net").unwrap().flatten();
        let of_ours =
            || leases().filter(|file| file.file_name().to_string_lossy().contains("10.1.0.2")).count();
        assert_eq!(of_ours(), 1);
        call.netns_path("").del().ok();
        assert_eq!(of_ours(), 0);
        assert_is_again(lab, &before);
    });
}

/// It leaves the device in the container, and the lease taken.
#[test]
fn an_address_plugin_that_gives_nothing_gets_a_del_and_the_host_its_device() {
    lab::run("host_empty_ipam", |lab| {
        let _wire = device(lab);
        let before = described(lab, "dev7");
        let (c1, dir) = (lab.netns("c1"), lab.plugin_dir(&["host"], &[]));
        lab.allow_state("net");
        let calls = lab.empty_plugin(&dir);
        let config = network(json!({"ipam": {"type": "empty"}}));
        lab.peer(&dir, "host").config(&config).netns(&c1).add().err(7);
        assert_eq!(fs::read_to_string(calls).unwrap(), "ADD\nDEL\n");
        assert_is_again(lab, &before);
    });
}
