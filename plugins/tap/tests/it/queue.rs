//! Processes on the queues of taps: the other end of the interface.

use kernel::tun;
use serde_json::json;

use crate::{
    ip, link,
    machine::{Machine, open},
    message, network, run, tap, with_result,
};

#[test]
fn a_process_on_its_queue_is_the_other_end() {
    run("tap", |lab| {
        // Where other kinds of link that are born in the container meet the host's names.
        lab.host().add_bridge("eth0");
        let (config, c1) = (network(json!({})), lab.netns("c1"));
        let call = tap(lab, &config).netns(&c1);
        let result = call.add().ok();
        let interfaces = json!([{"name": "eth0", "sandbox": c1.path().to_str().expect("a path"), "mtu": 1500,
            "mac": link(&c1)["address"]}]);
        assert_eq!(result["interfaces"], interfaces);
        assert_eq!(
            (&result["ips"][1]["address"], &result["ips"][1]["interface"]),
            (&json!("fd00:24::2/64"), &json!(0))
        );
        let checked = call.clone().config(&with_result(config, &result));
        checked.check().ok();
        let machine = Machine::start(lab, &c1, 1, &["10.24.0.254/24", "fd00:24:0:0:f::254/64"]);
        for (container, guest) in [("10.24.0.2", "10.24.0.254"), ("fd00:24::2", "fd00:24:0:0:f::254")] {
            assert!(c1.pings(ip(guest)), "{guest}");
            assert!(machine.guest.pings(ip(container)), "{container}");
        }
        let echo = machine.guest.tcp_echo("10.24.0.254:8080".parse().expect("an address"));
        c1.tcp_talk(echo.address(), "hello").expect("an answer");
        checked.check().ok();
        // A process that is attached does not keep it.
        checked.del().ok();
        assert!(!c1.has_link("eth0"));
        call.del().ok();
        drop(echo);
    });
}

#[test]
fn several_queues_and_no_more_than_asked_for() {
    run("tap_queues", |lab| {
        let config = network(json!({"multiQueue": true}));
        let c1 = lab.netns("c1");
        let call = tap(lab, &config).netns(&c1);
        let result = call.add().ok();
        assert_eq!(link(&c1)["linkinfo"]["info_data"]["multi_queue"], true);
        call.clone().config(&with_result(config, &result)).check().ok();
        call.clone().config(&with_result(network(json!({})), &result)).check().err(999);
        let machine = Machine::start(lab, &c1, 2, &["10.24.0.254/24", "fd00:24:0:0:f::254/64"]);
        // The kernel keeps a flow on one queue, that by which it last came in: the machine uses both in turn.
        let reached = testenv::wait::poll(std::time::Duration::from_secs(10), || {
            assert!(c1.pings(ip("10.24.0.254")) && machine.guest.pings(ip("fd00:24::2")));
            (machine.queues_used() == 2).then_some(())
        });
        assert!(reached.is_some(), "{} queues used", machine.queues_used());
        call.del().ok();
        // One queue: the second process is refused.
        let call = tap(lab, &network(json!({}))).netns(&c1);
        call.add().ok();
        let (first, second) = (open(&c1), open(&c1));
        tun::attach(&first, "eth0", false).expect("attach");
        assert!(tun::attach(&second, "eth0", false).expect_err("it is taken").is_busy());
        drop(first);
        tun::attach(&second, "eth0", false).expect("attach in its stead");
        call.del().ok();
    });
}

#[test]
fn who_may_attach() {
    run("tap_owner", |lab| {
        lab.needs_machine_root("users are told apart by their numbers");
        let c1 = lab.netns("c1");
        // Whether a process without capabilities, of this user and group, is let in.
        let attaches = |uid: u32, gid: u32| {
            let device = open(&c1);
            let attach = move || {
                rustix::thread::set_thread_groups(&[]).expect("leave all groups");
                rustix::thread::set_thread_gid(rustix::fs::Gid::from_raw(gid)).expect("change the group");
                rustix::thread::set_thread_uid(rustix::fs::Uid::from_raw(uid)).expect("change the user");
                tun::attach(&device, "eth0", false)
            };
            match std::thread::spawn(attach).join().expect("it does not panic") {
                Ok(()) => true,
                Err(err) if err.is_permission() => false,
                Err(err) => panic!("{err}"),
            }
        };
        for (more, allowed, refused) in [
            (json!({"owner": 1234}), (1234, 1), (1, 1234)),
            (json!({"group": 4321}), (1, 4321), (4321, 1)),
            (json!({"owner": 1234, "group": 4321}), (1234, 4321), (1234, 1)),
        ] {
            let config = network(more.clone());
            let call = tap(lab, &config).netns(&c1);
            let result = call.add().ok();
            assert!(attaches(allowed.0, allowed.1), "{more}");
            assert!(!attaches(refused.0, refused.1), "{more}");
            call.clone().config(&with_result(config, &result)).check().ok();
            let error =
                call.clone().config(&with_result(network(json!({"owner": 7})), &result)).check().err(999);
            assert!(message(&error).starts_with("tap: eth0 is Some(Tap(Tap {"), "{error}");
            call.del().ok();
        }
    });
}

#[test]
fn a_port_of_a_bridge_in_the_container() {
    run("tap_bridge", |lab| {
        let c1 = lab.netns("c1");
        let config = network(json!({"ipam": null, "bridge": "br0", "mtu": 1400}));
        let call = tap(lab, &config).netns(&c1);
        let refused = |why: &str| {
            assert_eq!(message(&call.add().err(7)), format!("tap: bridge: br0: {why}"));
            assert!(!c1.has_link("eth0"));
        };
        refused("the container has no such link");
        c1.add_veth("br0", &c1, "br1");
        refused("is a link of the container, but no bridge");
        c1.remove_link("br0");
        c1.add_bridge("br0");
        c1.set_up("br0");
        c1.add_address("br0", "10.24.0.1/24");
        let result = call.add().ok();
        assert!(result.get("ips").is_none());
        assert_eq!(result["interfaces"][0]["mtu"], 1400);
        let shown = link(&c1);
        assert_eq!((&shown["master"], &shown["mtu"]), (&json!("br0"), &json!(1400)));
        let checked = call.clone().config(&with_result(config, &result));
        checked.check().ok();
        let machine = Machine::start(lab, &c1, 1, &["10.24.0.254/24"]);
        assert!(machine.guest.pings(ip("10.24.0.1")));
        c1.exec(&["ip", "link", "set", "eth0", "nomaster"]).ok();
        assert_eq!(message(&checked.check().err(999)), "tap: eth0 is not a port of br0");
        call.del().ok();
        c1.remove_link("br0");
    });
}
