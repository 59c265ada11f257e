//! `firewall`: who reaches whom, and what is in the host's own tables.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use testenv::{lab::Lab, ns::Ns};

use crate::net::{
    Cell, Container, assert_cells, attach, elements, message, net, of_each, other, portmap, run, serve,
    talks, with,
};

fn firewall(more: Value) -> Value {
    with(json!({"type": "firewall"}), more)
}

fn policy(name: &str) -> Value {
    firewall(json!({"ingressPolicy": name}))
}

/// Published, so that it is known what stays reachable.
fn published(port: u16) -> Value {
    portmap(&of_each(port))
}

/// Two cells: to both addresses of a container.
fn cells<'a>(from: &'a Ns, to: &Container, arrives: bool) -> [Cell<'a>; 2] {
    [0, 1].map(|index| (from, SocketAddr::new(to.ip(index), 80), arrives))
}

/// To a published port.
fn port(from: &Ns, port: u16, arrives: bool) -> Cell<'_> {
    (from, SocketAddr::new(HOST.parse().unwrap(), port), arrives)
}

const HOST: &str = "198.51.100.1";

fn outside(lab: &Lab) -> Ns {
    let outside = lab.outside("up0");
    for (subnet, via) in [("10.1.0.0/16", HOST), ("fd00:1::/64", "2001:db8:1::1")] {
        outside.add_route(subnet, via.parse::<IpAddr>().unwrap());
    }
    lab.rebase();
    outside
}

/// What Docker's users expect of two networks.
#[test]
fn networks_are_kept_apart_but_for_published_ports() {
    run("firewall_bridges", |lab| {
        let outside = outside(lab);
        let chain = |port| [policy("same-bridge"), published(port)];
        let (one, two) = (attach(lab, &net(&chain(8080)), "one"), attach(lab, &net(&chain(8081)), "two"));
        let far = attach(lab, &other(&chain(9090)), "far");
        let open = attach(lab, &other(&[policy("open")]), "open");
        let servers = [&one, &two, &far, &open].map(|container| serve(&container.ns));
        let out = outside.tcp_echo("198.51.100.254:7".parse().unwrap());
        for container in [&one, &two, &far] {
            container.check(lab);
            assert!(container.ns.tcp_talk(out.address(), "out").is_ok());
        }
        let direct = [
            cells(&one.ns, &two, true),
            cells(&one.ns, &far, false),
            cells(&far.ns, &one, false),
            // That the other network is open opens nothing here.
            cells(&open.ns, &one, false),
            cells(&one.ns, &open, true),
            cells(lab.host(), &one, true),
            cells(&outside, &one, false),
        ];
        assert_cells("directly", direct.as_flattened());
        let published =
            [(&outside, 8080), (&far.ns, 8080), (&two.ns, 8080), (&one.ns, 9090), (&outside, 9090)];
        assert_cells("published", &published.map(|(from, number)| port(from, number, true)));
        drop(servers);
        for container in [one, two, far, open] {
            container.detach(lab);
        }
    });
}

/// Docker's `enable_icc=false`. Bridged packets are seen by iptables, or are not.
#[test]
fn isolated_containers_reach_no_neighbour_but_by_published_ports() {
    for seen in ["1", "0"] {
        run("firewall_isolated", move |lab| {
            for family in ["iptables", "ip6tables"] {
                lab.host().set_sysctl(&format!("net.bridge.bridge-nf-call-{family}"), seen);
            }
            let outside = outside(lab);
            let chain = |port| [policy("isolated"), published(port)];
            let (one, two) = (attach(lab, &net(&chain(8080)), "one"), attach(lab, &net(&chain(8081)), "two"));
            let servers = [&one, &two].map(|container| serve(&container.ns));
            one.check(lab);
            let direct =
                [cells(&one.ns, &two, false), cells(&two.ns, &one, false), cells(lab.host(), &one, true)];
            assert_cells(&format!("directly, {seen}"), direct.as_flattened());
            let published = [(&two.ns, 8080), (&one.ns, 8080), (&outside, 8081)];
            let published = published.map(|(from, number)| port(from, number, true));
            assert_cells(&format!("published, {seen}"), &published);
            let out = outside.tcp_echo("198.51.100.254:7".parse().unwrap());
            assert!(one.ns.tcp_talk(out.address(), "out").is_ok());
            drop(servers);
            one.detach(lab);
            two.detach(lab);
        });
    }
}

#[test]
fn others_come_in_by_the_interfaces_that_are_named() {
    run("firewall_from", |lab| {
        let outside = outside(lab);
        let chain = [firewall(json!({"ingressPolicy": "isolated", "ingressFrom": ["up0"]}))];
        let one = attach(lab, &net(&chain), "one");
        let far = attach(lab, &other(&[]), "far");
        let servers = serve(&one.ns);
        assert_cells("from", [cells(&outside, &one, true), cells(&far.ns, &one, false)].as_flattened());
        drop(servers);
        one.detach(lab);
        far.detach(lab);
    });
}

#[test]
fn an_internal_network_has_no_way_out_and_none_in() {
    run("firewall_internal", |lab| {
        let outside = outside(lab);
        let chain = [firewall(json!({"internal": true}))];
        let (one, two) = (attach(lab, &net(&chain), "one"), attach(lab, &net(&chain), "two"));
        let far = attach(lab, &other(&[]), "far");
        let servers = [&one, &two, &far].map(|container| serve(&container.ns));
        let out = outside.tcp_echo("198.51.100.254:7".parse().unwrap());
        one.check(lab);
        let both = [
            cells(&one.ns, &two, true),
            cells(lab.host(), &one, true),
            cells(&one.ns, &far, false),
            cells(&far.ns, &one, false),
            cells(&outside, &one, false),
        ];
        assert_cells("both", both.as_flattened());
        assert!(one.ns.tcp_talk(out.address(), "out").is_err(), "out");
        one.detach(lab);
        assert_cells("the last", &cells(&far.ns, &two, false));
        assert!(two.ns.tcp_talk(out.address(), "out").is_err(), "its last container is still there");
        drop(servers);
        two.detach(lab);
        far.detach(lab);
    });
}

#[test]
fn the_user_s_own_chain_comes_first_and_is_left_alone() {
    run("firewall_admin", |lab| {
        lab.needs_program("nft", "nftables");
        let outside = outside(lab);
        let one = attach(lab, &net(&[policy("same-bridge")]), "one");
        let two = attach(lab, &other(&[]), "two");
        let servers = serve(&one.ns);
        assert_cells("before", &cells(&outside, &one, false));
        let nft = |words: &str| {
            lab.exec(&[&["nft"], words.split(' ').collect::<Vec<_>>().as_slice()].concat()).ok()
        };
        nft("add rule inet tenon admin iifname up0 accept");
        assert_cells("accepted", [cells(&outside, &one, true), cells(&two.ns, &one, false)].as_flattened());
        nft("insert rule inet tenon admin iifname up0 drop");
        assert_cells("dropped", &cells(&outside, &one, false));
        drop(servers);
        one.detach(lab);
        two.detach(lab);
        assert!(nft("list chain inet tenon admin").contains("iifname \"up0\" drop"));
    });
}

fn save(lab: &Lab, tool: &str) -> Vec<String> {
    let saved = lab.exec(&[&format!("{tool}-save"), "-t", "filter"]).ok();
    saved.lines().filter(|line| line.starts_with("-A")).map(str::to_owned).collect()
}

/// As with Docker or ufw: FORWARD drops what nobody accepts.
#[test]
fn a_host_that_drops_by_default_lets_the_network_through() {
    run("firewall_forward", |lab| {
        lab.needs_program("iptables-nft", "iptables");
        let outside = outside(lab);
        for tool in ["iptables-nft", "ip6tables-nft"] {
            lab.exec(&[tool, "-P", "FORWARD", "DROP"]).ok();
        }
        lab.rebase();
        let out = outside.tcp_echo("198.51.100.254:7".parse().unwrap());
        let shut = attach(lab, &net(&[published(7070)]), "shut");
        let server = serve(&shut.ns);
        assert!(shut.ns.tcp_talk(out.address(), "out").is_err(), "without the plugin");
        assert!(!talks(&outside, format!("{HOST}:7070")));
        drop(server);
        shut.detach(lab);

        let network = net(&[firewall(json!({})), published(8080)]);
        let (one, two) = (attach(lab, &network, "one"), {
            let network = net(&[firewall(json!({})), published(8081)]);
            attach(lab, &network, "two")
        });
        let servers = [&one, &two].map(|container| serve(&container.ns));
        one.check(lab);
        assert!(one.ns.tcp_talk(out.address(), "out").is_ok());
        for to in [format!("{HOST}:8080"), "[2001:db8:1::1]:8081".to_owned()] {
            assert!(talks(&outside, &to), "{to}");
        }
        assert_cells("what is not published stays shut", &cells(&outside, &one, false));
        assert_eq!(
            save(lab, "iptables-nft"),
            [
                "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD",
                "-A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j CNI-ADMIN",
                "-A CNI-FORWARD -d 10.1.0.0/16 -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -m comment --comment \"tenon net\" -j ACCEPT",
                "-A CNI-FORWARD -s 10.1.0.0/16 -m comment --comment \"tenon net\" -j ACCEPT",
            ]
        );
        assert_eq!(save(lab, "ip6tables-nft").len(), 4);
        lab.exec(&["iptables-nft", "-A", "CNI-ADMIN", "-s", "10.1.0.0/16", "-j", "DROP"]).ok();
        assert!(one.ns.tcp_talk(out.address(), "out").is_err(), "the administrator's comes first");
        lab.exec(&["iptables-nft", "-F", "CNI-ADMIN"]).ok();
        one.detach(lab);
        assert!(two.ns.tcp_talk(out.address(), "out").is_ok(), "the network has one left");
        // Somebody clears the chain: CHECK says what is missing, and the next attachment brings it back.
        lab.exec(&["iptables-nft", "-F", "FORWARD"]).ok();
        let error = two.call(lab, 1).check().err(999);
        assert_eq!(
            message(&error),
            "firewall: the nftables ruleset lacks iptables -I FORWARD -j CNI-FORWARD"
        );
        let three = attach(lab, &net(&[firewall(json!({}))]), "three");
        two.check(lab);
        drop(servers);
        two.detach(lab);
        three.detach(lab);
    });
}

#[test]
fn two_networks_have_an_entry_each() {
    run("firewall_entries", |lab| {
        lab.needs_program("iptables-nft", "iptables");
        lab.exec(&["iptables-nft", "-P", "FORWARD", "DROP"]).ok();
        lab.rebase();
        let (one, two) = (
            attach(lab, &net(&[firewall(json!({}))]), "one"),
            attach(lab, &other(&[firewall(json!({}))]), "two"),
        );
        assert_eq!(save(lab, "iptables-nft").len(), 6);
        two.detach(lab);
        assert_eq!(save(lab, "iptables-nft").len(), 4);
        one.detach(lab);
        assert_eq!(save(lab, "iptables-nft"), [""; 0]);
    });
}

/// Bugs of the reference: CHECK makes the chains that it looks for, and DEL does nothing without prevResult.
#[test]
fn bug_check_makes_nothing_and_del_needs_nothing() {
    run("firewall_bugs", |lab| {
        let one = attach(lab, &net(&[policy("same-bridge")]), "one");
        lab.exec(&["nft", "flush", "chain", "inet", "tenon", "forwarding"]).ok();
        let before = lab.host().snapshot();
        println(&one.call(lab, 1).check().err(999));
        assert_eq!(lab.host().snapshot(), before);
        let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "firewall", "ingressPolicy": 5});
        lab.plugin("firewall").config(&config).container("one").del().ok();
        assert!(!elements(lab).iter().any(|element| element.contains("guarded")));
        one.detach(lab);
        lab.exec(&["nft", "delete", "table", "inet", "tenon"]).ok();
    });
}

fn println(error: &Value) {
    eprintln!("{}", message(error));
}

/// Both suites' DEL: what the Go plugin made goes with a DEL of ours, after an upgrade.
#[test]
fn what_the_go_plugin_made_is_removed() {
    run("firewall_legacy", |lab| {
        lab.needs_program("iptables", "iptables");
        let one = attach(lab, &net(&[]), "one");
        let dir = std::path::Path::new("/usr/lib/cni");
        let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "firewall", "backend": "iptables",
            "prevResult": with(one.result.clone(), json!({"cniVersion": "1.0.0"}))});
        lab.peer(dir, "firewall").config(&config).container("one").netns(&one.ns).add().ok();
        let accepts = |lab: &Lab| {
            let saved = lab.exec(&["iptables-save"]).ok();
            saved.lines().filter(|line| line.contains("10.1.0.2/32")).count()
        };
        assert_eq!(accepts(lab), 2);
        lab.plugin("firewall").config(&config).container("one").netns(&one.ns).del().ok();
        assert_eq!(accepts(lab), 0);
        one.detach(lab);
        for chains in ["table ip filter", "table ip6 filter"] {
            lab.allow(chains);
        }
    });
}

#[test]
fn status_tells_what_firewalld_needs() {
    run("firewall_status", |lab| {
        lab.needs_program("nft", "nftables");
        let one = attach(lab, &net(&[firewall(json!({}))]), "one");
        let status = || {
            lab.plugin("firewall")
                .config(&json!({"cniVersion": "1.1.0", "name": "net", "type": "firewall"}))
                .status()
        };
        status().ok();
        lab.exec(&["nft", "add table inet firewalld; add chain inet firewalld filter_FORWARD_ZONES"]).ok();
        let error = status().err(51);
        assert!(
            message(&error).contains("firewall-cmd --permanent --zone=trusted --add-source=10.1.0.0/16 "),
            "{error}"
        );
        for source in ["ip saddr 10.1.0.0/16", "ip6 saddr fd00:1::/64"] {
            lab.exec(&["nft", &format!("add rule inet firewalld filter_FORWARD_ZONES {source} accept")]).ok();
        }
        status().ok();
        lab.exec(&["nft", "delete", "table", "inet", "firewalld"]).ok();
        one.detach(lab);
    });
}

#[test]
fn what_can_t_be_is_said() {
    run("firewall_config", |lab| {
        let ns = lab.netns("c1");
        let result = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}],
            "ips": [{"address": "10.9.0.2/24", "interface": 0}]});
        for (more, expected) in [
            (
                json!({"backend": "ipfw"}),
                "backend: \"ipfw\": is none of \"iptables\", \"firewalld\", \"nftables\"",
            ),
            (
                json!({"ingressPolicy": "shut"}),
                "ingressPolicy: \"shut\": unknown variant `shut`, expected one of `open`, `same-bridge`, `isolated`",
            ),
            (
                json!({"iptablesAdminChainName": "A B"}),
                "iptablesAdminChainName: \"A B\": is not a chain's name",
            ),
            (
                json!({"ingressPolicy": "isolated"}),
                "ingressPolicy: prevResult.interfaces: the result before has no interface on the host, which these need",
            ),
        ] {
            let config = with(
                json!({"cniVersion": "1.1.0", "name": "net", "type": "firewall", "prevResult": result}),
                more,
            );
            let error = lab.plugin("firewall").config(&config).netns(&ns).add().err(7);
            assert_eq!(message(&error), format!("firewall: {expected}"));
        }
    });
}
