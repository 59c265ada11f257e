//! Real plugins in real namespaces: the Go ones, ours, and both in one chain.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use testenv::{
    lab::{self, Lab},
    plugin::built,
};

use crate::scene::Scene;

/// Where Debian puts the Go plugins.
const GO: &str = "/usr/lib/cni";

fn bridged(version: &str) -> Value {
    json!({"name": "ovl", "cniVersion": version, "plugins": [
        {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
        }, "capabilities": {"ips": true}},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}},
    ]})
}

/// A scene with plugins from `dirs`; skips the test where one of `needed` is in none of them.
fn scene(lab: &Lab, dirs: &[&Path], needed: &[&str]) -> Scene {
    for name in needed {
        if !dirs.iter().any(|dir| dir.join(name).is_file()) {
            lab.skip(&format!("needs the plugin {name} in {dirs:?}"));
        }
    }
    Scene::of(lab, &dirs.iter().map(|dir| dir.to_path_buf()).collect::<Vec<PathBuf>>())
}

/// What any bridge leaves by design, and host-local's directory.
fn allow_by_design(lab: &Lab) {
    lab.allow_bridge("cni0");
    for file in ["networks", "last_reserved_ip.0", "lock", "/run/tenon", "/run/cni"] {
        lab.allow(file);
    }
}

/// ADD, CHECK, GC that finds nothing, DEL, and DEL again.
fn life_of_an_attachment(lab: &Lab, scene: &Scene, version: &str) {
    allow_by_design(lab);
    let blue = lab.netns("blue");
    scene.conf("10-ovl.conflist", &bridged(version));
    let said = scene.netctl("exec add ovl netns:blue").ok();
    let result = said.json();
    assert_eq!(
        (&result["cniVersion"], &result["ips"][0]["address"]),
        (&json!(version), &json!("10.9.0.2/24"))
    );
    assert_eq!(result["interfaces"][2]["sandbox"], "/run/netns/blue");
    let lines: Vec<_> = said.stderr.lines().filter(|line| line.starts_with('✓')).collect();
    assert!(lines[0].contains(" ↔ eth0, 10.9.0.2/24"), "{said:#?}");
    assert!(lines[1].starts_with("✓ tuning  ADD "), "{said:#?}");
    assert_eq!(blue.addresses("eth0").first().map(String::as_str), Some("10.9.0.2/24"));
    assert_eq!(blue.sysctl("net.ipv4.conf.eth0.arp_filter"), "1");

    scene.netctl("exec check ovl blue").ok();
    let status = scene.netctl("exec status ovl").ok();
    assert_eq!(status.stdout, "");
    assert_eq!(scene.netctl("exec gc ovl").ok().stdout, "would remove 0 of 1 attachments\n");

    let said = scene.netctl("exec del ovl blue").ok();
    assert_eq!(said.stdout, "");
    assert!(!blue.has_link("eth0"));
    assert!(scene.results().is_empty());
    scene.netctl("exec del ovl blue").ok();
    assert!(leases().is_empty(), "{:?}", leases());
}

fn leases() -> Vec<String> {
    let names = crate::scene::names(Path::new("/var/lib/cni/networks/ovl"));
    names.into_iter().filter(|name| name != "lock" && !name.starts_with("last_reserved_ip")).collect()
}

#[test]
fn go_plugins_in_a_chain() {
    lab::run("go_plugins_in_a_chain", |lab| {
        let scene = scene(lab, &[Path::new(GO)], &["bridge", "host-local", "tuning"]);
        life_of_an_attachment(lab, &scene, "0.4.0");
    });
}

#[test]
fn our_plugins_before_a_go_one() {
    lab::run("our_plugins_before_a_go_one", |lab| {
        let built = built();
        let scene = scene(lab, &[&built, Path::new(GO)], &["bridge", "host-local", "tuning"]);
        life_of_an_attachment(lab, &scene, "1.0.0");
    });
}

#[test]
fn a_chain_that_fails_leaves_nothing() {
    lab::run("a_chain_that_fails_leaves_nothing", |lab| {
        let scene = scene(lab, &[Path::new(GO)], &["bridge", "host-local", "tuning"]);
        allow_by_design(lab);
        let blue = lab.netns("blue");
        let mut conf = bridged("0.4.0");
        conf["plugins"][1]["sysctl"] = json!({"net.ipv4.conf.eth0.no_such_thing": "1"});
        scene.conf("10-ovl.conflist", &conf);
        let said = scene.netctl("exec add ovl blue");
        assert!(said.stderr.contains("✓ bridge  DEL"), "{said:#?}");
        said.failed(999);
        assert!(!blue.has_link("eth0"));
        assert!(leases().is_empty() && scene.results().is_empty());
    });
}

#[test]
fn gc_takes_a_dead_containers_address_back() {
    lab::run("gc_takes_a_dead_containers_address_back", |lab| {
        let built = built();
        let scene = scene(lab, &[&built], &["bridge", "host-local"]);
        allow_by_design(lab);
        let mut conf = bridged("1.1.0");
        conf["plugins"].as_array_mut().unwrap().pop();
        scene.conf("10-ovl.conflist", &conf);
        let (live, dead, lost) = (lab.netns("live"), lab.netns("dead"), lab.netns("lost"));
        for name in ["live", "dead", "lost"] {
            scene.netctl(&format!("exec add ovl {name} --container-id {name}")).ok();
        }
        assert_eq!(leases().len(), 3);
        lab.remove_netns(dead);
        lab.remove_netns(lost);
        // One container even the cache has forgotten: only the plugins' GC can know.
        fs::remove_file(scene.root.join("results/ovl-lost-eth0")).unwrap();
        let said = scene.netctl("exec gc ovl --yes").ok();
        assert_eq!(said.stdout, "removed 1 of 2 attachments: ovl-dead-eth0 (netns gone)\n");
        assert_eq!(leases(), ["10.9.0.2"]);
        assert!(live.has_link("eth0"));
        scene.netctl("exec del ovl live").ok();
        assert!(leases().is_empty());
    });
}

#[test]
fn the_lab_is_the_default_place() {
    lab::run("the_lab_is_the_default_place", |lab| {
        if !Path::new(GO).join("loopback").is_file() {
            lab.skip("needs the Go plugin loopback");
        }
        let _blue = lab.netns("blue");
        fs::create_dir_all("/etc/cni/net.d").unwrap();
        fs::write(
            "/etc/cni/net.d/99-lo.conf",
            r#"{"name": "lo", "cniVersion": "0.3.1", "type": "loopback"}"#,
        )
        .unwrap();
        let netctl = |verb: &str| {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_netctl"))
                .args(["exec", verb, "lo", "blue", "-i", "lo"])
                .env_remove("NETCONFPATH")
                .env("CNI_PATH", GO)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        // Below 1.0.0 libcni prints in the order of its structs.
        let printed = netctl("add");
        assert!(
            printed.starts_with("{\n    \"cniVersion\": \"0.3.1\",\n    \"interfaces\": [\n"),
            "{printed}"
        );
        assert!(printed.ends_with("    \"dns\": {}\n}"), "{printed}");
        assert_eq!(crate::scene::names(Path::new("/var/lib/cni/results")).len(), 1);
        netctl("del");
        lab.allow("results");
        lab.allow("net.d");
        lab.allow("99-lo.conf");
        // The loopback plugin's DEL sets lo down.
        lab.allow("lo");
    });
}

#[test]
fn a_container_in_the_hosts_namespace() {
    lab::run("a_container_in_the_hosts_namespace", |lab| {
        let scene = scene(lab, &[&built()], &["host"]);
        lab.outside("up0");
        lab.rebase();
        let host =
            json!({"name": "host", "cniVersion": "1.1.0", "plugins": [{"type": "host", "mode": "share"}]});
        scene.conf("10-host.conflist", &host);
        let target = format!("netns:{}", lab.host().path().display());
        let result = scene.netctl(&format!("exec add host {target}")).ok().json();
        assert_eq!(
            (&result["interfaces"][0]["name"], &result["ips"][0]["address"]),
            (&json!("up0"), &json!("198.51.100.1/24"))
        );
        scene.netctl(&format!("exec check host {target}")).ok();
        assert_eq!(scene.netctl("exec gc host").ok().stdout, "would remove 0 of 1 attachments\n");
        lab.exec(&["ip", "address", "del", "198.51.100.1/24", "dev", "up0"]).ok();
        let lost = scene.netctl(&format!("exec check host {target}"));
        assert_eq!(lost.code, Some(1), "{lost:#?}");
        assert_eq!(lost.json()["msg"], "host: up0 has lost its address 198.51.100.1/24");
        lab.rebase();
        for _ in 0..2 {
            scene.netctl(&format!("exec del host {target}")).ok();
        }
        assert!(scene.results().is_empty() && lab.host().has_link("up0"));
    });
}
