//! `vrf`: domains of routing in the container. Needs a kernel with VRFs: `cargo testenv vm test` has some.

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path};

use kernel::{
    address, link,
    netlink::Netlink,
    netns::Netns,
    route::{self, Family, Filter, PROTOCOL_KERNEL, SCOPE_UNIVERSE},
};
use nix::errno::Errno;
use serde_json::{Value, json};
use testenv::{
    fault::{Fate, strike_each},
    lab::Lab,
    ns::Ns,
    plugin::PluginCall,
};

use crate::net::{at, message, run, with};

/// A lab in which VRFs can be made. Their rules stay in a namespace.
fn run_with_vrfs(name: &'static str, body: impl FnOnce(&Lab) + Send + 'static) {
    run(name, |lab| {
        lab.needs_link_kind("vrf");
        lab.allow("rule 1000");
        body(lab);
    });
}

/// An interface of a container, on a bridge of the host, and `vrf` after that.
struct Port {
    bridge: PluginCall,
    vrf: PluginCall,
    config: Value,
    result: Value,
}

/// A network on a bridge, with one address of each family in 10.9.0.0/24 and fd00:9::/64, whose router is the first.
fn bridge(network: &str, host: u8, routes: Value) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": network, "type": "bridge",
        "bridge": if network == "net" { "cni0" } else { "cni1" },
        "ipam": {"type": "static", "routes": routes, "addresses": [
            {"address": format!("10.9.0.{host}/24"), "gateway": "10.9.0.1"},
            {"address": format!("fd00:9::{host}/64"), "gateway": "fd00:9::1"},
        ]},
    })
}

/// Everywhere, and to a network by a table of its own.
fn routes() -> Value {
    json!([{"dst": "0.0.0.0/0", "mtu": 1300}, {"dst": "::/0"}, {"dst": "192.0.2.0/24", "table": 77}])
}

/// The router of a network: a container with its first address.
#[track_caller]
fn router(lab: &Lab, network: &str, name: &str) -> (Ns, PluginCall) {
    let ns = lab.netns(name);
    let call = lab.plugin("bridge").config(&bridge(network, 1, json!([]))).container(name).netns(&ns);
    call.add().ok();
    (ns, call)
}

impl Port {
    /// Has the bridge made, and not the VRF joined.
    #[track_caller]
    fn new(lab: &Lab, ns: &Ns, (network, ifname): (&str, &str), vrf: Value) -> Self {
        let call = |kind: &str, config: &Value| {
            lab.plugin(kind).config(config).container(ns.name()).netns(ns).ifname(ifname)
        };
        let bridge = call("bridge", &bridge(network, 2, routes()));
        let result = bridge.add().ok();
        let of_network = json!({"cniVersion": "1.1.0", "name": network, "type": "vrf", "prevResult": result});
        let config = with(vrf, of_network);
        Self { bridge, vrf: call("vrf", &config), config, result }
    }

    #[track_caller]
    fn join(&self) {
        // The result passes through.
        assert_eq!(self.vrf.add().ok(), self.result);
        self.vrf.check().ok();
    }

    #[track_caller]
    fn detach(&self) {
        self.vrf.del().ok();
        self.bridge.del().ok();
    }

    fn with(&self, more: Value) -> PluginCall {
        self.vrf.clone().config(&with(self.config.clone(), more))
    }
}

/// Whether what is bound to the VRF reaches an address.
fn reaches(ns: &Ns, vrf: &str, to: &str) -> bool {
    ns.exec(&["ping", "-c1", "-W2", "-I", vrf, to]).succeeded()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// What the container has, but for the rules that come with the first VRF.
fn state(ns: &Ns) -> BTreeSet<String> {
    ns.snapshot().lines.into_iter().filter(|line| !line.starts_with("rule 1000")).collect()
}

/// Links, addresses and routes alone: where that is asked a hundred times in an emulated machine.
fn what_moves(ns: &Ns) -> BTreeSet<String> {
    let mut netlink = Netlink::open_in(&Netns::open(ns.path()).unwrap()).unwrap();
    let nl = &mut netlink;
    let links =
        link::list(nl).unwrap().into_iter().map(|it| format!("{} {:?} {:?}", it.name, it.master, it.alias));
    let mut lines: BTreeSet<_> = links.collect();
    let addresses = address::list_all(nl).unwrap();
    let given = addresses.iter().filter(|address| address.scope == SCOPE_UNIVERSE);
    lines.extend(given.map(|address| format!("{} {}", address.network, address.link)));
    for family in [Family::V4, Family::V6] {
        let routes = route::list(nl, family, Filter::default()).unwrap();
        let made = routes.into_iter().filter(|route| route.protocol != PROTOCOL_KERNEL);
        lines.extend(made.map(|route| format!("{route:?}")));
    }
    lines
}

/// The routes of a table, by both families; but for the link-local ones, which come when the kernel finds the link ready.
fn table(ns: &Ns, table: &str) -> String {
    let of = |family| ns.exec(&["ip", family, "route", "show", "table", table]).stdout;
    let lines = ["-4", "-6"].map(of).concat();
    lines.lines().filter(|line| !line.starts_with("fe80::/64")).collect::<Vec<_>>().join("\n")
}

#[test]
fn two_vrfs_with_one_address_each_way() {
    run_with_vrfs("vrf_two", |lab| {
        let ((one, one_call), (two, two_call)) = (router(lab, "net", "one"), router(lab, "other", "two"));
        let c1 = lab.netns("c1");
        c1.set_sysctl("net.ipv4.tcp_l3mdev_accept", "1");
        let red = Port::new(lab, &c1, ("net", "eth0"), json!({"vrfname": "red"}));
        red.join();
        let blue = Port::new(lab, &c1, ("other", "eth1"), json!({"vrfname": "blue", "table": 1002}));
        blue.join();
        red.vrf.check().ok();
        for router in ["10.9.0.1", "fd00:9::1"] {
            assert!(reaches(&c1, "red", router) && reaches(&c1, "blue", router), "{router}");
        }
        let echo = c1.tcp_echo(at("[::]:80"));
        for router in [&one, &two] {
            for own in ["10.9.0.2", "fd00:9::2"] {
                assert!(router.pings(ip(own)), "{own} from {}", router.name());
            }
            router.tcp_talk(at("10.9.0.2:80"), "hello").unwrap();
        }
        drop(echo);
        // Each by its own interface: with one router gone, its VRF is cut off, and the other is not.
        one.exec(&["ip", "link", "set", "eth0", "down"]).ok();
        assert!(!reaches(&c1, "red", "10.9.0.1") && reaches(&c1, "blue", "10.9.0.1"));
        assert!(table(&c1, "1").contains("default via 10.9.0.1 dev eth0"), "{}", table(&c1, "1"));
        assert!(table(&c1, "1002").contains("default via fd00:9::1 dev eth1"), "{}", table(&c1, "1002"));
        assert_eq!(c1.exec(&["ip", "route", "show", "table", "main"]).ok(), "");
        red.detach();
        assert!(!c1.has_link("red") && reaches(&c1, "blue", "10.9.0.1"));
        blue.detach();
        assert!(!c1.has_link("blue"));
        one_call.del().ok();
        two_call.del().ok();
    });
}

#[test]
fn addresses_and_routes_move_with_the_interface_and_back() {
    run_with_vrfs("vrf_moves", |lab| {
        let (_, router) = router(lab, "net", "one");
        for keep in ["0", "1"] {
            let c1 = lab.netns("c1");
            let port = Port::new(lab, &c1, ("net", "eth0"), json!({"vrfname": "red", "table": 10}));
            // Of an interface that another suite made the kernel keeps no IPv6 address.
            c1.exec(&["sysctl", "-w", &format!("net.ipv6.conf.eth0.keep_addr_on_down={keep}")]).ok();
            let before = state(&c1);
            port.join();
            let moved = table(&c1, "10");
            for route in ["default via 10.9.0.1 dev eth0 mtu 1300", "default via fd00:9::1 dev eth0"] {
                assert!(moved.contains(route), "{moved}");
            }
            assert!(table(&c1, "77").contains("192.0.2.0/24 via 10.9.0.1 dev eth0"));
            assert!(!table(&c1, "main").contains("9"), "{}", table(&c1, "main"));
            let tentative =
                c1.exec(&["ip", "-6", "address", "show", "dev", "eth0", "tentative", "scope", "global"]);
            assert_eq!(tentative.ok(), "");
            assert!(reaches(&c1, "red", "fd00:9::1") && reaches(&c1, "red", "10.9.0.1"));
            port.bridge
                .clone()
                .config(&with(bridge("net", 2, routes()), json!({"prevResult": port.result})))
                .check()
                .ok();
            c1.exec(&["ip", "route", "del", "default", "table", "10"]).ok();
            let error = port.vrf.check().err(999);
            assert_eq!(message(&error), "vrf: the route to 0.0.0.0/0 via 10.9.0.1 in table 10 is gone");
            c1.exec(&["ip", "route", "add", "default", "via", "10.9.0.1", "mtu", "1300", "table", "10"]).ok();
            c1.exec(&["ip", "link", "set", "red", "down"]).ok();
            assert_eq!(message(&port.vrf.check().err(999)), "vrf: VRF red is down");
            c1.exec(&["ip", "link", "set", "red", "up"]).ok();
            c1.exec(&[
                "ip", "route", "replace", "default", "via", "10.9.0.1", "dev", "eth0", "mtu", "1300",
                "table", "10",
            ])
            .ok();
            for _ in 0..2 {
                port.vrf.del().ok();
                let now = state(&c1);
                assert_eq!(before.symmetric_difference(&now).collect::<Vec<_>>(), [""; 0], "keep {keep}");
            }
            assert_eq!(message(&port.vrf.check().err(999)), "vrf: VRF red is gone");
            port.detach();
            lab.remove_netns(c1);
        }
        router.del().ok();
    });
}

/// A routed pair has no connected subnet, and the kernel makes one when the interface comes up.
#[test]
fn a_routed_pair_stays_one() {
    run_with_vrfs("vrf_ptp", |lab| {
        lab.allow_forwarding();
        let c1 = lab.netns("c1");
        let of_network = json!({"cniVersion": "1.1.0", "name": "net", "type": "ptp", "ipam": {"type": "host-local",
            "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}});
        let ptp = lab.plugin("ptp").config(&of_network).netns(&c1);
        let result = ptp.add().ok();
        let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "vrf", "vrfname": "red", "prevResult": result});
        let vrf = lab.plugin("vrf").config(&config).netns(&c1);
        let (main, before) = (table(&c1, "main"), state(&c1));
        vrf.add().ok();
        vrf.check().ok();
        assert!(reaches(&c1, "red", "10.1.0.1") && reaches(&c1, "red", "fd00:1::1"));
        let red = table(&c1, "1");
        assert!(!red.contains("10.1.0.0/24 dev") && red.contains("10.1.0.0/24 via 10.1.0.1"), "{red}");
        vrf.del().ok();
        assert_eq!((table(&c1, "main"), state(&c1)), (main, before));
        ptp.del().ok();
    });
}

#[test]
fn whose_the_vrf_is_and_what_can_t_be() {
    run_with_vrfs("vrf_whose", |lab| {
        let c1 = lab.netns("c1");
        let red = Port::new(lab, &c1, ("net", "eth0"), json!({"vrfname": "red"}));
        let also_red = Port::new(lab, &c1, ("other", "eth1"), json!({"vrfname": "red"}));
        let refused = |call: PluginCall, expected: &str| {
            let before = state(&c1);
            assert_eq!(message(&call.add().err(7)), format!("vrf: {expected}"));
            assert_eq!(state(&c1), before);
        };
        refused(
            red.with(json!({"vrfname": "eth1"})),
            "vrfname: \"eth1\": is a link of the container, but no VRF",
        );
        refused(red.with(json!({"vrfname": "eth0"})), "vrfname: \"eth0\": is the interface's own name");
        refused(red.with(json!({"vrfname": ""})), "vrfname: \"\": the VRF needs a name");
        let none = red.with(json!({"prevResult": null})).add().err(7);
        assert!(message(&none).contains("prevResult"), "{none}");
        // Two interfaces share a VRF, which goes with the last, and whose table nobody else has.
        c1.exec(&["ip", "link", "add", "green", "up", "type", "vrf", "table", "1"]).ok();
        c1.exec(&["ip", "route", "add", "blackhole", "198.51.100.0/24", "table", "2"]).ok();
        red.join();
        // The kernel had joined the two default routes of IPv6: the one's way moves, the other's stays.
        let main = table(&c1, "main");
        assert!(main.contains("default via fd00:9::1 dev eth1") && !main.contains("eth0"), "{main}");
        also_red.join();
        assert_eq!(table(&c1, "main"), "");
        let links: Value =
            serde_json::from_str(&c1.exec(&["ip", "-d", "-j", "link", "show", "red"]).ok()).unwrap();
        assert_eq!(links[0]["linkinfo"]["info_data"]["table"], 3);
        refused(
            also_red.with(json!({"vrfname": "green", "table": 5})),
            "table: 5: VRF green is there, with table 1",
        );
        red.vrf.del().ok();
        also_red.vrf.check().ok();
        also_red.vrf.del().ok();
        assert!(!c1.has_link("red"));
        // One that somebody else made stays.
        let green = red.with(json!({"vrfname": "green", "table": 1}));
        green.add().ok();
        green.check().ok();
        refused(
            red.with(json!({"vrfname": "blue"})).container("x"),
            "CNI_IFNAME: eth0: is a port of green already",
        );
        green.del().ok();
        assert!(c1.has_link("green"));
        c1.exec(&["ip", "link", "del", "green"]).ok();
        c1.exec(&["ip", "route", "del", "blackhole", "198.51.100.0/24", "table", "2"]).ok();
        red.bridge.del().ok();
        also_red.bridge.del().ok();
    });
}

/// Bugs of the reference: DEL fails where the interface is gone; GC does nothing.
#[test]
fn bug_del_needs_nothing_and_gc_takes_what_is_not_valid() {
    run_with_vrfs("vrf_del", |lab| {
        let file = lab.dir().join("plain");
        fs::write(&file, "").unwrap();
        for netns in ["", "/run/netns/gone", file.to_str().unwrap(), "without the interface", "GC"] {
            let c1 = lab.netns("c1");
            let port = Port::new(lab, &c1, ("net", "eth0"), json!({"vrfname": "red"}));
            port.join();
            let nonsense =
                json!({"cniVersion": "1.1.0", "name": "net", "type": "vrf", "vrfname": 7, "table": "x"});
            let call = port.vrf.clone().config(&nonsense);
            match netns {
                "GC" => {
                    let gc = |valid: &str| {
                        let valid =
                            json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": valid}]});
                        port.vrf.clone().config(&with(nonsense.clone(), valid)).gc().ok();
                    };
                    gc("eth0");
                    port.vrf.check().ok();
                    gc("eth1");
                }
                "without the interface" => {
                    c1.exec(&["ip", "link", "del", "eth0"]).ok();
                    call.del().ok();
                    call.del().ok();
                }
                path => {
                    call.clone().netns_path(path).del().ok();
                    call.netns_path(path).del().ok();
                }
            }
            // Where the runtime has no name for the namespace any more, the record has.
            assert!(!c1.has_link("red"), "{netns:?}");
            assert!(!fs::exists("/run/tenon/attach/net/vrf").unwrap(), "{netns:?}");
            port.bridge.del().ok();
            drop(port);
            lab.remove_netns(c1);
        }
    });
}

/// A node that is upgraded, or rolled back.
#[test]
fn the_go_plugin_and_ours_detach_each_others() {
    run_with_vrfs("vrf_interop", |lab| {
        let dir = Path::new("/usr/lib/cni");
        let c1 = lab.netns("c1");
        let port = Port::new(lab, &c1, ("net", "eth0"), json!({"vrfname": "red"}));
        let version = json!({"cniVersion": "1.0.0", "prevResult": with(port.result.clone(), json!({"cniVersion": "1.0.0"}))});
        let config = with(port.config.clone(), version);
        let go = lab.peer(dir, "vrf").config(&config).container("c1").netns(&c1);
        let ours = port.vrf.clone().config(&config);
        for (add, del) in [(&go, &ours), (&ours, &go)] {
            add.add().ok();
            assert!(c1.has_link("red"));
            ours.check().ok();
            del.del().ok();
            assert!(!c1.has_link("red"));
        }
        ours.del().ok();
        port.bridge.del().ok();
    });
}

#[test]
fn an_add_that_is_refused_or_killed_at_any_step_leaves_nothing() {
    run_with_vrfs("vrf_struck", |lab| {
        let c1 = lab.netns("c1");
        let port = Port::new(lab, &c1, ("net", "eth0"), json!({"vrfname": "red"}));
        let before = what_moves(&c1);
        let as_before = |step: &str, reply: &dyn std::fmt::Display| {
            let now = what_moves(&c1);
            assert_eq!(before.symmetric_difference(&now).collect::<Vec<_>>(), [""; 0], "{step}: {reply}");
            assert!(!fs::exists("/run/tenon/attach/net/vrf").unwrap(), "{step}: {reply}");
        };
        let mut failed = 0;
        strike_each(&port.vrf, "ADD", Fate::Refused(Errno::EPERM), |step, reply| {
            if reply.succeeded() {
                port.vrf.check().ok();
                port.vrf.del().ok();
            } else {
                failed += 1;
            }
            as_before(step, reply);
        });
        assert!(failed > 5, "{failed} failures");
        let mut odd = false;
        let steps = strike_each(&port.vrf, "ADD", Fate::Killed, |step, reply| {
            odd = !odd;
            if odd {
                assert!(port.vrf.add().succeeded(), "{step}: {reply}");
                port.vrf.check().ok();
            }
            port.vrf.del().ok();
            as_before(step, reply);
        });
        assert!(steps > 4, "{steps} steps");
        port.bridge.del().ok();
    });
}

#[test]
fn no_child_process_and_every_version() {
    run_with_vrfs("vrf_process", |lab| {
        lab.needs_program("strace", "strace");
        let c1 = lab.netns("c1");
        let port = Port::new(lab, &c1, ("net", "eth0"), json!({"vrfname": "red"}));
        port.vrf.status().ok();
        for verb in ["ADD", "CHECK", "DEL"] {
            let log = lab.dir().join("trace").display().to_string();
            let trace = ["strace", "-f", "-o", &log, "-e", "trace=execve,fork,vfork,clone,clone3"];
            port.vrf.clone().through(&trace).call(verb).ok();
            let text = fs::read_to_string(&log).unwrap();
            let (programs, starts): (Vec<_>, Vec<_>) =
                text.lines().filter(|line| line.contains('(')).partition(|line| line.contains("execve("));
            assert_eq!(programs.len(), 1, "{verb}: {text}");
            assert!(starts.iter().all(|line| line.contains("CLONE_THREAD")), "{verb}: {text}");
        }
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let call = |kind: &str| {
                let config = with(bridge("net", 2, routes()), json!({"cniVersion": version}));
                lab.plugin(kind).config(&config).container("c1").netns(&c1).ifname("eth1")
            };
            let result = call("bridge").add().ok();
            let config = json!({"cniVersion": version, "name": "net", "type": "vrf", "vrfname": "red", "prevResult": result});
            let vrf = call("vrf").config(&config);
            assert_eq!(vrf.add().ok(), result);
            vrf.del().ok();
            call("bridge").del().ok();
        }
        port.bridge.del().ok();
    });
}

#[test]
fn a_kernel_without_vrfs_is_told_in_one_error() {
    run("no_vrfs", |lab| {
        if lab.exec(&["ip", "link", "add", "try0", "type", "vrf", "table", "0"]).stderr.contains("table") {
            lab.skip("this kernel has VRFs");
        }
        let c1 = lab.netns("c1");
        let port = Port::new(lab, &c1, ("net", "eth0"), json!({"vrfname": "red"}));
        let before = state(&c1);
        let why = "this kernel has no VRFs (CONFIG_NET_VRF)";
        assert_eq!(message(&port.vrf.add().err(2)), format!("vrf: vrfname: \"red\": {why}"));
        assert_eq!(message(&port.vrf.status().err(50)), format!("vrf: {why}"));
        port.with(json!({"vrfname": "a/b"})).status().err(7);
        assert_eq!(state(&c1), before);
        assert!(!fs::exists("/run/tenon/attach/net/vrf").unwrap());
        port.detach();
    });
}
