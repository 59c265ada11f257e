//! `bandwidth`: limits that are kept.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testenv::ns::Ns;

use crate::net::{attach, message, net, other, run, with};

fn bandwidth(more: Value) -> Value {
    with(json!({"type": "bandwidth"}), more)
}

/// Bits a second of TCP payload that arrive from `from` at `to`, once the burst is used up.
fn rate(from: &Ns, to: &Ns, address: SocketAddr) -> f64 {
    let listener = to.run(|| TcpListener::bind(address).unwrap());
    let sender = {
        let mut stream = from.run(|| TcpStream::connect(address).unwrap());
        thread::spawn(move || {
            let block = [0; 65536];
            while stream.write_all(&block).is_ok() {}
        })
    };
    let (mut stream, _) = listener.accept().unwrap();
    let mut block = [0; 65536];
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        assert_ne!(stream.read(&mut block).unwrap(), 0);
    }
    let (start, mut bytes) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(3) {
        bytes += stream.read(&mut block).unwrap();
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(stream);
    sender.join().unwrap();
    f64::from(u32::try_from(bytes).unwrap()) * 8.0 / seconds
}

#[test]
fn both_directions_have_the_configured_rate() {
    run("bandwidth_rates", |lab| {
        let plugin = bandwidth(json!({"ingressRate": 40_000_000, "egressRate": 80_000_000}));
        let container = attach(lab, &net(&[plugin]), "c1");
        container.check(lab);
        let address = |ip| SocketAddr::new(ip, 5001);
        let ingress = rate(lab.host(), &container.ns, address(container.ip(0)));
        let egress = rate(&container.ns, lab.host(), address("10.1.0.1".parse().unwrap()));
        eprintln!("ingress {:.1} of 40, egress {:.1} of 80 Mbit/s", ingress / 1e6, egress / 1e6);
        // Frames have headers, which count: 66 of 1514 bytes.
        assert!((0.90..1.02).contains(&(ingress / 40e6)), "{ingress}");
        assert!((0.90..1.02).contains(&(egress / 80e6)), "{egress}");
        container.detach(lab);
    });
}

#[test]
fn the_runtime_s_limits_are_taken_and_checked() {
    run("bandwidth_runtime", |lab| {
        let limits = json!({"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 8});
        let container =
            attach(lab, &net(&[bandwidth(json!({"runtimeConfig": {"bandwidth": limits}}))]), "c1");
        container.check(lab);
        let ifb = container.result["interfaces"][3]["name"].as_str().unwrap().to_owned();
        assert!(ifb.starts_with("bwp") && ifb.len() == 15, "{ifb}");
        let veth = container.result["interfaces"][1]["name"].as_str().unwrap();
        lab.exec(&["tc", "qdisc", "del", "dev", veth, "root"]).ok();
        let error = container.call(lab, 1).check().err(999);
        assert_eq!(message(&error), format!("bandwidth: {veth} is not limited"));
        // Standing alone DEL takes everything back, and may be called again.
        for _ in 0..2 {
            container.call(lab, 1).netns_path("").del().ok();
            assert!(!lab.host().has_link(&ifb));
            assert!(!lab.exec(&["tc", "qdisc", "show", "dev", veth]).ok().contains("ingress"));
        }
        container.detach(lab);
    });
}

/// Bug of the reference: the ifb is named after network and container, so that a second interface clashes; and names that
/// run together are one.
#[test]
fn bug_two_interfaces_of_one_container() {
    run("bandwidth_two", |lab| {
        let plugin = bandwidth(json!({"egressRate": 8_000_000}));
        let first = attach(lab, &net(std::slice::from_ref(&plugin)), "c1");
        let bridge = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "cni0",
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/16"}]]}});
        let call = |kind: &str, config: &Value| {
            lab.plugin(kind).config(config).container("c1").netns(&first.ns).ifname("eth1")
        };
        let result = call("bridge", &bridge).add().ok();
        let second = with(plugin, json!({"cniVersion": "1.1.0", "name": "net", "prevResult": result}));
        call("bandwidth", &second).add().ok();
        first.check(lab);
        call("bandwidth", &second).check().ok();
        call("bandwidth", &second).del().ok();
        call("bridge", &bridge).del().ok();
        first.check(lab);
        first.detach(lab);
    });
}

/// Bug of the reference: without limits and without prevResult it panics.
#[test]
fn bug_nothing_to_do() {
    run("bandwidth_nothing", |lab| {
        let container = attach(lab, &other(&[bandwidth(json!({}))]), "c1");
        assert_eq!(container.result["interfaces"].as_array().unwrap().len(), 3);
        container.check(lab);
        let config = json!({"cniVersion": "1.1.0", "name": "other", "type": "bandwidth"});
        lab.plugin("bandwidth").config(&config).netns(&container.ns).add().err(7);
        container.detach(lab);
    });
}

#[test]
fn gc_takes_the_link_of_a_container_that_is_gone() {
    run("bandwidth_gc", |lab| {
        let container = attach(lab, &net(&[bandwidth(json!({"egressRate": 8_000_000}))]), "c1");
        let ifb = container.result["interfaces"][3]["name"].as_str().unwrap();
        let gc = |valid: Value| {
            let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "bandwidth", "cni.dev/valid-attachments": valid});
            lab.plugin("bandwidth").config(&config).gc().ok();
        };
        gc(json!([{"containerID": "c1", "ifname": "eth0"}]));
        assert!(lab.host().has_link(ifb));
        gc(Value::Null);
        assert!(!lab.host().has_link(ifb));
        container.detach(lab);
    });
}
