//! What a call costs with no, many and very many leases: counted, which a test can assert, and timed, which it can't.

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;
use testenv::{lab::Lab, plugin::PluginCall};

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

/// Times ADD and DEL of the whole plugin, by turns with the reference's.
#[test]
fn print_times() {
    run("print_times", |lab| {
        eprintln!("host-local, median of a whole call in ms, this build");
        eprintln!("{:>8} {:>10} {:>10} {:>10} {:>10}", "leases", "ADD", "DEL", "Go ADD", "Go DEL");
        for (count, rounds) in [(0, 50), (10_000, 50), (60_000, 50)] {
            fill(count);
            let (ours, theirs) = (ours(lab, &pool()), theirs(lab, &pool()));
            ours.clone().container("first").add().ok();
            let [add, del] = medians(lab, &ours, rounds);
            let [their_add, their_del] = medians(lab, &theirs, 3);
            eprintln!("{count:>8} {add:>10.2} {del:>10.2} {their_add:>10.2} {their_del:>10.2}");
            fs::remove_dir_all(NETWORK).unwrap();
            fs::remove_dir_all("/run/tenon").unwrap();
        }
    });
}

fn medians(_: &Lab, call: &PluginCall, rounds: usize) -> [f64; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        let start = Instant::now();
        let added = call.add();
        times[0].push(start.elapsed());
        assert_eq!(addresses(&added.ok()).len(), 1);
        let start = Instant::now();
        call.del().ok();
        times[1].push(start.elapsed());
    }
    times.map(|mut times| {
        times.sort_unstable();
        times.get(rounds / 2).map_or(0.0, |time: &Duration| time.as_secs_f64() * 1000.0)
    })
}
