//! Ports that somebody has already, and what is undone.

use serde_json::json;
use testenv::lab::Lab;

use crate::net::{
    at, attach, elements, message, net, of_each, other, portmap, run, serve, talks, tcp, try_attach, udp,
    with,
};

#[track_caller]
fn refused(lab: &Lab, network: &crate::net::Network, name: &str) -> String {
    let ns = lab.netns(name);
    let Err(reply) = try_attach(lab, network, &ns) else { panic!("it was attached") };
    let text = message(&reply.err(7)).to_owned();
    lab.remove_netns(ns);
    text
}

#[test]
fn another_attachment_has_it() {
    run("portmap_taken", |lab| {
        let one = attach(lab, &net(&[portmap(&[tcp(8080, 80)])]), "one");
        let network = other(&[portmap(&[udp(8080, 80), tcp(8080, 81)])]);
        assert_eq!(
            refused(lab, &network, "two"),
            "portmap: runtimeConfig.portMappings[1].hostPort: 8080: tcp port 8080 of all addresses is taken by \
             attachment net/one/eth0"
        );
        one.check(lab);
        // The other protocol and another address are other ports.
        let free = [udp(8080, 80), with(tcp(8080, 80), json!({"hostIP": "127.0.0.2"}))];
        let two = attach(lab, &other(&[portmap(&free)]), "two");
        two.detach(lab);
        one.check(lab);
        one.detach(lab);
    });
}

#[test]
fn a_listening_socket_has_it() {
    run("portmap_listener", |lab| {
        let servers = (lab.host().tcp_echo(at("127.0.0.1:8080")), lab.host().udp_echo(at("[::]:9090")));
        let own = std::process::id();
        let own = format!("{} (process {own})", std::fs::read_to_string("/proc/self/comm").unwrap().trim());
        for (mapping, expected) in [
            (tcp(8080, 80), Some("8080: tcp port 8080 of 127.0.0.1")),
            (with(tcp(8080, 80), json!({"hostIP": "127.0.0.1"})), Some("8080: tcp port 8080 of 127.0.0.1")),
            (udp(9090, 80), Some("9090: udp port 9090 of all addresses")),
            (
                with(udp(9090, 80), json!({"hostIP": "10.9.9.9"})),
                Some("9090: udp port 9090 of all addresses"),
            ),
            (with(tcp(8080, 80), json!({"hostIP": "10.9.9.9"})), None),
            (udp(8080, 80), None),
        ] {
            let network = net(&[portmap(&[mapping])]);
            match expected {
                Some(port) => assert_eq!(
                    refused(lab, &network, "c1"),
                    format!("portmap: runtimeConfig.portMappings[0].hostPort: {port} is taken by {own}")
                ),
                None => {
                    let container = attach(lab, &network, "c1");
                    container.detach(lab);
                    lab.remove_netns(container.ns);
                }
            }
        }
        drop(servers);
    });
}

/// Its runtime was killed, and nobody called DEL.
#[test]
fn a_container_that_is_gone_does_not_keep_its_ports() {
    run("portmap_dead", |lab| {
        let dead = attach(lab, &net(&[portmap(&[tcp(8080, 80)])]), "dead");
        let (late, bridge) = (dead.call(lab, 1), dead.call(lab, 0));
        lab.remove_netns(dead.ns);
        let heir = attach(lab, &net(&[portmap(&[tcp(8080, 80)])]), "heir");
        late.del().ok();
        heir.check(lab);
        bridge.del().ok();
        heir.detach(lab);
    });
}

#[test]
fn what_is_not_there_is_missed() {
    run("portmap_check", |lab| {
        lab.needs_program("nft", "nftables");
        for break_it in [
            "nft delete element inet tenon port4_any { tcp . 8080 }",
            "nft flush chain inet tenon published",
            "nft flush chain inet tenon arriving",
            "nft flush chain inet tenon answering",
            "sysctl -w net.ipv4.conf.cni0.route_localnet=0",
        ] {
            let container = attach(lab, &net(&[portmap(&[tcp(8080, 80)])]), "c1");
            container.check(lab);
            lab.exec(&break_it.split(' ').collect::<Vec<_>>()).ok();
            let error = container.call(lab, 1).check().err(999);
            eprintln!("{break_it}: {}", message(&error));
            container.detach(lab);
            lab.exec(&["nft", "delete", "table", "inet", "tenon"]).ok();
            lab.remove_netns(container.ns);
        }
    });
}

/// As by a distribution's service that loads /etc/nftables.conf, but for a flush of everything.
#[test]
fn a_reload_of_other_tables_leaves_it_alone() {
    run("portmap_reload", |lab| {
        lab.needs_program("nft", "nftables");
        let outside = lab.outside("up0");
        lab.rebase();
        let container = attach(lab, &net(&[portmap(&of_each(8080))]), "c1");
        let servers = serve(&container.ns);
        let file = lab.dir().join("nftables.conf");
        let rules = "chain in { type filter hook input priority 0; ct state established accept; }";
        lab.write(
            &file,
            &format!("table inet mine\ndelete table inet mine\ntable inet mine {{\n{rules}\n}}\n"),
        );
        for _ in 0..2 {
            lab.exec(&["nft", "-f", file.to_str().unwrap()]).ok();
            assert!(talks(&outside, "198.51.100.1:8080"));
            container.check(lab);
        }
        lab.exec(&["nft", "delete", "table", "inet", "mine"]).ok();
        drop(servers);
        container.detach(lab);
    });
}

#[test]
fn gc_takes_back_what_is_not_valid() {
    run("portmap_gc", |lab| {
        let (one, two) = (
            attach(lab, &net(&[portmap(&[tcp(8080, 80)])]), "one"),
            attach(lab, &net(&[portmap(&[tcp(9090, 80)])]), "two"),
        );
        let elsewhere = attach(lab, &other(&[portmap(&[tcp(7070, 80)])]), "elsewhere");
        let valid = json!([{"containerID": "two", "ifname": "eth0"}]);
        for plugin in ["portmap", "bridge"] {
            let mut config = json!({"cniVersion": "1.1.0", "name": "net", "type": plugin, "cni.dev/valid-attachments": valid});
            config["ipam"] = json!({"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}]]});
            lab.plugin(plugin).config(&config).gc().ok();
        }
        assert!(!elements(lab).iter().any(|element| element.contains("net/one/")));
        two.check(lab);
        elsewhere.check(lab);
        for container in [one, two, elsewhere] {
            container.detach(lab);
        }
    });
}

/// Bug of the reference: without ports it looks for iptables three times before it sees that there is nothing to do.
#[test]
fn bug_zero_ports_are_nothing_to_do() {
    run("portmap_none", |lab| {
        let before = elements(lab);
        let container =
            attach(lab, &net(&[json!({"type": "portmap", "runtimeConfig": {"portMappings": []}})]), "c1");
        assert!(!elements(lab).iter().any(|element| element.contains("port")), "{before:?}");
        assert!(!std::path::Path::new("/run/tenon/attach/net/portmap").exists());
        container.check(lab);
        container.detach(lab);
    });
}

#[test]
fn del_needs_neither_namespace_nor_config() {
    run("portmap_del", |lab| {
        let container = attach(lab, &net(&[portmap(&[tcp(8080, 80)])]), "c1");
        let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "portmap", "backend": "nonsense"});
        let call = lab.plugin("portmap").config(&config).container("c1");
        call.netns_path("/run/netns/gone").del().ok();
        assert!(!elements(lab).iter().any(|element| element.contains("port")));
        container.detach(lab);
        // Without its record.
        let container = attach(lab, &net(&[portmap(&[tcp(8080, 80)])]), "c2");
        std::fs::remove_dir_all("/run/tenon/attach/net/portmap").unwrap();
        container.detach(lab);
    });
}
