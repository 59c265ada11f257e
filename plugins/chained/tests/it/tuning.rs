//! `tuning`: what it changes, and what it puts back.

use serde_json::{Value, json};
use testenv::{lab::Lab, ns::Ns};

use crate::net::{attach, message, net, run, with};

fn tuning(more: Value) -> Value {
    with(json!({"type": "tuning"}), more)
}

fn link(ns: &Ns) -> Value {
    let text = ns.exec(&["ip", "-j", "-d", "link", "show", "eth0"]).ok();
    let all: Value = serde_json::from_str(&text).unwrap();
    all[0].clone()
}

fn sysctl(ns: &Ns, name: &str) -> String {
    ns.exec(&["sysctl", "-n", name]).ok().trim().to_owned()
}

fn facts(link: &Value) -> Value {
    let flags = link["flags"].as_array().unwrap();
    let has = |flag: &str| flags.iter().any(|other| other == flag);
    json!([link["address"], link["mtu"], link["txqlen"], has("PROMISC"), has("ALLMULTI")])
}

#[test]
fn every_attribute_is_set_and_put_back() {
    run("tuning_all", |lab| {
        let plugin = tuning(json!({
            "mac": "02:00:00:00:00:07", "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 77,
            "sysctl": {"net.ipv4.conf.IFNAME.log_martians": "1", "net.core.somaxconn": "500"},
        }));
        let bare = attach(lab, &net(&[]), "c1");
        let before = (facts(&link(&bare.ns)), sysctl(&bare.ns, "net.core.somaxconn"));
        let call = |verb: &str| {
            let config = with(
                plugin.clone(),
                json!({"cniVersion": "1.1.0", "name": "net", "prevResult": bare.result}),
            );
            lab.plugin("tuning").config(&config).container("c1").netns(&bare.ns).call(verb)
        };
        call("CHECK").err(999);
        let result = call("ADD").ok();
        assert_eq!(facts(&link(&bare.ns)), json!(["02:00:00:00:00:07", 1400, 77, true, true]));
        assert_eq!(sysctl(&bare.ns, "net.core.somaxconn"), "500");
        assert_eq!(sysctl(&bare.ns, "net.ipv4.conf.eth0.log_martians"), "1");
        assert_eq!(result["interfaces"][2]["mac"], "02:00:00:00:00:07");
        assert_eq!(result["interfaces"][2]["mtu"], 1400);
        call("CHECK").ok();
        // Again, as after an ADD that was killed: what was before is not forgotten.
        call("ADD").ok();
        bare.ns.exec(&["sysctl", "-w", "net.core.somaxconn=501"]).ok();
        let error = call("CHECK").err(999);
        assert_eq!(message(&error), "tuning: sysctl net/core/somaxconn is \"501\", not \"500\"");
        for _ in 0..2 {
            call("DEL").ok();
            assert_eq!((facts(&link(&bare.ns)), sysctl(&bare.ns, "net.core.somaxconn")), before);
        }
        bare.detach(lab);
    });
}

#[test]
fn an_interface_with_a_dot_in_its_name() {
    run("tuning_dot", |lab| {
        let ns = lab.netns("c1");
        ns.add_bridge("eth0.5");
        lab.rebase();
        let config = with(
            tuning(json!({"sysctl": {"net.ipv4.conf.eth0.5.log_martians": "1"}})),
            json!({
                "cniVersion": "1.1.0", "name": "net", "prevResult": {"interfaces": [{"name": "eth0.5", "sandbox": "/x"}]},
            }),
        );
        let call = lab.plugin("tuning").config(&config).netns(&ns).ifname("eth0.5");
        call.add().ok();
        assert_eq!(sysctl(&ns, "net.ipv4.conf.eth0/5.log_martians"), "1");
        call.del().ok();
        assert_eq!(sysctl(&ns, "net.ipv4.conf.eth0/5.log_martians"), "0");
    });
}

/// What the host's administrator does not allow.
#[test]
fn the_allowlist_is_kept() {
    run("tuning_allowlist", |lab| {
        lab.allow("/etc/cni/tuning");
        lab.write(
            "/etc/cni/tuning/allowlist.conf",
            "^net.core.somaxconn$\n\n^net\\.ipv4\\.conf\\.IFNAME\\.[a-z_]*$\n",
        );
        let bare = attach(lab, &net(&[]), "c1");
        let call = |sysctl: Value| {
            let config = with(
                tuning(json!({"sysctl": sysctl})),
                json!({"cniVersion": "1.1.0", "name": "net", "prevResult": bare.result}),
            );
            lab.plugin("tuning").config(&config).container("c1").netns(&bare.ns)
        };
        call(json!({"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.log_martians": "1"})).add().ok();
        call(json!({})).del().ok();
        let error = call(json!({"net.ipv4.tcp_fin_timeout": "5"})).add().err(7);
        assert!(
            message(&error)
                .contains("\"net.ipv4.tcp_fin_timeout\": is not allowed by /etc/cni/tuning/allowlist.conf"),
            "{error}"
        );
        bare.detach(lab);
    });
}

/// Bug of the reference: it writes them in any order, though one may change what another has set.
#[test]
fn bug_sysctls_have_an_order() {
    run("tuning_order", |lab| {
        // All interfaces' forwarding sets that of each.
        let sysctl_of = json!({"net.ipv4.conf.eth0.forwarding": "0", "net.ipv4.conf.all.forwarding": "1"});
        let container = attach(lab, &net(&[tuning(json!({"sysctl": sysctl_of}))]), "c1");
        container.check(lab);
        let found =
            ["all", "eth0"].map(|of| sysctl(&container.ns, &format!("net.ipv4.conf.{of}.forwarding")));
        assert_eq!(found, ["1", "0"]);
        container.detach(lab);
        lab.remove_netns(container.ns);
    });
}

/// Bug of the reference: a failure in the middle leaves what was done before it.
#[test]
fn bug_a_failed_add_leaves_nothing_changed() {
    run("tuning_rollback", |lab| {
        let bare = attach(lab, &net(&[]), "c1");
        let before = facts(&link(&bare.ns));
        let config = with(
            tuning(
                json!({"mtu": 1400, "txQLen": 5, "mac": "01:00:00:00:00:01", "sysctl": {"net.core.somaxconn": "500"}}),
            ),
            json!({"cniVersion": "1.1.0", "name": "net", "prevResult": bare.result}),
        );
        let somaxconn = sysctl(&bare.ns, "net.core.somaxconn");
        lab.plugin("tuning").config(&config).container("c1").netns(&bare.ns).add().err(999);
        assert_eq!(facts(&link(&bare.ns)), before);
        assert_eq!(sysctl(&bare.ns, "net.core.somaxconn"), somaxconn);
        bare.detach(lab);
    });
}

/// A node that is upgraded: the Go plugin's ADD, our DEL. And the reference's bug of a backup that stays without a namespace.
#[test]
fn bug_the_backup_of_the_go_plugin_goes() {
    run("tuning_upgrade", |lab: &Lab| {
        let dir = std::path::Path::new("/usr/lib/cni");
        lab.allow("dir /run/cni");
        for gone in [false, true] {
            let bare = attach(lab, &net(&[]), "c1");
            let config = with(
                tuning(json!({"mtu": 1400})),
                json!({"cniVersion": "1.0.0", "name": "net",
                "prevResult": with(bare.result.clone(), json!({"cniVersion": "1.0.0"}))}),
            );
            lab.peer(dir, "tuning").config(&config).container("c1").netns(&bare.ns).add().ok();
            assert_eq!(link(&bare.ns)["mtu"], 1400);
            let del = lab.plugin("tuning").config(&config).container("c1");
            if gone {
                del.del().ok()
            } else {
                del.netns(&bare.ns).del().ok()
            };
            assert_eq!(link(&bare.ns)["mtu"], if gone { 1400 } else { 1500 });
            assert!(!std::path::Path::new("/run/cni/tuning/c1_eth0.json").exists());
            bare.detach(lab);
            lab.remove_netns(bare.ns);
        }
    });
}
