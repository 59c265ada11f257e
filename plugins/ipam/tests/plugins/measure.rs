//! What a call costs with no, many and very many leases: counted, which a test can assert, and timed, which it can't.

use std::{fs, path::Path, time::Instant};

use cni::names::Attachment;
use ipam::{
    place::{DATA_DIR, Place},
    range::{RangeConf, SetConf, parse_sets},
    store::Store,
};
use serde_json::Value;
use testenv::plugin::PluginCall;

use crate::scene::{NETWORK, addresses, config, ours, run, theirs};

/// Leases of other containers, as the reference writes them.
fn fill(count: u32) {
    fs::create_dir_all(NETWORK).unwrap();
    for number in 0..count {
        let address = std::net::Ipv4Addr::from(0x0a00_0002 + number);
        fs::write(format!("{NETWORK}/{address}"), format!("filler{number}\r\neth0")).unwrap();
        fs::write(format!("{NETWORK}/last_reserved_ip.0"), address.to_string()).unwrap();
    }
}

fn pool() -> Value {
    config(&["10.0.0.0/8"])
}

#[test]
fn nothing_is_linear_in_the_number_of_leases() {
    run("nothing_is_linear_in_the_number_of_leases", |lab| {
        lab.needs_program("strace", "strace");
        let log = lab.dir().join("calls");
        let calls = |call: &PluginCall, verb| {
            let strace = ["strace", "-f", "-c", "-o", log.to_str().unwrap()];
            call.clone().through(&strace).call(verb).ok();
            let table = fs::read_to_string(&log).unwrap();
            let total = table.lines().last().unwrap();
            total.split_whitespace().nth(3).unwrap().parse::<u32>().unwrap_or_else(|_| panic!("{table}"))
        };
        let call = ours(lab, &pool());
        let mut counted = Vec::new();
        for count in [10, 2000] {
            fill(count);
            // Whoever comes first after another program reads all.
            call.clone().container("first").add().ok();
            let mut config = pool();
            config["prevResult"] = call.add().ok();
            let check = calls(&ours(lab, &config), "CHECK");
            let del = calls(&call, "DEL");
            counted.push([calls(&call, "ADD"), check, del, calls(&call, "STATUS")]);
            call.del().ok();
            fs::remove_dir_all(NETWORK).unwrap();
            call.gc().ok();
        }
        assert_eq!(counted[0], counted[1], "system calls of ADD, CHECK, DEL, STATUS");
        fs::remove_dir_all("/run/tenon").unwrap();
    });
}

/// Prints medians: of a whole call of the plugin, of one of the reference's where it is there, and of the lease store
/// alone.
#[test]
fn print_times() {
    run("print_times", |lab| {
        lab.needs_real_processor("it shows how long things take");
        eprintln!("host-local, medians, this build");
        eprintln!("  leases | plugin ADD, DEL ms | Go ADD, DEL ms | store lease, release us");
        for (count, their_rounds) in [(0, 9), (10_000, 3), (60_000, 1)] {
            fill(count);
            let ours = ours(lab, &pool());
            ours.clone().container("first").add().ok();
            let [add, del] = plugin_medians(&ours, 51);
            let [lease, release] = store_medians(201);
            let [their_add, their_del] = plugin_medians(&theirs(lab, &pool()), their_rounds);
            eprintln!(
                "{count:>8} | {add:>9.2} {del:>8.2} | {their_add:>6.1} {their_del:>7.1} | {:>11.0} {:>11.0}",
                lease * 1000.0,
                release * 1000.0
            );
            fs::remove_dir_all(NETWORK).unwrap();
            fs::remove_dir_all("/run/tenon").unwrap();
        }
    });
}

fn plugin_medians(call: &PluginCall, rounds: usize) -> [f64; 2] {
    medians(rounds, || assert_eq!(addresses(&call.add().ok()).len(), 1), || drop(call.del().ok()))
}

fn store_medians(rounds: usize) -> [f64; 2] {
    let name = "net".parse().unwrap();
    let place = Place::new(Path::new(DATA_DIR), &name);
    let at = Attachment { network: name, container: "c1".parse().unwrap(), ifname: "eth0".parse().unwrap() };
    let subnet = "10.0.0.0/8".parse().unwrap();
    let range = RangeConf { subnet, range_start: None, range_end: None, gateway: None };
    let sets = parse_sets(&[SetConf::single("range".into(), range)]).unwrap();
    let lease = || assert_eq!(Store::create(&place).unwrap().lease(&at, &sets, &[]).unwrap().len(), 1);
    let release = || assert_eq!(Store::create(&place).unwrap().release(&at).unwrap().len(), 1);
    medians(rounds, lease, release)
}

/// Of each in turn, in ms.
fn medians(rounds: usize, first: impl Fn(), second: impl Fn()) -> [f64; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (step, times) in [&first as &dyn Fn(), &second].iter().zip(&mut times) {
            let start = Instant::now();
            step();
            times.push(start.elapsed());
        }
    }
    times.map(|mut times| {
        times.sort_unstable();
        times[rounds / 2].as_secs_f64() * 1000.0
    })
}
