//! The dhcp plugin and its agent as a runtime sees them: the real binaries, with dnsmasq as the server of a LAN.

mod dual;
mod systemd;

use std::{fs, time::Duration};

use serde_json::{Value, json};
use testenv::{
    daemon::Daemon,
    lab::{self, Lab},
    ns::Ns,
    plugin::{PluginCall, built},
    wait::wait_for,
};

/// A LAN: the host's `up0` and a namespace at its other end, where dnsmasq gives out addresses with `more` options.
fn lan(lab: &Lab, more: &[&str]) -> (Ns, Daemon) {
    lab.needs_program("dnsmasq", "dnsmasq-base");
    let lan = lab.netns("lan");
    lab.host().add_veth("up0", &lan, "lan0");
    // The router needs no time to find out that it is alone; and nothing is announced to the host and to itself.
    lan.set_sysctl("net.ipv6.conf.lan0.accept_dad", "0");
    lan.set_sysctl("net.ipv6.conf.lan0.accept_ra", "0");
    lab.host().set_sysctl("net.ipv6.conf.up0.accept_ra", "0");
    lan.add_address("lan0", "192.0.2.1/24");
    lan.exec(&["ip", "address", "add", "2001:db8:5::1/64", "dev", "lan0", "nodad"]).ok();
    lan.set_up("lan0");
    lab.host().set_up("up0");
    let leases = format!("--dhcp-leasefile={}", leases(lab));
    let arguments = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--port=0",
        "--log-dhcp",
        "--log-facility=-",
        "--pid-file",
        "--user=root",
        "--no-ping",
        "--interface=lan0",
        "--bind-dynamic",
        "--dhcp-authoritative",
        "--dhcp-range=192.0.2.50,192.0.2.99,255.255.255.0,2m",
        &leases,
    ];
    let server = lab.daemon(&lan, &[&arguments[..], more].concat());
    lab.allow("/run/cni");
    lab.allow("dir /run/tenon");
    lab.rebase();
    (lan, server)
}

fn leases(lab: &Lab) -> String {
    lab.dir().join("leases").display().to_string()
}

/// How many leases the server knows of.
fn known(lab: &Lab) -> usize {
    fs::read_to_string(leases(lab)).unwrap_or_default().lines().count()
}

/// Lets the time `moment` of each lease on disk be past, and that of its renewal.
fn age(moment: &str) {
    for file in fs::read_dir("/run/tenon/dhcp").expect("there are leases").flatten() {
        if file.path().extension().is_some() {
            // The agent was killed as it wrote this.
            continue;
        }
        let text = fs::read(file.path()).expect("a lease can be read");
        let mut kept: Value = serde_json::from_slice(&text).expect("a lease is JSON");
        for lease in kept["lease"].as_object_mut().expect("a lease has a family").values_mut() {
            lease["times"][moment] = json!(0);
            lease["times"]["renew"] = json!(0);
        }
        fs::write(file.path(), kept.to_string()).expect("a lease can be written");
    }
}

fn agent(lab: &Lab) -> Daemon {
    let program = built().join("dhcp").display().to_string();
    let agent = lab.daemon(lab.host(), &[&program, "daemon", "-resendtimeout", "20s"]);
    wait_for("the agent", Duration::from_secs(10), || {
        lab.plugin("dhcp").config(&network()).status().succeeded()
    });
    agent
}

fn network() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "up0",
        "ipam": {"type": "dhcp", "provide": [{"option": "host-name", "value": "box"}]},
    })
}

fn call(lab: &Lab, plugin: &str, ns: &Ns) -> PluginCall {
    lab.plugin(plugin).config(&network()).netns(ns).container(ns.name())
}

#[test]
fn containers_lease_talk_renew_and_release() {
    lab::run("dhcp", |lab| {
        let (_lan, server) = lan(
            lab,
            &[
                "--dhcp-option=option:dns-server,192.0.2.53",
                "--domain=lan.example",
                "--dhcp-option=option:domain-search,a.example,b.example",
                "--dhcp-option=option:mtu,1400",
            ],
        );
        let first_agent = agent(lab);
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let result = call(lab, "macvlan", &c1).add().ok();
        let other = call(lab, "macvlan", &c2).add().ok();
        assert_eq!(result["ips"][0]["gateway"], "192.0.2.1");
        assert_eq!(result["routes"][0], json!({"dst": "0.0.0.0/0", "gw": "192.0.2.1"}));
        assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.53"]));
        assert_eq!(result["dns"]["domain"], "lan.example");
        assert_eq!(result["dns"]["search"], json!(["a.example", "b.example"]));
        let address = |result: &Value| {
            result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
        };
        for target in ["192.0.2.1", &address(&other)] {
            assert!(c1.pings(target.parse().unwrap()), "{target}");
        }
        assert!(c1.exec(&["ip", "link", "show", "eth0"]).ok().contains("mtu 1400"));
        let text = fs::read_to_string(leases(lab)).unwrap();
        assert!(text.contains(" box ") && text.lines().count() == 2, "{text}");

        // Killed, and away for so long that each lease was to be renewed meanwhile.
        drop(first_agent);
        age("renew");
        let acks = || server.said().matches("DHCPACK").count();
        let before = acks();
        let mut second_agent = agent(lab);
        wait_for("renewals by the second agent", Duration::from_secs(20), || acks() >= before + 2);
        second_agent.assert_running();
        let mut config = network();
        config["prevResult"] = result;
        call(lab, "macvlan", &c1).config(&config).check().ok();

        call(lab, "macvlan", &c1).del().ok();
        wait_for("one lease less", Duration::from_secs(5), || known(lab) == 1);
        call(lab, "macvlan", &c2).del().ok();
        wait_for("no lease", Duration::from_secs(5), || known(lab) == 0);
        call(lab, "macvlan", &c2).del().ok();
    });
}

#[test]
fn without_an_agent_del_releases_and_the_rest_says_so() {
    lab::run("dhcp_alone", |lab| {
        let (_lan, _server) = lan(lab, &[]);
        let agent = agent(lab);
        let c1 = lab.netns("c1");
        call(lab, "macvlan", &c1).add().ok();
        drop(agent);
        let err = call(lab, "dhcp", &c1).add().err(11);
        assert!(
            err["msg"]
                .as_str()
                .unwrap()
                .starts_with("dhcp: ask the agent (`dhcp daemon`) at /run/cni/dhcp.sock: "),
            "{err}"
        );
        call(lab, "dhcp", &c1).check().err(11);
        call(lab, "dhcp", &c1).status().err(50);
        // Nor is a configuration without addresses one to panic at.
        let bare = json!({"cniVersion": "1.1.0", "name": "other", "type": "dhcp"});
        call(lab, "dhcp", &c1).config(&bare).add().err(11);
        call(lab, "dhcp", &c1).config(&bare).del().ok();
        call(lab, "macvlan", &c1).del().ok();
        wait_for("no lease", Duration::from_secs(5), || known(lab) == 0);
        fs::remove_file("/run/cni/dhcp.sock").unwrap();
    });
}

#[test]
fn two_calls_for_one_attachment_get_one_lease_and_check_gets_none() {
    lab::run("dhcp_once", |lab| {
        let (_lan, _server) = lan(lab, &[]);
        let _agent = agent(lab);
        let c1 = lab.netns("c1");
        c1.exec(&["true"]).ok();
        lab.exec(&[
            "ip",
            "link",
            "add",
            "eth0",
            "link",
            "up0",
            "netns",
            &c1.path().display().to_string(),
            "type",
            "macvlan",
            "mode",
            "bridge",
        ])
        .ok();
        c1.set_up("eth0");
        c1.rebase();
        call(lab, "dhcp", &c1).check().err(999);
        assert_eq!(known(lab), 0);
        let calls: Vec<_> = (0..3).map(|_| call(lab, "dhcp", &c1).start("ADD")).collect();
        let results: Vec<_> = calls.into_iter().map(|call| call.wait().ok()["ips"].clone()).collect();
        assert!(results.iter().all(|ips| *ips == results[0] && ips.is_array()), "{results:?}");
        assert_eq!(known(lab), 1);
        call(lab, "dhcp", &c1).check().ok();
        call(lab, "dhcp", &c1).del().ok();
        wait_for("no lease", Duration::from_secs(5), || known(lab) == 0);
        c1.remove_link("eth0");
    });
}

/// The reference's hang on an interface that is gone.
#[test]
fn a_container_that_is_gone_holds_nothing_up() {
    lab::run("dhcp_gone", |lab| {
        let (_lan, _server) = lan(lab, &[]);
        let _agent = agent(lab);
        let c1 = lab.netns("c1");
        let call = call(lab, "macvlan", &c1);
        call.add().ok();
        c1.exec(&["ip", "link", "del", "eth0"]).ok();
        let check = lab.plugin("dhcp").config(&network()).netns(&c1).container("c1");
        check.check().err(999);
        check.check().err(999);
        // Nor does it get the lease of an interface that is no more.
        check.add().err(11);
        lab.remove_netns(c1);
        call.del().ok();
        call.netns_path("").del().ok();
        // The server was not told: the lease ends by itself.
        assert_eq!(known(lab), 1);
    });
}

#[test]
fn no_server_is_an_error_in_time_and_leaves_nothing() {
    lab::run("dhcp_silent", |lab| {
        let (lan, server) = lan(lab, &[]);
        drop(server);
        let program = built().join("dhcp").display().to_string();
        let _agent = lab.daemon(
            lab.host(),
            &[
                &program,
                "daemon",
                "-resendtimeout",
                "2s",
                "-pidfile",
                &lab.dir().join("pid").display().to_string(),
            ],
        );
        wait_for("the agent", Duration::from_secs(10), || {
            lab.plugin("dhcp").config(&network()).status().succeeded()
        });
        let c1 = lab.netns("c1");
        let err = call(lab, "macvlan", &c1).add().err(11);
        assert!(
            err["msg"].as_str().unwrap().ends_with("no ipv4 lease within 2 s: no DHCP server granted one"),
            "{err}"
        );
        assert!(lan.has_link("lan0") && c1.links().len() == 1);
    });
}

#[test]
fn under_a_bridge_and_gc() {
    lab::run("dhcp_bridge", |lab| {
        let (_lan, _server) =
            lan(lab, &["--dhcp-option=option:classless-static-route,198.51.100.0/24,192.0.2.7"]);
        let _agent = agent(lab);
        lab.host().add_bridge("br0");
        lab.host().set_up("br0");
        lab.host().set_master("up0", "br0");
        lab.rebase();
        lab.allow_bridge("br0");
        let c1 = lab.netns("c1");
        let config = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0",
            "ipam": {"type": "dhcp", "priority": 77},
        });
        let call = call(lab, "bridge", &c1).config(&config);
        let result = call.add().ok();
        assert_eq!(result["routes"], json!([{"dst": "198.51.100.0/24", "gw": "192.0.2.7", "priority": 77}]));
        assert!(c1.pings("192.0.2.1".parse().unwrap()));
        // plugins#791: the reference's bridge removes the interface first, and no server hears of it.
        call.del().ok();
        wait_for("no lease", Duration::from_secs(5), || known(lab) == 0);
        call.add().ok();
        let mut gc = config;
        gc["cni.dev/valid-attachments"] = json!([]);
        lab.plugin("bridge").config(&gc).gc().ok();
        wait_for("no lease", Duration::from_secs(5), || known(lab) == 0);
        assert_eq!(c1.links().len(), 1);
    });
}
