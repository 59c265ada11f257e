//! Both families: dnsmasq as router, DHCP server and DHCPv6 server of a LAN.

use std::{fs, net::IpAddr, time::Duration};

use serde_json::{Value, json};
use testenv::{
    daemon::Daemon,
    lab::{self, Lab},
    ns::Ns,
    plugin::PluginCall,
    wait::{poll, wait_for},
};

use crate::{age, agent, known, lan, leases};

/// The LAN of `lan`, with a prefix that dnsmasq announces as `mode` says.
fn dual_lan(lab: &Lab, mode: &str) -> (Ns, Daemon) {
    let range = format!("--dhcp-range={mode}");
    lan(
        lab,
        &[
            "--enable-ra",
            &range,
            "--ra-param=lan0,mtu:1380,10,1800",
            "--dhcp-option=option:dns-server,192.0.2.53",
            "--dhcp-option=option6:dns-server,[2001:db8:5::53]",
            "--dhcp-option=option6:domain-search,six.example",
        ],
    )
}

fn network(families: &[&str]) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "net", "type": "macvlan", "master": "up0",
        "ipam": {
            "type": "dhcp", "families": families, "priority": 77,
            "provide": [{"option": "host-name", "value": "box"}],
        },
    })
}

fn call(lab: &Lab, ns: &Ns, families: &[&str]) -> PluginCall {
    lab.plugin("macvlan").config(&network(families)).netns(ns).container(ns.name())
}

fn address(result: &Value, index: usize) -> IpAddr {
    let text = result["ips"][index]["address"].as_str().and_then(|text| text.split('/').next());
    text.and_then(|text| text.parse().ok()).expect("the result has an address")
}

/// A container takes an IPv6 address for its own from a work queue on (addrconf_dad_work).
#[track_caller]
fn reaches(from: &Ns, to: IpAddr) {
    let answered = poll(Duration::from_secs(5), || from.ping(to, Duration::from_millis(300)).ok());
    assert!(answered.is_some(), "{} does not reach {to}", from.name());
}

fn count(server: &Daemon, word: &str) -> usize {
    server.said().matches(word).count()
}

#[test]
fn containers_lease_both_families_renew_rebind_and_release() {
    lab::run("dhcp_dual", |lab| {
        let (_lan, server) = dual_lan(lab, "2001:db8:5::50,2001:db8:5::99,64,2m");
        let both = ["ipv6", "ipv4"];
        let first_agent = agent(lab);
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let result = call(lab, &c1, &both).add().ok();
        let other = call(lab, &c2, &both).add().ok();
        assert_eq!(result["ips"][0]["gateway"], "192.0.2.1");
        let six = result["ips"][1]["address"].as_str().unwrap();
        assert!(six.starts_with("2001:db8:5::") && six.ends_with("/64"), "{six}");
        assert!(result["ips"][1]["gateway"].as_str().unwrap().starts_with("fe80::"), "{result}");
        assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.53", "2001:db8:5::53"]));
        assert_eq!(result["dns"]["search"], json!(["six.example"]));
        let lan: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8:5::1".parse().unwrap()];
        for target in [lan[0], lan[1], address(&other, 0), address(&other, 1)] {
            reaches(&c1, target);
        }
        // What the router says is the kernel's: its default route, with the metric that was asked for, and the MTU.
        let routes = c1.exec(&["ip", "-6", "route", "show", "default"]).ok();
        assert!(routes.contains("proto ra") && routes.contains("metric 77"), "{routes}");
        assert_eq!(c1.exec(&["cat", "/proc/sys/net/ipv6/conf/eth0/mtu"]).ok().trim(), "1380");
        let addresses = c1.exec(&["ip", "-6", "-o", "addr", "show", "dev", "eth0", "scope", "global"]).ok();
        assert_eq!(addresses.lines().count(), 1, "{addresses}");
        // Two of each family, with their name; and the server's own identifier.
        let text = fs::read_to_string(leases(lab)).unwrap();
        assert_eq!((known(lab), text.matches(" box ").count() >= 2), (5, true), "{text}");

        // Killed, and away for so long that each lease was to be renewed meanwhile; then, to be asked for from anybody.
        let mut running = first_agent;
        for (moment, word) in [("renew", "DHCPRENEW"), ("rebind", "DHCPREBIND")] {
            drop(running);
            age(moment);
            let (acks, asked) = (count(&server, "DHCPACK"), count(&server, word));
            running = agent(lab);
            wait_for(word, Duration::from_secs(20), || {
                count(&server, word) >= asked + 2 && count(&server, "DHCPACK") >= acks + 2
            });
        }
        running.assert_running();
        let mut config = network(&both);
        config["prevResult"] = result;
        call(lab, &c1, &both).config(&config).check().ok();
        reaches(&c1, address(&other, 1));

        call(lab, &c1, &both).del().ok();
        wait_for("two leases less", Duration::from_secs(5), || known(lab) == 3);
        drop(running);
        call(lab, &c2, &both).del().ok();
        wait_for("no lease", Duration::from_secs(5), || known(lab) == 1);
        call(lab, &c2, &both).del().ok();
    });
}

#[test]
fn a_prefix_for_everybody_is_enough() {
    lab::run("dhcp_slaac", |lab| {
        let (lan, server) = dual_lan(lab, "2001:db8:5::,ra-stateless,64,2m");
        let first_agent = agent(lab);
        let (c1, c2) = (lab.netns("c1"), lab.netns("c2"));
        let result = call(lab, &c1, &["ipv6"]).add().ok();
        let other = call(lab, &c2, &["ipv6"]).add().ok();
        let mac = result["interfaces"][0]["mac"].as_str().unwrap();
        let last = mac.rsplit(':').next().unwrap();
        let six = result["ips"][0]["address"].as_str().unwrap();
        assert!(six.starts_with("2001:db8:5:") && six.ends_with(&format!("{last}/64")), "{six} of {mac}");
        assert_eq!(result["dns"]["nameservers"], json!(["2001:db8:5::53"]));
        assert_eq!(result["dns"]["search"], json!(["six.example"]));
        for target in ["2001:db8:5::1".parse().unwrap(), address(&other, 0)] {
            reaches(&c1, target);
        }

        // Half of the prefix's life is over: routers are asked again.
        drop(first_agent);
        age("renew");
        let asked = count(&server, "RTR-SOLICIT");
        let mut running = agent(lab);
        wait_for("solicitations", Duration::from_secs(20), || count(&server, "RTR-SOLICIT") >= asked + 2);
        let renewed = |kept: &Value| kept["lease"]["v6"]["times"]["renew"] != json!(0);
        wait_for("leases that go on", Duration::from_secs(10), || {
            let files = fs::read_dir("/run/tenon/dhcp").unwrap().flatten();
            let kept = files.filter_map(|file| serde_json::from_slice(&fs::read(file.path()).ok()?).ok());
            kept.filter(renewed).count() == 2
        });
        // And ends without a router's word.
        drop(server);
        drop(running);
        age("expire");
        running = agent(lab);
        wait_for("an address less", Duration::from_secs(10), || {
            !c1.exec(&["ip", "-6", "addr", "show", "dev", "eth0"]).ok().contains("2001:db8:5:")
        });
        running.assert_running();
        lab.plugin("dhcp").config(&network(&["ipv6"])).netns(&c1).container("c1").check().err(999);
        for container in [&c1, &c2] {
            call(lab, container, &["ipv6"]).del().ok();
        }
        assert!(lan.has_link("lan0"));
    });
}

#[test]
fn a_bridge_and_a_device_of_the_host_lease_too() {
    lab::run("dhcp_modes", |lab| {
        let (_lan, _server) = dual_lan(lab, "2001:db8:5::50,2001:db8:5::99,64,2m");
        let _agent = agent(lab);
        let host = lab.host();
        host.add_bridge("br0");
        // Routers speak to containers here.
        host.set_sysctl("net.ipv6.conf.br0.accept_ra", "0");
        host.set_up("br0");
        host.set_master("up0", "br0");
        lab.rebase();
        lab.allow_bridge("br0");
        let modes = [
            json!({"type": "bridge", "bridge": "br0"}),
            json!({"type": "host", "mode": "device", "device": "up0"}),
        ];
        for (mode, name) in modes.into_iter().zip(["c1", "c2"]) {
            let container = lab.netns(name);
            let mut config = network(&["ipv4", "ipv6"]);
            for (key, value) in mode.as_object().unwrap() {
                config[key] = value.clone();
            }
            let plugin = config["type"].as_str().unwrap();
            let call = lab.plugin(plugin).config(&config).netns(&container).container(name);
            let result = call.add().ok();
            for target in ["192.0.2.1", "2001:db8:5::1"] {
                reaches(&container, target.parse().unwrap());
            }
            config["prevResult"] = result;
            call.clone().config(&config).check().ok();
            assert_eq!(known(lab), 3);
            call.del().ok();
            wait_for("no lease", Duration::from_secs(5), || known(lab) == 1);
        }
    });
}
